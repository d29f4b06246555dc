package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// The names by which the origin is reached. What is not api or fresh has no
// connection in Attaché, which tunnels it.
const (
	apiHost     = "api.bench.test"
	opaqueHost  = "opaque.bench.test"
	freshDomain = "fresh.bench.test"
)

// credential is what the origin wants to see in every request.
const credential = "Bearer bench-canary-7e57"

// tokenLife is how many seconds an OAuth token of the origin lives.
const tokenLife = 12

// bed is what all variants share: one origin, one CA, one directory.
type bed struct {
	dir       string
	attache   string // the binary
	authority *authority
	server    pair // what the origin shows, and nginx
	origin    *child
	ports     addresses
	hosts     int // fresh ones
}

// newBed starts the origin.
func newBed(attache string, hosts int) (*bed, error) {
	dir, err := os.MkdirTemp("", "attache-bench-")
	if err != nil {
		return nil, err
	}
	b := &bed{dir: dir, attache: attache, hosts: hosts}
	if err := b.start(); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *bed) start() error {
	var err error
	if b.authority, err = newAuthority(); err != nil {
		return err
	}
	if b.server, err = b.authority.server("*.bench.test", "*."+freshDomain); err != nil {
		return err
	}
	if err := os.WriteFile(b.caFile(), []byte(b.authority.Certificate), 0o600); err != nil {
		return err
	}
	b.origin, err = begin("origin", originTask{b.server, credential, tokenLife}, &b.ports)
	return err
}

func (b *bed) caFile() string { return filepath.Join(b.dir, "ca.pem") }

func (b *bed) tally() (t tally, err error) {
	return t, b.origin.ask(struct{}{}, &t)
}

func (b *bed) close() error {
	var err error
	if b.origin != nil {
		err = b.origin.end()
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

// proxy is a variant that runs.
type proxy struct {
	route   route
	pid     int                     // 0: there is none
	mallocs func() (float64, error) // objects allocated so far; nil: it cannot be had
	between func() error            // between measurements; nil: nothing
	stop    func() error
}

// variant is one way from the client to the origin.
type variant struct {
	name    string
	about   string
	missing func() string // what to install; empty where it can be started
	start   func(context.Context, *bed) (*proxy, error)
}
