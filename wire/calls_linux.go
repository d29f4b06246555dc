//go:build !race && !386 && !s390x

package wire

import (
	"syscall"
	"unsafe"
)

// The calls for sockets are a shorter way through the kernel than those for files.

// receive reads from a socket, and nothing is read where it has ended.
func receive(fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
		if errno == 0 {
			return int(n), 0
		}
		if errno != syscall.EINTR {
			return 0, errno
		}
	}
}

// maxQuick is how much is written without the scheduler's knowledge: over loopback
// the kernel does the receiver's work, too.
const maxQuick = 16 << 10

// send writes to a socket.
func send(fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		var n uintptr
		var errno syscall.Errno
		if len(b) > maxQuick {
			n, _, errno = syscall.Syscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_NOSIGNAL, 0, 0)
		} else {
			n, _, errno = syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_NOSIGNAL, 0, 0)
		}
		if errno == 0 {
			return int(n), 0
		}
		if errno != syscall.EINTR {
			return 0, errno
		}
	}
}
