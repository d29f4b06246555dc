// Package store keeps what must outlast the program: integrations, connections
// with their credentials, OAuth clients and grants, tokens (as hashes), and the
// certificate authority.
//
// # What is on disk
//
// The data directory holds attache.db, one bbolt file, and, unless another
// source of the master key is named, master.key. The keys in the file are names
// and can be read; every value is sealed whole (XChaCha20-Poly1305, through
// tink) with its bucket and key as associated data. Sealing whole records rather
// than the secrets in them means that nothing about a record can be changed
// either: an allowed domain that somebody widens is found out like a credential
// that somebody swaps. The sealing keyset is in the file too, wrapped by a key
// derived from the master key.
//
// Whoever can write the file, but has no key, can still do three things: delete
// a record, put back an earlier value of the same record, and put back the
// whole file. None gives away a secret or sends one elsewhere than before, but
// all can revive what was revoked. Keep the directory to its owner.
//
// # Promises
//
// Each method is one transaction. A write that returned nil is on disk, synced;
// one that did not return, or returned an error, happened whole or not at all.
// A file that is damaged is refused with [ErrCorrupt], never repaired or
// replaced.
package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"attache"
)

const databaseFile = "attache.db"

// Options say where the data is and how it is unsealed.
type Options struct {
	// Dir is the data directory. Where it is missing it is made, mode 0700.
	Dir string
	// MasterKey names the source of the master key: "file:PATH", "env:NAME" or
	// "credential:NAME" (of systemd, in $CREDENTIALS_DIRECTORY), each holding 32
	// bytes in base64, or "passphrase". Empty means the file master.key in Dir,
	// which is made, mode 0600, together with the database.
	MasterKey string
	// Passphrase is called, at most once, with the MasterKey "passphrase".
	Passphrase func() ([]byte, error)
	// ReadOnly opens what exists, for looking: writes fail with [ErrReadOnly].
	// Several may look at once, but not while somebody writes.
	ReadOnly bool
}

// Store is an open database. Its methods may be called from several goroutines.
type Store struct {
	engine engine
	sealer sealer

	// turn holds a token for whose turn it is to write, and to tell the
	// subscribers. A channel, so that waiting can end with a context.
	turn        chan struct{}
	subscribers map[*subscriber]struct{} // guarded by turn

	writes, failures atomic.Uint64
	writing          atomic.Int64 // nanoseconds
}

// Open opens the database, and makes a new one where there is none. It fails
// with one of this package's errors where those describe what is wrong.
func Open(ctx context.Context, o Options) (*Store, error) {
	key, err := newMasterKey(o)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(o.Dir, databaseFile)
	if !o.ReadOnly {
		if err := create(ctx, path, key); err != nil {
			return nil, err
		}
	}
	e, err := openBolt(path, o.ReadOnly)
	if err != nil {
		return nil, err
	}
	s := &Store{engine: e, turn: make(chan struct{}, 1), subscribers: map[*subscriber]struct{}{}}
	h, err := s.unlock(ctx, key)
	if err == nil && !o.ReadOnly {
		err = s.upgrade(ctx, h)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), e.Close())
	}
	if !o.ReadOnly {
		sweep(o.Dir)
	}
	return s, nil
}

// create makes the database where there is none, key first: a key without a
// database is nothing lost, the other way round everything is.
func create(ctx context.Context, path string, key *masterKey) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return unwritable(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return unwritable(err)
	}
	if err := key.generate(); err != nil {
		return err
	}
	h, err := newHeader(key)
	if err != nil {
		return err
	}
	b, err := h.encode()
	if err != nil {
		return err
	}
	return createBolt(ctx, path, func(w writer) error { return w.Put(metaBucket, headerKey, b) })
}

// unlock makes sure that the database is one that this version understands, and
// readies the sealer.
func (s *Store) unlock(ctx context.Context, key *masterKey) (h header, err error) {
	err = s.engine.View(ctx, func(r reader) error {
		b, err := r.Get(metaBucket, headerKey)
		if err != nil {
			return err
		}
		if h, err = decodeHeader(b); err != nil {
			return err
		}
		if err := checkBuckets(r); err != nil {
			return err
		}
		s.sealer, err = h.Key.unwrap(key)
		return err
	})
	return h, err
}

// upgrade brings the database to this version's schema. So far nothing moves: what
// is new is in buckets of its own, which an older version would take for damage,
// and in a state of grants that it would not keep to. The header tells it better.
func (s *Store) upgrade(ctx context.Context, h header) error {
	if h.Schema == schema {
		return nil
	}
	h.Schema = schema
	b, err := h.encode()
	if err != nil {
		return err
	}
	return s.engine.Update(ctx, func(w writer) error { return w.Put(metaBucket, headerKey, b) })
}

// Close waits for what is running and closes the database. Methods called later
// fail with an error that wraps fs.ErrClosed.
func (s *Store) Close() error {
	s.turn <- struct{}{}
	defer s.endTurn()
	return s.engine.Close()
}

// Stats are the store's figures since it was opened.
type Stats struct {
	Writes    uint64        // transactions committed
	Failures  uint64        // transactions that were to be committed and could not
	WriteTime time.Duration // spent in both, waiting for the disk included
	Size      int64         // of the database, in bytes; 0 where it cannot be told
}

// Stats returns the figures as they are now.
func (s *Store) Stats() Stats {
	size, _ := s.engine.Size()
	return Stats{
		Writes:    s.writes.Load(),
		Failures:  s.failures.Load(),
		WriteTime: time.Duration(s.writing.Load()),
		Size:      size,
	}
}

func (s *Store) view(ctx context.Context, fn func(view) error) error {
	return s.engine.View(ctx, func(r reader) error { return fn(view{r, s.sealer}) })
}

// update runs fn in a transaction, and when that is committed tells the
// subscribers what fn returned, before anybody else may write. When the commit
// fails they are told what there is, for it may have been made: a deletion that
// took place, above all.
func (s *Store) update(ctx context.Context, fn func(change) ([]attache.Change, error)) error {
	if err := s.takeTurn(ctx); err != nil {
		return err
	}
	defer s.endTurn()

	var changes []attache.Change
	var refused error
	begin := time.Now()
	err := s.engine.Update(ctx, func(w writer) error {
		changes, refused = fn(change{w, s.sealer})
		return refused
	})
	switch {
	case err == nil:
		s.writes.Add(1)
	case refused == nil:
		s.failures.Add(1)
	default:
		return err
	}
	s.writing.Add(int64(time.Since(begin)))
	if err != nil {
		return errors.Join(err, s.notifyOfWhatIs(ctx, changes))
	}
	s.notify(changes)
	return nil
}

func (s *Store) takeTurn(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) endTurn() { <-s.turn }
