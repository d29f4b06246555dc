package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"attache"
)

// trusted are the certificates in ca.pem.
func trusted(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%s has mode %v, %v", file, info.Mode(), err)
	}
	pool := x509.NewCertPool()
	for {
		block, rest := pem.Decode(content)
		if block == nil {
			return pool
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		pool.AddCert(c)
		content = rest
	}
}

func TestARotationKeepsTrustUntilTheOldOneIsDropped(t *testing.T) {
	s := newTestServer(t)
	a, ctx := s.data.authority, t.Context()
	verify := func(want bool, leaf *x509.Certificate) {
		t.Helper()
		_, err := leaf.Verify(x509.VerifyOptions{DNSName: "api.example.com", Roots: trusted(t, a.file)})
		if (err == nil) != want {
			t.Errorf("it is trusted: %t (%v)", err == nil, err)
		}
	}
	leaf := func() *x509.Certificate {
		t.Helper()
		c, err := s.data.minter.Leaf(ctx, "api.example.com")
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf
	}
	before := leaf()
	verify(true, before)
	if err := a.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	after := leaf()
	verify(true, before)
	verify(true, after)

	all, err := a.Certificates(ctx)
	if err != nil || len(all) != 2 || after.CheckSignatureFrom(all[0]) != nil || !a.Expiry().Equal(all[0].NotAfter) {
		t.Fatalf("the new one does not come first: %v, %v", all, err)
	}
	if err := a.Drop(ctx, sha256.Sum256(all[0].Raw)); err == nil {
		t.Error("the one that signs can be dropped")
	}
	if err := a.Drop(ctx, sha256.Sum256(nil)); !errors.Is(err, attache.ErrNotFound) {
		t.Errorf("one that does not exist: %v", err)
	}
	if err := a.Drop(ctx, sha256.Sum256(all[1].Raw)); err != nil {
		t.Fatal(err)
	}
	verify(false, before)
	verify(true, after)

	// What the store says is what the next start has.
	if err := a.load(ctx); err != nil {
		t.Fatal(err)
	}
	verify(true, leaf())
}

// TestAChangeThatClientsCannotBeShownIsNone: else the store would say that one
// signs, and the proxy sign with another.
func TestAChangeThatClientsCannotBeShownIsNone(t *testing.T) {
	s := newTestServer(t)
	a, ctx := s.data.authority, t.Context()
	if err := a.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	before, err := a.Certificates(ctx)
	if err != nil {
		t.Fatal(err)
	}
	bundle := given(t, grant{dir: s.cfg.DataDir})
	unchanged := func() {
		t.Helper()
		leaf, err := s.data.minter.Leaf(ctx, "api.example.com")
		if err != nil || leaf.Leaf.CheckSignatureFrom(before[0]) != nil {
			t.Errorf("another one signs: %v", err)
		}
		after, err := a.Certificates(ctx)
		if err != nil || !slices.EqualFunc(before, after, (*x509.Certificate).Equal) {
			t.Errorf("the store has others: %v, %v", after, err)
		}
		if got := countOf(t, bundle, "BEGIN"); got[0] != len(before) {
			t.Errorf("a bundle has %d", got[0])
		}
	}
	if err := os.Rename(a.file, a.file+".aside"); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(a.file, "in", "the", "way"), "x")
	if err := a.Rotate(ctx); err == nil {
		t.Error("it can be rotated")
	}
	unchanged()
	if err := a.Drop(ctx, sha256.Sum256(before[1].Raw)); err == nil {
		t.Error("an old one can be dropped")
	}
	unchanged()

	// Nor does it keep a server from starting.
	warned := false
	a.warn = func(string, ...any) { warned = true }
	if err := a.load(ctx); err != nil || !warned {
		t.Errorf("loading: %v, a warning: %t", err, warned)
	}
	unchanged()
	if err := errors.Join(os.RemoveAll(a.file), os.Rename(a.file+".aside", a.file)); err != nil {
		t.Fatal(err)
	}

	// What clients were shown is taken back where it cannot be stored.
	ended, end := context.WithCancel(ctx)
	end()
	all, err := a.valid(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.add(ended, all); err == nil {
		t.Error("a new one is stored after its end")
	}
	unchanged()
	if got := countOf(t, a.file, "BEGIN"); got[0] != len(before) {
		t.Errorf("ca.pem has %d", got[0])
	}
}
