//go:build unix && (!linux || 386 || s390x)

package wire

import "syscall"

// isQuiet reports whether there is nothing to read from a socket, and it has not
// ended.
func isQuiet(fd uintptr) bool {
	var b [1]byte
	_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err == syscall.EAGAIN || err == syscall.EINTR
}
