package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// unwritable adds ErrReadOnly to an error of the operating system that means so.
func unwritable(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("%w: %w", err, ErrReadOnly)
	}
	return err
}

// tempInfix marks files that are not finished; see sweep.
const tempInfix = ".unfinished-"

// tempFile makes an empty 0600 file beside path.
func tempFile(path string) (*os.File, error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+tempInfix+"*")
	if err != nil {
		return nil, unwritable(err)
	}
	return f, nil
}

// linkNew gives a finished file its name, durably, and leaves one that has the
// name already as it is. That the finished file is gone means the same: whoever
// swept it owns the directory, and what is in it.
func linkNew(finished, path string) error {
	err := os.Link(finished, path)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return unwritable(err)
	}
	if runtime.GOOS == "windows" { // cannot sync a directory, and need not
		return nil
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sweep removes what a first start that was killed has left in dir. Only who
// has the database open may call it.
func sweep(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if strings.Contains(e.Name(), tempInfix) {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
