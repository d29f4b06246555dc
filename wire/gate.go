package wire

import "net"

// gate is below the layer that secures a connection, and can be shut, so that a
// read from above shows whether that layer holds data, without asking the socket.
// It also follows the records that come through, because after most answers it is
// plain from them that there can be nothing. Only who reads may use it.
type gate struct {
	net.Conn
	shut   bool
	header [recordHeader]byte // of the record that is coming
	have   int                // bytes of header
	left   int                // bytes of the record after its header
	ended  int                // records that the last read has brought the end of
}

// recordHeader is how long the header of a TLS record is; its last two bytes are
// the length of what follows (RFC 8446, section 5.1).
const recordHeader = 5

func (g *gate) Read(b []byte) (int, error) {
	if g.shut {
		return 0, errShut
	}
	n, err := g.Conn.Read(b)
	g.follow(b[:n])
	return n, err
}

func (g *gate) follow(b []byte) {
	g.ended = 0
	for len(b) > 0 {
		if g.have < recordHeader {
			n := copy(g.header[g.have:], b)
			g.have += n
			b = b[n:]
			g.left = int(g.header[3])<<8 | int(g.header[4])
			continue
		}
		n := min(g.left, len(b))
		g.left -= n
		b = b[n:]
		if g.left == 0 {
			g.have = 0
			g.ended++
		}
	}
}

// drained reports whether the layer above can hold no record: it reads only when
// it has not got the whole of one, so it has used what a read brought that ended
// with the end of one, and of no other.
func (g *gate) drained() bool { return g.have == 0 && g.ended == 1 }

// NetConn is the connection below.
func (g *gate) NetConn() net.Conn { return g.Conn }

// errShut looks like a deadline to crypto/tls, which such an error does not end.
var errShut error = shutError{}

type shutError struct{}

func (shutError) Error() string   { return "the gate is shut" }
func (shutError) Timeout() bool   { return true }
func (shutError) Temporary() bool { return true }
