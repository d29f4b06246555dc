package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
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
