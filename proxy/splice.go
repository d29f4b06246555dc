package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"attache"
	"attache/wire"
)

// splice copies between a and b until both have said all, one of them fails,
// nothing has moved for idle, or allowed, asked for each piece, says no. One that
// has ended is passed on as a half-close; the other may go on.
func splice(a, b stream, idle time.Duration, allowed func() bool) {
	s := &splicing{idle: idle, allowed: allowed}
	s.moved.Store(time.Now().UnixNano())
	var back sync.WaitGroup
	back.Go(func() {
		if !s.pass(a, b) {
			_, _ = a.Close(), b.Close()
		}
	})
	if !s.pass(b, a) {
		_, _ = a.Close(), b.Close()
	}
	back.Wait()
}

// splicing is what the two directions of a splice share.
type splicing struct {
	idle    time.Duration
	moved   atomic.Int64 // when bytes moved last, in Unix nanoseconds
	allowed func() bool  // asked by both at once
}

// pass copies from src to dst, and reports whether src came to a proper end.
func (s *splicing) pass(dst io.WriteCloser, src stream) bool {
	var b buffer
	defer b.shrink()
	for {
		_ = src.SetReadDeadline(wire.Lenient(time.Now(), b.patience(s.idle)))
		n, err := src.Read(b.bytes())
		if n > 0 {
			s.moved.Store(time.Now().UnixNano())
			if !s.allowed() {
				return false
			}
			if _, err := dst.Write(b.bytes()[:n]); err != nil {
				return false
			}
		}
		switch {
		case err == nil && n == len(b.small):
			b.grow()
		case b.large != nil && wire.IsTimeout(err):
			b.shrink()
		case err == nil:
		case errors.Is(err, io.EOF):
			return closeWrite(dst) == nil
		case !wire.IsTimeout(err) || time.Since(time.Unix(0, s.moved.Load())) >= s.idle:
			return false
		default: // the other direction is busy
		}
	}
}

// buffer is a small one for as long as little passes, because most tunnels are
// quiet for most of the time. Its zero value is ready.
type buffer struct {
	small [1024]byte
	large *[bufferSize]byte // nil: there is none
}

// How long a large buffer is kept after something has passed: many tunnels that open at
// once each need one for the certificates.
const largeFor = 100 * time.Millisecond

func (b *buffer) bytes() []byte {
	if b.large != nil {
		return b.large[:]
	}
	return b.small[:]
}

func (b *buffer) patience(idle time.Duration) time.Duration {
	if b.large != nil {
		return min(idle, largeFor)
	}
	return idle
}

func (b *buffer) grow() {
	if b.large == nil {
		b.large, _ = buffers.Get().(*[bufferSize]byte)
	}
}

func (b *buffer) shrink() {
	if b.large != nil {
		buffers.Put(b.large)
		b.large = nil
	}
}

// stream is what splice copies between: a connection, or what is left of one.
type stream interface {
	io.ReadWriteCloser
	SetReadDeadline(time.Time) error
}

// counted counts what passes into a record.
type counted struct {
	net.Conn
	record *record
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.record.in.Add(int64(n))
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.record.out.Add(int64(n))
	return n, err
}

// CloseWrite passes a half-close on.
func (c *counted) CloseWrite() error { return closeWrite(c.Conn) }

// closeWrite tells the peer of c that no more will come; where c cannot say so
// alone, it is closed.
func closeWrite(c io.Closer) error {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return c.Close()
}

// switchProtocols passes the 101 on, and copies both ways until the end.
func (x *exchange) switchProtocols() {
	defer x.switched.Close()
	conn, err := hijack(x.client)
	if err != nil {
		x.record.failed(problem{attache.CodeInternal, "The client's connection cannot switch protocols."})
		return
	}
	defer conn.Close()
	stay := context.AfterFunc(x.ctx, func() { _, _ = conn.Close(), x.switched.Close() })
	defer stay()
	client := &counted{conn, x.record}
	h := x.client.Header()
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", x.wants)
	var head bytes.Buffer
	head.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = h.Write(&head)
	head.WriteString("\r\n")
	if _, err := conn.Write(head.Bytes()); err != nil {
		return
	}
	splice(client, undying{x.switched}, x.proxy.settings.Limits.IdleTimeout, x.mayGoOn)
}

// mayGoOn tells, for each piece of what is copied, whether the request would be
// admitted still, with the same connection.
func (x *exchange) mayGoOn() bool {
	ix := x.proxy.with.Index()
	if !x.stillValid(ix, time.Now()) {
		return false
	}
	before, now := x.decision, ix.Decide(x.query)
	return now.Action == before.Action && (before.Connection == nil || now.Connection.Name == before.Connection.Name)
}

// undying is a stream whose deadlines are set below it.
type undying struct{ io.ReadWriteCloser }

func (undying) SetReadDeadline(time.Time) error { return nil }

// CloseWrite passes a half-close on.
func (u undying) CloseWrite() error { return closeWrite(u.ReadWriteCloser) }
