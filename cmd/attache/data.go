package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/term"

	"attache"
	"attache/certs"
	"attache/configs"
	"attache/policy"
	"attache/secret"
	"attache/store"
)

// defaultIntegration exists from the first start on.
const defaultIntegration = "default"

// Files in the data directory, beside those of the store.
const (
	socketFile = "admin.sock" // the admin API of the server that has the directory open
	caFile     = "ca.pem"     // the certificates that clients should trust
)

// data is an opened data directory: the store, and what is always kept in step
// with it.
type data struct {
	dir       string
	store     *store.Store
	minter    *certs.Minter
	authority *authority
	live      *policy.Live
	fresh     bool // this is the first start
}

// openData opens the data directory, and on the first start makes what belongs
// in it: key, database, CA, and the default integration.
func (a *app) openData(ctx context.Context, cfg configs.Config) (_ *data, err error) {
	disableCoreDumps()
	s, err := store.Open(ctx, store.Options{Dir: cfg.DataDir, MasterKey: cfg.MasterKey, Passphrase: a.passphrase})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	d := &data{
		dir:    cfg.DataDir,
		store:  s,
		minter: certs.NewMinter(certs.MinterOptions{MaxLeaves: cfg.Certificates.Cache, LeafLife: cfg.Certificates.LeafLife}),
		live:   new(policy.Live),
	}
	d.authority = &authority{store: s, minter: d.minter, file: filepath.Join(cfg.DataDir, caFile), warn: a.warn}
	if err := d.begin(ctx); err != nil {
		return nil, err
	}
	if err := d.authority.load(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// begin makes the default integration on the first start: while there is no CA
// yet. Whoever deletes it later has deleted it.
func (d *data) begin(ctx context.Context) error {
	authorities, err := d.store.Authorities(ctx)
	if err != nil {
		return err
	}
	if len(authorities) > 0 {
		return nil
	}
	d.fresh = true
	err = d.store.CreateIntegration(ctx, attache.Integration{Name: defaultIntegration, CreatedAt: time.Now().UTC()})
	if errors.Is(err, attache.ErrExists) {
		return nil // the first start was interrupted here
	}
	return err
}

// follow fills the index from the store and keeps it, and the others, up to date
// until cancel. Nobody may write to the store before it returns.
func (d *data) follow(ctx context.Context, others ...func(attache.Change)) (cancel func(), err error) {
	following := false
	existing := policy.Compile(func(compile func(attache.Change) bool) {
		cancel, err = d.store.Subscribe(ctx, func(ch attache.Change) {
			for _, other := range others {
				other(ch)
			}
			if following {
				d.live.Apply(ch)
			} else {
				compile(ch) // it takes all
			}
		})
	})
	if err != nil {
		return nil, err
	}
	d.live.Replace(existing)
	following = true
	return cancel, nil
}

// newToken makes an access token for the default integration, for ever.
func (d *data) newToken(ctx context.Context) (secret.Text, error) {
	token := newAccessToken()
	return token.text, d.store.CreateAccessToken(ctx, attache.AccessToken{
		ID: token.id, Integration: defaultIntegration, Hash: token.hash, CreatedAt: time.Now().UTC(),
	})
}

func (d *data) Close() error { return d.store.Close() }

// passphrase asks for the one that protects the master key.
func (a *app) passphrase() ([]byte, error) {
	in, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, errors.New("the passphrase is asked for on a terminal, and this is none: start attache on one, or configure a master_key of file:, env: or credential: instead")
	}
	fmt.Fprint(a.err, "Passphrase: ")
	defer fmt.Fprintln(a.err)
	return term.ReadPassword(int(in.Fd()))
}
