package main

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// namedBySome are files that a variable names.
func namedBySome(paths []string) []namedFile {
	var files []namedFile
	for _, path := range paths {
		files = append(files, namedFile{path, "SOME"})
	}
	return files
}

// given is a bundle as those who have a grant are given it.
func given(t *testing.T, g grant, others ...string) string {
	t.Helper()
	d, err := newRunDir(g)
	if err != nil {
		t.Fatal(err)
	}
	path, err := d.bundle(false, namedBySome(others)...)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBundlesOfTwoServersAreTwoFiles(t *testing.T) {
	dir := t.TempDir()
	here, there, third := newCertificate(t), newCertificate(t), newCertificate(t)
	path := given(t, grant{dir: dir, ca: here})
	away := given(t, grant{dir: dir, ca: there, server: "https://attache.example.com"})
	given(t, grant{dir: dir, ca: third, server: "https://other.example.com"})
	if got := countOf(t, path, here, "BEGIN"); !slices.Equal(got, []int{1, 1}) {
		t.Errorf("of the server here: %v", got)
	}
	if got := countOf(t, away, there, "BEGIN"); !slices.Equal(got, []int{1, 1}) {
		t.Errorf("of the server elsewhere: %v", got)
	}
}

// TestABundleTrustsWhatSignsNow: the CA may be rotated between a run's lease and
// the writing of its files, which others read as well.
func TestABundleTrustsWhatSignsNow(t *testing.T) {
	dir := t.TempDir()
	before, after := newCertificate(t), newCertificate(t)
	write(t, filepath.Join(dir, caFile), after+before)
	if got := countOf(t, given(t, grant{dir: dir, ca: before}), before, after); !slices.Equal(got, []int{1, 1}) {
		t.Errorf("rotated after the lease: %v", got)
	}

	d, err := newRunDir(grant{dir: dir, ca: before})
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	d.ca = func() []byte {
		if asked++; asked == 1 {
			return []byte(before)
		}
		return []byte(after + before)
	}
	path, err := d.bundle(false)
	if err != nil {
		t.Fatal(err)
	}
	if got := countOf(t, path, before, after); !slices.Equal(got, []int{1, 1}) {
		t.Errorf("rotated while it was written: %v", got)
	}
}

func TestOneNameInTwoDirectoriesIsTwoFiles(t *testing.T) {
	g := grant{dir: t.TempDir(), ca: newCertificate(t)}
	var paths []string
	for range 2 {
		t.Chdir(t.TempDir())
		write(t, "roots.pem", newCertificate(t))
		paths = append(paths, given(t, g, "roots.pem"))
	}
	if paths[0] == paths[1] {
		t.Errorf("both are %s", paths[0])
	}
}

func TestADroppedCAIsInNoBundle(t *testing.T) {
	s := newTestServer(t)
	a, ctx := s.data.authority, t.Context()
	theirs := newCertificate(t)
	g := grant{dir: s.cfg.DataDir}
	path := given(t, g, write(t, filepath.Join(t.TempDir(), "roots.pem"), theirs))
	if err := a.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	all, err := a.valid(ctx)
	if err != nil {
		t.Fatal(err)
	}
	after, before := string(all[0].PEM()), string(all[1].PEM())
	if got := countOf(t, path, after, before, theirs); !slices.Equal(got, []int{1, 1, 1}) {
		t.Errorf("after the rotation: %v", got)
	}
	if err := a.Drop(ctx, sha256.Sum256(all[1].Certificate().Raw)); err != nil {
		t.Fatal(err)
	}
	if got := countOf(t, path, after, before, theirs); !slices.Equal(got, []int{1, 0, 1}) {
		t.Errorf("after the drop: %v", got)
	}
	if again := given(t, g, path); again != path {
		t.Errorf("a run within a run makes another file: %s", again)
	}
	if got := countOf(t, path, after, before, theirs); !slices.Equal(got, []int{1, 0, 1}) {
		t.Errorf("after a run within a run: %v", got)
	}
}

// TestARunWithinARunBringsNoDroppedCABack, though it read its own bundle before the
// drop.
func TestARunWithinARunBringsNoDroppedCABack(t *testing.T) {
	dir := t.TempDir()
	before, after := newCertificate(t), newCertificate(t)
	path := given(t, grant{dir: dir, ca: after + before})
	d, err := newRunDir(grant{dir: dir, ca: after + before})
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	d.ca = func() []byte {
		if asked++; asked == 1 {
			return []byte(after + before)
		}
		return []byte(after)
	}
	if _, err := d.bundle(false, namedFile{path, "SOME"}); err != nil {
		t.Fatal(err)
	}
	if got := countOf(t, path, after, before); !slices.Equal(got, []int{1, 0}) {
		t.Errorf("its bundle: %v", got)
	}
}

// TestFilesThatMayBeInUseStay: a command may run for longer than a month, and whoever
// reads the variables of env for years.
func TestFilesThatMayBeInUseStay(t *testing.T) {
	dir, ca := t.TempDir(), newCertificate(t)
	a := &app{lookup: environment(nil)}
	files, err := a.clientFiles(grant{dir: dir, ca: ca, lasting: true})
	if err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-10 * runFileLife)
	for path := range files.done {
		if err := os.Chtimes(path, long, long); err != nil {
			t.Fatal(err)
		}
	}
	again, err := a.clientFiles(grant{dir: dir, ca: ca})
	if err != nil {
		t.Fatal(err)
	}
	for path := range files.done {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("of env: %v", err)
		}
		if again.done[path] {
			t.Errorf("env and run share %s", path)
		}
	}

	synctest.Test(t, func(t *testing.T) {
		end := again.use()
		<-time.After(10 * runFileLife)
		end()
		again.sweep()
		for path := range again.done {
			if _, err := os.Stat(path); err != nil {
				t.Errorf("of a run that lasts: %v", err)
			}
		}
		<-time.After(2 * runFileLife)
		again.sweep()
		left, err := filepath.Glob(filepath.Join(again.path, "*.*"))
		if err != nil || slices.ContainsFunc(left, func(path string) bool { return again.done[path] }) {
			t.Errorf("after its end are left %v, %v", left, err)
		}
	})
}

// TestAShellWithinARunKeepsItsFiles: they must not go with the run's.
func TestAShellWithinARunKeepsItsFiles(t *testing.T) {
	g := grant{dir: t.TempDir(), ca: newCertificate(t)}
	runs := given(t, g)
	g.lasting = true
	shells := given(t, g, runs)
	if shells == runs || given(t, g, shells) != shells {
		t.Errorf("the shell is given %s in a run with %s", shells, runs)
	}
	g.lasting = false
	if path := given(t, g, shells); path != shells {
		t.Errorf("a run in the shell is given %s", path)
	}
}
