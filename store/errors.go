package store

import "errors"

// Why a store does not open, or does not do what it was asked. Each is wrapped
// with the file or the key source that it is about.
var (
	// ErrInUse: another process has the database open.
	ErrInUse = errors.New("in use by another attache: stop it, or name another data directory with --data-dir")
	// ErrNoKey: there is no usable master key at the place that was named.
	ErrNoKey = errors.New("no master key")
	// ErrWrongKey: there is a master key, but the database was sealed with another.
	ErrWrongKey = errors.New("the database was sealed with another master key")
	// ErrNewerSchema: a later version of the program wrote the database.
	ErrNewerSchema = errors.New("the database was written by a newer attache: run that version, or restore a backup from before the update")
	// ErrCorrupt: the file is damaged, or a record is not the one that was
	// sealed in its place. Nothing is repaired and nothing is made anew.
	ErrCorrupt = errors.New("the database is damaged or was tampered with: restore a backup")
	// ErrReadOnly: the file or its directory cannot be written. A program that
	// went on would lose every refreshed token.
	ErrReadOnly = errors.New("the data directory cannot be written, so neither refreshed tokens nor any other change would last: make it writable for this user, or name another with --data-dir")
)
