//go:build unix

package main

import (
	"errors"
	"io/fs"
	"syscall"
)

// notListening reports whether a Unix socket could not be dialled because
// nobody listens on it.
func notListening(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// cutOff reports whether a connection was, as by a server that has just ended.
func cutOff(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// closeToOthers makes what this process creates the owner's alone, until undo is
// called. Nothing else may create directories meanwhile: they could not be entered.
func closeToOthers() (undo func()) {
	before := syscall.Umask(0o177)
	return func() { syscall.Umask(before) }
}

// addressInUse reports whether a port could not be had because somebody has it.
func addressInUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }
