//go:build race || 386 || s390x

package wire

import "syscall"

// The race detector takes what one end of a connection has sent, and the other has
// received, for an order of events. It sees that only in these calls. And some
// processors have one system call for all that sockets do.

func receive(fd uintptr, b []byte) (int, syscall.Errno) {
	return again(func() (int, error) { return syscall.Read(int(fd), b) })
}

func send(fd uintptr, b []byte) (int, syscall.Errno) {
	return again(func() (int, error) { return syscall.Write(int(fd), b) })
}

func again(call func() (int, error)) (int, syscall.Errno) {
	for {
		n, err := call()
		if err == nil {
			return n, 0
		}
		if errno, ok := err.(syscall.Errno); ok && errno != syscall.EINTR {
			return 0, errno
		}
	}
}
