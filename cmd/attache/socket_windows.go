package main

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/windows"
)

// notListening reports whether a Unix socket could not be dialled because
// nobody listens on it.
func notListening(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, windows.WSAECONNREFUSED) || errors.Is(err, windows.WSAENETDOWN)
}

// cutOff reports whether a connection was, as by a server that has just ended.
func cutOff(err error) bool {
	return errors.Is(err, windows.WSAECONNRESET) || errors.Is(err, windows.WSAECONNABORTED)
}

// closeToOthers does nothing: a file has the rights of its directory here.
func closeToOthers() (undo func()) { return func() {} }

// addressInUse reports whether a port could not be had because somebody has it.
func addressInUse(err error) bool { return errors.Is(err, windows.WSAEADDRINUSE) }
