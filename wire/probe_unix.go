//go:build unix

package wire

import (
	"net"
	"syscall"
)

// probe looks, without waiting, whether an idle connection has been closed by its
// peer, or has something to say when it should not. It is made once, so that to
// look takes no memory.
type probe struct {
	raw   syscall.RawConn
	look  func(fd uintptr)
	quiet bool
}

// newProbe is one for the socket below conn; nil where there is none.
func newProbe(conn net.Conn) *probe {
	for {
		below, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = below.NetConn()
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil
	}
	p := &probe{raw: raw}
	p.look = func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		p.quiet = err == syscall.EAGAIN || err == syscall.EINTR
	}
	return p
}

// isQuiet is true where it cannot be found out: then it will show.
func (p *probe) isQuiet() bool {
	return p == nil || p.raw.Control(p.look) == nil && p.quiet
}
