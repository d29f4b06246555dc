//go:build unix

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"attache"
)

// Root may write anywhere, so the permission tests run in a child that becomes
// somebody else first, where it is root.
const nobody = 65534

func becomeNobody() error {
	if os.Getuid() != 0 {
		return nil
	}
	return errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody))
}

// openAsNobody says what kind of error opening gives.
func openAsNobody(dir string) error {
	if err := becomeNobody(); err != nil {
		return err
	}
	s, err := Open(context.Background(), Options{Dir: dir})
	if errors.Is(err, ErrReadOnly) {
		fmt.Println(err)
		return nil
	}
	if err == nil {
		err = errors.Join(errors.New("it opened"), s.Close())
	}
	return err
}

// readOnlyAsNobody checks a database that it may only read.
func readOnlyAsNobody(dir string) error {
	if err := becomeNobody(); err != nil {
		return err
	}
	ctx := context.Background()
	s, err := Open(ctx, Options{Dir: dir, ReadOnly: true})
	if err != nil {
		return err
	}
	r, err := s.Check(ctx)
	fmt.Println(r.Integrations)
	return errors.Join(err, s.Close())
}

func TestPlacesThatCannotBeWritten(t *testing.T) {
	database := func(t *testing.T, dir string) {
		s := open(t, dir)
		must(t, s.CreateIntegration(t.Context(), attache.Integration{Name: "bot"}))
		must(t, s.Close())
		for _, name := range fileNames(t, dir) {
			must(t, os.Chmod(filepath.Join(dir, name), 0o444))
		}
	}
	for sentence, tt := range map[string]struct {
		prepare func(t *testing.T, dir string)
		child   string
		want    string // line of the child
	}{
		"a first start in a read-only directory": {
			prepare: func(*testing.T, string) {},
			child:   "open as nobody",
			want:    ErrReadOnly.Error(),
		},
		"a read-only database": {
			prepare: database,
			child:   "open as nobody",
			want:    ErrReadOnly.Error(),
		},
		"a read-only database that is only looked at": {
			prepare: database,
			child:   "read only as nobody",
			want:    "1",
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			must(t, os.Mkdir(dir, 0o700))
			tt.prepare(t, dir)
			must(t, os.Chmod(dir, 0o555))
			must(t, os.Chmod(filepath.Dir(filepath.Dir(dir)), 0o755)) // of testing, 0700
			c := startChild(t, tt.child, dir)
			line, _ := c.line()
			if len(line) < len(tt.want) || line[len(line)-len(tt.want):] != tt.want {
				t.Errorf("the child says %q, want %q", line, tt.want)
			}
		})
	}
}
