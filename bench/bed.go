package main

import (
	"errors"
	"os"
	"path/filepath"
)

// The names by which the origin is reached.
const (
	host        = "api.bench.test"
	freshDomain = "fresh.bench.test"
)

// credential is the Authorization field that the origin wants to see in every
// request: who does not add it gets no answer that counts.
const credential = "Bearer bench-canary-7e57"

// tokenLife is how many seconds an OAuth token of the origin lives.
const tokenLife = 12

// bed is what all variants share: one origin, one CA, one directory.
type bed struct {
	dir       string
	memory    string // a directory that needs no disk, where there is one
	attache   string // the binary
	authority *authority
	server    pair // what the origin shows, and nginx
	origin    *child
	ports     addresses
	fresh     int // hosts that nobody has asked for
}

// newBed starts the origin.
func newBed(attache string) (*bed, error) {
	b := &bed{}
	if err := b.start(attache); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *bed) start(attache string) error {
	var err error
	if b.attache, err = filepath.Abs(attache); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "attache-bench-"); err != nil {
		return err
	}
	if b.memory, err = os.MkdirTemp("/dev/shm", "attache-bench-"); err != nil {
		b.memory = b.dir
	}
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

// route leads straight to the origin. It says nothing of a credential.
func (b *bed) route() route {
	return route{Ports: b.ports, Host: host, Roots: b.authority.Certificate}
}

func (b *bed) tally() (t tally, err error) {
	return t, b.origin.ask(struct{}{}, &t)
}

func (b *bed) close() error {
	var err error
	if b.origin != nil {
		err = b.origin.end()
	}
	for _, dir := range []string{b.dir, b.memory} {
		if dir != "" {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return err
}

// writeFiles writes files into a directory.
func writeFiles(dir string, files map[string]string) error {
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
