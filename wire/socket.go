package wire

import (
	"net"
	"sync"
	"time"
)

// Socket is a connection that bounds how long its peer keeps it waiting. On Linux
// it reads and writes a TCP socket in fewer steps than package net: a write's deadline
// costs a timer only where there is something to wait for, and one of reads only where it
// is another than the last. It is safe for concurrent use, as a [net.Conn] is: after a
// 101 net/http may still write the request that it was the answer to.
type Socket struct {
	net.Conn
	patience Patience
	closed   func()
	transfer // of bytes, in the way of the system; unset: as Conn does it

	deadlines sync.Mutex // guards what follows
	reads     time.Time  // the deadline of reads
	writes    time.Time  // that of writes which somebody has set
}

// Patience is how long a [Socket] waits for its peer.
type Patience struct {
	Read  time.Duration // for something to come, in each read; 0: until the deadline
	Write time.Duration // for the bytes of one write to be taken; 0: no write waits
}

// NewSocket is conn with that patience; closed is called after each Close.
func NewSocket(conn net.Conn, patience Patience, closed func()) *Socket {
	s := &Socket{Conn: conn, patience: patience, closed: closed}
	s.start()
	return s
}

// Read implements [net.Conn].
func (s *Socket) Read(b []byte) (int, error) {
	if s.patience.Read > 0 {
		_ = s.SetReadDeadline(Lenient(time.Now(), s.patience.Read))
	}
	if !s.ready() {
		return s.Conn.Read(b)
	}
	return s.read(b)
}

// Write implements [net.Conn].
func (s *Socket) Write(b []byte) (int, error) {
	if !s.ready() {
		s.lose()
		return s.Conn.Write(b)
	}
	return s.write(b)
}

// lose begins to lose patience with the one who takes what is written.
func (s *Socket) lose() {
	s.deadlines.Lock()
	defer s.deadlines.Unlock()
	until := time.Now().Add(s.patience.Write)
	if !s.writes.IsZero() && s.writes.Before(until) {
		until = s.writes
	}
	_ = s.Conn.SetWriteDeadline(until)
}

// regain ends that.
func (s *Socket) regain() {
	s.deadlines.Lock()
	defer s.deadlines.Unlock()
	_ = s.Conn.SetWriteDeadline(s.writes)
}

// SetDeadline implements [net.Conn].
func (s *Socket) SetDeadline(t time.Time) error {
	s.deadlines.Lock()
	defer s.deadlines.Unlock()
	s.reads, s.writes = t, t
	return s.Conn.SetDeadline(t)
}

// SetReadDeadline implements [net.Conn]. One that is there already costs nothing.
func (s *Socket) SetReadDeadline(t time.Time) error {
	s.deadlines.Lock()
	defer s.deadlines.Unlock()
	if t.Equal(s.reads) {
		return nil
	}
	s.reads = t
	return s.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements [net.Conn]. A write ends at the deadline, or when
// patience does.
func (s *Socket) SetWriteDeadline(t time.Time) error {
	s.deadlines.Lock()
	defer s.deadlines.Unlock()
	s.writes = t
	return s.Conn.SetWriteDeadline(t)
}

// Lenient is a deadline at least d from now, and at most a quarter of d later, so
// that many in a row are the same one.
func Lenient(now time.Time, d time.Duration) time.Time {
	step := max(d/4, 1)
	return now.Add(d + step).Truncate(step)
}

// Close implements [net.Conn].
func (s *Socket) Close() error {
	err := s.Conn.Close()
	s.closed()
	return err
}

// NetConn is the connection below.
func (s *Socket) NetConn() net.Conn { return s.Conn }

// CloseWrite tells the peer that no more will come. Where the connection cannot
// say so alone, it is closed.
func (s *Socket) CloseWrite() error {
	if h, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return s.Close()
}
