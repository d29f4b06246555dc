package wire

import "net"

// gate is below the layer that secures a connection, and can be shut, so that a
// read from above shows whether that layer holds data, without asking the socket.
type gate struct {
	net.Conn
	shut bool // only by who reads
}

func (g *gate) Read(b []byte) (int, error) {
	if g.shut {
		return 0, errShut
	}
	return g.Conn.Read(b)
}

// NetConn is the connection below.
func (g *gate) NetConn() net.Conn { return g.Conn }

// errShut looks like a deadline to crypto/tls, which such an error does not end.
var errShut error = shutError{}

type shutError struct{}

func (shutError) Error() string   { return "the gate is shut" }
func (shutError) Timeout() bool   { return true }
func (shutError) Temporary() bool { return true }
