//go:build !386 && !s390x

package wire

import (
	"syscall"
	"unsafe"
)

// isQuiet reports whether there is nothing to read from a socket, and it has not
// ended. Like a [Socket] it leaves the scheduler out.
func isQuiet(fd uintptr) bool {
	var b byte
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b)), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	return errno == syscall.EAGAIN || errno == syscall.EINTR
}
