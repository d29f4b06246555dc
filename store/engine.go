package store

import (
	"context"
	"iter"
)

// An engine keeps keys and values in named buckets, ordered by key as bytes. It
// knows nothing of what they mean, nor that values are sealed. A bucket comes
// into being with its first key; one that never did reads as empty.
//
// It is the seam where a shared store takes the place of the embedded one, and
// TestEngine is what an implementation has to pass.
type engine interface {
	// View runs fn on one consistent state, whatever is committed meanwhile. A
	// commit may have to wait for views to end, so fn must not wait for one.
	View(ctx context.Context, fn func(reader) error) error
	// Update runs fn in a serialisable transaction. When it returns nil, what fn
	// wrote is durable; with an error of fn nothing is written. With one of the commit
	// all of it is or nothing: the disk may fail after the last write.
	// After a conflict fn may run again, so it must have no effect but on its
	// writer, and whatever it collects must start afresh.
	Update(ctx context.Context, fn func(writer) error) error
	// Check examines the engine's own structures, not the values. No Update may
	// run meanwhile.
	Check(ctx context.Context) error
	// Size is what the engine takes up, in bytes.
	Size() (int64, error)
	// Close waits for running transactions. Later ones fail with fs.ErrClosed.
	Close() error
}

// A reader is the inside of a transaction, and ends with it. What it returns
// belongs to the caller.
type reader interface {
	// Buckets returns the names of those that have keys, or have had.
	Buckets() ([]string, error)
	// Get returns nil for a key that is not there.
	Get(bucket, key string) ([]byte, error)
	// List yields the entries whose keys begin with prefix and are greater than
	// after, in order. The transaction must not be written to meanwhile.
	List(bucket, prefix, after string) iter.Seq2[entry, error]
}

// A writer is a reader that sees what it has written.
type writer interface {
	reader
	Put(bucket, key string, value []byte) error // key and value must not be empty
	Delete(bucket, key string) error            // no error where there is nothing
}

type entry struct {
	Key   string
	Value []byte
}
