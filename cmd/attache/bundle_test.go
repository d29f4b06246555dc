package main

import (
	"path/filepath"
	"slices"
	"testing"
)

// given is a bundle as those who have a grant are given it.
func given(t *testing.T, g grant, others ...string) string {
	t.Helper()
	d, err := newRunDir(g)
	if err != nil {
		t.Fatal(err)
	}
	path, err := d.bundle(false, others...)
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
