package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"attache"
	"attache/certs"
	"attache/secret"
	"attache/store"
)

// authority is the CA as the store keeps it, as the minter signs with it, and as
// ca.pem shows it to clients. It implements admin.Authority.
type authority struct {
	store  *store.Store
	minter *certs.Minter
	file   string // ca.pem: public, every certificate that clients should trust
	warn   func(format string, args ...any)

	changing sync.Mutex // held from reading the stored authorities to replacing them
	expiry   atomic.Pointer[time.Time]
}

// load makes the newest stored authority sign, and the first one where there is
// none that has not expired. Clients have mostly been shown it before, so that they
// cannot be shown it is no reason not to start.
func (a *authority) load(ctx context.Context) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	all, err := a.valid(ctx)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return a.add(ctx, nil)
	}
	if err := a.show(all, all); err != nil {
		a.warn("clients may not trust the CA that signs, for a file with it cannot be replaced: %v: see what is in its place", err)
	}
	a.sign(all)
	return nil
}

// valid is what the store has, the newest first, less what has expired: that
// vouches for nothing any more.
func (a *authority) valid(ctx context.Context) ([]certs.Authority, error) {
	stored, err := a.store.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	var all []certs.Authority
	for _, s := range stored {
		key, err := s.Key.PrivateKey()
		if err != nil {
			return nil, fmt.Errorf("stored CA: %w", err)
		}
		one, err := certs.ParseAuthority(s.Certificate, key)
		switch {
		case errors.Is(err, certs.ErrExpired):
		case err != nil:
			return nil, fmt.Errorf("stored CA: %w", err)
		default:
			all = append(all, one)
		}
	}
	return all, nil
}

// add makes a new authority that signs from now on, before those that there are.
func (a *authority) add(ctx context.Context, others []certs.Authority) error {
	fresh, err := certs.NewAuthority(time.Now())
	if err != nil {
		return err
	}
	return a.change(ctx, others, append([]certs.Authority{fresh}, others...))
}

// change shows clients other authorities, stores them, and then lets the first sign:
// whoever reads ca.pem, or a bundle of a run, once a new leaf is served trusts it.
// What fails leaves those that there were.
func (a *authority) change(ctx context.Context, from, to []certs.Authority) error {
	err := a.show(to, from)
	if err == nil {
		err = a.save(ctx, to)
	}
	if err != nil {
		_ = a.show(from, to) // what stays is one too many to trust, which signs nothing
		return err
	}
	a.sign(to)
	return nil
}

// save replaces the stored authorities, the newest first.
func (a *authority) save(ctx context.Context, all []certs.Authority) error {
	stored := make([]store.Authority, len(all))
	for i, one := range all {
		key, err := secret.FromPrivateKey(one.Key())
		if err != nil {
			return err
		}
		stored[i] = store.Authority{Certificate: one.Certificate().Raw, Key: key, CreatedAt: one.Certificate().NotBefore}
	}
	return a.store.SaveAuthorities(ctx, stored)
}

// show lets clients trust all authorities, and no other of those before.
func (a *authority) show(all, before []certs.Authority) error {
	now := bundle(all)
	if is, err := os.ReadFile(a.file); err != nil || !bytes.Equal(is, now) {
		if err := writeFile(a.file, now, 0o644); err != nil {
			return err
		}
	}
	return trustInBundles(filepath.Dir(a.file), now, lessCertificates(bundle(before), now))
}

// sign lets the first authority sign.
func (a *authority) sign(all []certs.Authority) {
	a.minter.Use(all[0])
	a.expiry.Store(&all[0].Certificate().NotAfter)
}

func bundle(all []certs.Authority) []byte {
	var b []byte
	for _, one := range all {
		b = append(b, one.PEM()...)
	}
	return b
}

// PEM is every certificate that clients should trust.
func (a *authority) PEM(ctx context.Context) (string, error) {
	all, err := a.valid(ctx)
	return string(bundle(all)), err
}

// Expiry is when the signing certificate ends.
func (a *authority) Expiry() time.Time {
	if t := a.expiry.Load(); t != nil {
		return *t
	}
	return time.Time{}
}

// Certificates are those that clients should trust, the signing one first.
func (a *authority) Certificates(ctx context.Context) ([]*x509.Certificate, error) {
	all, err := a.valid(ctx)
	if err != nil {
		return nil, err
	}
	certificates := make([]*x509.Certificate, len(all))
	for i, one := range all {
		certificates[i] = one.Certificate()
	}
	return certificates, nil
}

// Rotate makes a new signing certificate; the one before stays trusted.
func (a *authority) Rotate(ctx context.Context) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	all, err := a.valid(ctx)
	if err != nil {
		return err
	}
	return a.add(ctx, all)
}

// Drop forgets a certificate that does not sign.
func (a *authority) Drop(ctx context.Context, fingerprint [sha256.Size]byte) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	all, err := a.valid(ctx)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(all, func(one certs.Authority) bool { return sha256.Sum256(one.Certificate().Raw) == fingerprint })
	switch {
	case at < 0:
		return fmt.Errorf("CA certificate: %w", attache.ErrNotFound)
	case at == 0:
		return errors.New("the CA certificate signs: rotate before dropping it")
	}
	return a.change(ctx, all, slices.Concat(all[:at], all[at+1:]))
}

// writeFile replaces a file in one step: who reads it sees the old or the new
// content, never a part.
func writeFile(path string, content []byte, mode os.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	if err := cmp.Or(err, f.Chmod(mode), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
