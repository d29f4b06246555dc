package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// runDir is the directory <data-dir>/run, or one in it for each server elsewhere:
// files that clients read because a variable names them. Each is written anew by
// every run and env, in one step, under a name that follows from the file that the
// variable named before; so there are as many as there are such files. Those of runs
// go when no run has used them for a month. Those of env stay, because who reads its
// variables may do so for years; they have a mark in their names.
type runDir struct {
	path string
	mark string        // of files that stay, or empty
	ca   func() []byte // PEM of what has to be trusted for our sake, as it is now
	done map[string]bool
	vars []variable // that name the files
}

const (
	runFiles    = "run" // in the data directory
	runFileLife = 30 * day
	lastingMark = "-env"
)

// newRunDir is the directory for those who have a grant.
func newRunDir(g grant) (*runDir, error) {
	d := &runDir{path: filepath.Join(g.dir, runFiles), ca: g.currentCA, done: map[string]bool{}}
	if g.server != "" {
		d.path = filepath.Join(d.path, "at-"+nameOf(g.server))
	}
	if g.lasting {
		d.mark = lastingMark
	}
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return nil, err
	}
	d.sweep()
	return d, nil
}

// sweep removes what is old. A file that cannot be removed stays.
func (d *runDir) sweep() {
	entries, _ := os.ReadDir(d.path)
	for _, e := range entries {
		if e.IsDir() || strings.Contains(e.Name(), lastingMark) {
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > runFileLife {
			_ = os.Remove(filepath.Join(d.path, e.Name()))
		}
	}
}

// use notes that the files are in use, again and again until it is told to end.
func (d *runDir) use() (end func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Hour)
		defer tick.Stop()
		for {
			select {
			case now := <-tick.C:
				for path := range d.done {
					_ = os.Chtimes(path, now, now) // one that is gone will not come back
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// has reports whether a file is one of these already: that of a run, or of env, for
// a run within it.
func (d *runDir) has(path string) bool {
	return filepath.Dir(path) == d.path && strings.Contains(filepath.Base(path), d.mark)
}

// namedFile is a file that a variable names.
type namedFile struct{ path, variable string }

// bundle is a file with the certificates of others, the system's roots if they
// are wanted, and our CA.
func (d *runDir) bundle(system bool, others ...namedFile) (string, error) {
	name := "ca" + d.mark
	if system {
		name += "-system"
	}
	for _, file := range others {
		name += "-" + nameOfFile(file.path)
	}
	path := filepath.Join(d.path, name+".pem")
	if !system && len(others) == 1 && d.has(others[0].path) {
		path = others[0].path
	}
	if d.done[path] {
		return path, nil
	}
	var parts [][]byte
	if system {
		roots, err := systemRoots()
		if err != nil {
			return "", fmt.Errorf("the system's root certificates: %w", err)
		}
		parts = append(parts, roots)
	}
	for _, file := range others {
		certificates, err := readCertificates(file.path)
		if err != nil {
			return "", fmt.Errorf("%s: %w: let it name certificates that clients can read, or unset it", file.variable, err)
		}
		parts = append(parts, certificates)
	}
	return path, d.writeBundle(path, parts)
}

// writeBundle writes our CA and what others say. A rotation writes ca.pem and then
// looks for bundles: where it found none of that name, ca.pem is another one
// afterwards.
func (d *runDir) writeBundle(path string, others [][]byte) error {
	for {
		ca := d.ca()
		err := d.write(path, joinCertificates(append([][]byte{ca}, others...)...))
		if err != nil || bytes.Equal(ca, d.ca()) {
			return err
		}
		// One that is dropped may be among the others: of a run within a run.
		others = [][]byte{lessCertificates(joinCertificates(others...), ca)}
	}
}

// readCertificates reads a file, or all files of a directory, which some clients
// take as well.
func readCertificates(path string) ([]byte, error) {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return os.ReadFile(path)
	}
	files, err := filepath.Glob(filepath.Join(path, "*"))
	if err != nil {
		return nil, err
	}
	var all []byte
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || !info.Mode().IsRegular() {
			continue
		}
		one, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		all = append(append(all, one...), '\n')
	}
	return all, nil
}

// write replaces a file, unless it says the same already; then it notes that it
// is in use.
func (d *runDir) write(path string, content []byte) error {
	d.done[path] = true
	if is, err := os.ReadFile(path); err == nil && bytes.Equal(is, content) {
		now := time.Now()
		return os.Chtimes(path, now, now)
	}
	return writeFile(path, content, 0o600)
}

// trustInBundles adds our CA to the bundles that clients have been given, and takes
// out what is dropped of it: programs that start in a shell with attache env trust
// what signs next, and nothing that is given up.
func trustInBundles(dataDir string, ca, dropped []byte) error {
	dir := filepath.Join(dataDir, runFiles)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "ca") || filepath.Ext(e.Name()) != ".pem" || !e.Type().IsRegular() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		is, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		// One that trusts it keeps its age: nobody has asked for it.
		if becomes := joinCertificates(ca, lessCertificates(is, dropped)); !bytes.Equal(is, becomes) {
			if err := writeFile(path, becomes, 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// joinCertificates has each certificate of both once.
func joinCertificates(parts ...[]byte) []byte {
	var out bytes.Buffer
	seen := map[[sha256.Size]byte]bool{}
	for _, part := range parts {
		for block := range blocks(part) {
			if sum := sha256.Sum256(block.Bytes); !seen[sum] {
				seen[sum] = true
				out.Write(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
			}
		}
	}
	return out.Bytes()
}

// lessCertificates has each certificate of all that is not one of some.
func lessCertificates(all, some []byte) []byte {
	var out []byte
	for block := range blocks(all) {
		one := pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})
		if !bytes.Contains(some, one) {
			out = append(out, one...)
		}
	}
	return out
}

// blocks are those of PEM, without what is between them.
func blocks(rest []byte) iter.Seq[*pem.Block] {
	return func(yield func(*pem.Block) bool) {
		for {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil || !yield(block) {
				return
			}
		}
	}
}

// ours marks the lines that we add to a file of somebody else's content.
const ours = "# Added by attache:\n"

// file is a file with what another says, which may not exist, and a line of ours
// that counts for more because it comes last.
func (d *runDir) file(name, before, line string) (string, error) {
	if d.has(before) {
		d.done[before] = true
		return before, nil
	}
	ext := filepath.Ext(name)
	base := strings.TrimSuffix(name, ext) + d.mark
	var content []byte
	if before != "" {
		var err error
		if content, err = os.ReadFile(before); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		base += "-" + nameOfFile(before)
	}
	if len(content) > 0 && content[len(content)-1] != '\n' {
		content = append(content, '\n')
	}
	path := filepath.Join(d.path, base+ext)
	return path, d.write(path, append(content, ours+line...))
}

// php is a directory with one file of settings.
func (d *runDir) php(settings string) (string, error) {
	dir := filepath.Join(d.path, "php"+d.mark)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return dir, d.write(filepath.Join(dir, "attache.ini"), []byte(settings))
}

// nameOfFile is a short name for a file, wherever it is called from.
func nameOfFile(path string) string {
	if whole, err := filepath.Abs(path); err == nil {
		path = whole
	}
	return nameOf(path)
}

// nameOf is a short name for a text that is always the same.
func nameOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:6])
}
