package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// lockTimeout is how long to wait for another process to let go of the file. It
// covers one that is just stopping, or that is just looking whether it is sound.
const lockTimeout = time.Second

// bolt is the embedded engine: one file, one process.
//
// bbolt maps the file into memory and trusts every offset in it, so that damage
// shows as a panic, as a fault that ends the process, or not at all. Therefore
// the file is verified before it is mapped for writing ([verifyPages]), and
// each call of bbolt runs guarded. After the first fault nothing is read or
// written any more: bbolt's locks may be held by a transaction that is gone.
type bolt struct {
	db     *bbolt.DB
	file   *os.File // bbolt's own handle; it holds the lock
	broken atomic.Bool
}

// openBolt opens an existing file. It never makes one.
func openBolt(path string, readOnly bool) (*bolt, error) {
	e, err := lockBolt(path, true)
	if err != nil {
		return nil, err
	}
	if err := e.verify(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	if readOnly {
		return e, nil
	}
	// The shared lock is let go before the exclusive one is had. Who gets in
	// between is another of us, and leaves a sound file behind.
	if err := e.Close(); err != nil {
		return nil, err
	}
	return lockBolt(path, false)
}

// createBolt makes the file with what seed puts into it, whole or not at all:
// it is written under another name and linked into place. With a file already
// there, also one that came up meanwhile, it does nothing.
func createBolt(ctx context.Context, path string, seed func(writer) error) error {
	tmp, err := tempFile(path)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	if err := tmp.Close(); err != nil {
		return err
	}
	e, err := mapBolt(tmp.Name(), &bbolt.Options{Timeout: lockTimeout})
	if err != nil {
		return err
	}
	if err := errors.Join(e.Update(ctx, seed), e.Close()); err != nil {
		return err
	}
	return linkNew(tmp.Name(), path)
}

// lockBolt opens a file that must be there. Read-only, bbolt looks at nothing
// but the meta pages, and at those only once it holds the lock.
func lockBolt(path string, readOnly bool) (*bolt, error) {
	return mapBolt(path, &bbolt.Options{
		ReadOnly:     readOnly,
		Timeout:      lockTimeout,
		FreelistType: bbolt.FreelistMapType,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag&^os.O_CREATE, mode)
			if err != nil {
				return nil, err
			}
			// bbolt would take an empty file for a new one.
			if info, err := f.Stat(); err != nil {
				return nil, errors.Join(err, f.Close())
			} else if info.Size() == 0 {
				return nil, errors.Join(damaged("the file is empty"), f.Close())
			}
			return f, nil
		},
	})
}

// mapBolt is bbolt.Open with errors that callers can tell apart.
func mapBolt(path string, o *bbolt.Options) (*bolt, error) {
	e := &bolt{}
	open := o.OpenFile
	if open == nil {
		open = os.OpenFile
	}
	o.OpenFile = func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
		e.file, err = open(name, flag, mode)
		return e.file, err
	}
	err := e.guarded(func() (err error) {
		e.db, err = bbolt.Open(path, 0o600, o)
		return err
	})
	if err == nil {
		return e, nil
	}
	if e.broken.Load() {
		_ = e.file.Close() // bbolt panicked and left it open
	}
	var pathErr *fs.PathError
	var errno syscall.Errno
	switch {
	case errors.Is(err, ErrCorrupt):
		return nil, fmt.Errorf("%s: %w", path, err)
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%s: %w", path, ErrInUse)
	case errors.As(err, &pathErr), errors.As(err, &errno):
		return nil, unwritable(err)
	default: // what bbolt says of a file that is none of its own
		return nil, fmt.Errorf("%s: %w", path, damaged(err.Error()))
	}
}

// verify reads the whole file's structure, through the handle that is locked.
func (e *bolt) verify() error {
	info, err := e.file.Stat()
	if err != nil {
		return err
	}
	if err := verifyPages(e.file, info.Size()); err != nil {
		return fmt.Errorf("%s: %w", e.file.Name(), err)
	}
	return nil
}

func (e *bolt) View(ctx context.Context, fn func(reader) error) error {
	tx, err := e.begin(ctx, false)
	if err != nil {
		return err
	}
	defer func() { _ = e.guarded(tx.Rollback) }()
	return fn(boltTx{e, tx})
}

func (e *bolt) Update(ctx context.Context, fn func(writer) error) error {
	tx, err := e.begin(ctx, true)
	if err != nil {
		return err
	}
	// After a commit this does nothing; it is for fn's errors and panics.
	defer func() { _ = e.guarded(tx.Rollback) }()
	if err := fn(boltTx{e, tx}); err != nil {
		return err
	}
	if err := e.guarded(tx.Commit); err != nil {
		return fmt.Errorf("write %s: %w", e.file.Name(), unwritable(err))
	}
	return nil
}

func (e *bolt) begin(ctx context.Context, writable bool) (tx *bbolt.Tx, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = e.guarded(func() (err error) {
		tx, err = e.db.Begin(writable)
		return err
	})
	switch {
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		return nil, fmt.Errorf("store: %w", fs.ErrClosed)
	case errors.Is(err, bolterrors.ErrDatabaseReadOnly):
		return nil, fmt.Errorf("store: opened for reading only: %w", ErrReadOnly)
	}
	return tx, err
}

// Check is verifyPages, and only where that finds nothing bbolt's own check,
// whose goroutine a fault would end together with the process.
func (e *bolt) Check(ctx context.Context) error {
	if err := e.verify(); err != nil {
		return err
	}
	tx, err := e.begin(ctx, false)
	if err != nil {
		return err
	}
	defer func() { _ = e.guarded(tx.Rollback) }()
	var found []error
	for err := range tx.Check() {
		found = append(found, damaged(err.Error()))
	}
	return errors.Join(found...)
}

func (e *bolt) Size() (int64, error) {
	info, err := e.file.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (e *bolt) Close() error {
	if e.broken.Load() {
		// bbolt would wait for locks that nobody holds any more. The mapping
		// stays, and the file's lock with it, until the process ends.
		return e.file.Close()
	}
	return e.db.Close()
}

// guarded runs one call of bbolt, and turns its panics, and faults in the
// mapped file, into ErrCorrupt. It must not run code of ours that could panic
// for another reason.
func (e *bolt) guarded(call func() error) (err error) {
	if e.broken.Load() {
		return damaged("a fault was seen before")
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			e.broken.Store(true)
			err = damaged(fmt.Sprint(r))
		}
	}()
	return call()
}

// boltTx is a transaction, for reading or for writing.
type boltTx struct {
	engine *bolt
	tx     *bbolt.Tx
}

func (t boltTx) Buckets() (names []string, err error) {
	err = t.engine.guarded(func() error {
		return t.tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
			names = append(names, string(name))
			return nil
		})
	})
	return names, err
}

func (t boltTx) Get(bucket, key string) (value []byte, err error) {
	err = t.engine.guarded(func() error {
		if b := t.tx.Bucket([]byte(bucket)); b != nil {
			value = bytes.Clone(b.Get([]byte(key)))
		}
		return nil
	})
	return value, err
}

func (t boltTx) List(bucket, prefix, after string) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		var cursor *bbolt.Cursor
		next := func() (e entry, err error) {
			err = t.engine.guarded(func() error {
				var k, v []byte
				if cursor != nil {
					k, v = cursor.Next()
				} else if b := t.tx.Bucket([]byte(bucket)); b != nil {
					cursor = b.Cursor()
					k, v = cursor.Seek([]byte(max(prefix, after)))
					if after != "" && string(k) == after {
						k, v = cursor.Next()
					}
				}
				e = entry{string(k), bytes.Clone(v)}
				return nil
			})
			return e, err
		}
		for {
			e, err := next()
			if err != nil {
				yield(entry{}, err)
				return
			}
			if e.Key == "" || !strings.HasPrefix(e.Key, prefix) || !yield(e, nil) {
				return
			}
		}
	}
}

func (t boltTx) Put(bucket, key string, value []byte) error {
	return t.engine.guarded(func() error {
		b, err := t.tx.CreateBucketIfNotExists([]byte(bucket))
		if err != nil {
			return err
		}
		return b.Put([]byte(key), value)
	})
}

func (t boltTx) Delete(bucket, key string) error {
	return t.engine.guarded(func() error {
		if b := t.tx.Bucket([]byte(bucket)); b != nil {
			return b.Delete([]byte(key))
		}
		return nil
	})
}

// damaged is ErrCorrupt with what is wrong.
func damaged(what string) error { return fmt.Errorf("%s: %w", what, ErrCorrupt) }
