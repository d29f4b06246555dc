//go:build unix

package wire

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// asking writes a request to a connection that was idle, after a last look
// whether its peer has closed it, or has said something since its last answer:
// that would be taken for the next one (RFC 9112, section 6.3).
//
// The look costs no more than the first attempt to read the answer, which comes too
// soon, and whose place it takes. It is made between two steps of the runtime's
// own waiting: interest in the socket is declared before the look, so that
// nothing which comes after it is missed. It is made once for a connection, and
// so takes no memory.
type asking struct {
	conn    *Conn
	raw     syscall.RawConn
	step    func(fd uintptr) (done bool)
	request []byte // nil: it has been written
	err     error
}

// newAsking is for the socket below c; nil where there is none.
func newAsking(c *Conn, socket net.Conn) *asking {
	s, ok := below(socket).(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	a := &asking{conn: c, raw: raw}
	a.step = func(fd uintptr) bool {
		if a.request == nil {
			return true // the answer begins
		}
		if !isQuiet(fd) {
			a.err = ErrStale
			return true
		}
		_, a.err = a.conn.Write(a.request)
		a.request = nil
		return a.err != nil
	}
	return a
}

// write returns when the answer begins, or cannot begin any more; what is wrong
// then, the first read will say.
func (a *asking) write(request []byte) error {
	a.request, a.err = request, nil
	err := a.raw.Read(a.step)
	switch {
	case err == nil || a.request == nil || a.err != nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		a.err = ErrLate
	default:
		a.err = err
	}
	a.request = nil
	return a.err
}

// below is the connection at the bottom.
func below(conn net.Conn) net.Conn {
	for {
		upper, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = upper.NetConn()
	}
}
