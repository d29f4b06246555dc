package proxy

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"runtime"
	"runtime/debug"
	"time"

	"attache/wire"
)

// relay is the fast path of a client that speaks HTTP/1.1 (see h2.go for HTTP/2): it
// serves the requests of a tunnel that are plain HTTP/1.1 and get a credential,
// without a goroutine, a map or a parsed header for any of them. It decides with what
// the ordinary path decides with (exchange.admit), injects with the same injector and
// leaves the same event.
//
// Any other request (large, slow to arrive, denied, not ready to be sent) is given,
// unread, to the inner server, and the next one comes back; with a head that is odd,
// or where the upstream speaks HTTP/2 alone, the rest of the tunnel goes with it. So
// there is nothing that only the fast path can do, and no answer to a client that it has
// to know but an upstream's, and that there is none (fail).
type relay struct {
	errand
	conn  net.Conn  // what the client sends in the tunnel, decrypted
	first [512]byte // of a request, before there is a workspace: most end in it
	blank int       // how many line ends may come before the next request
}

// blankAfterPost is what net/http lets pass after a POST: old clients send a line end
// that belongs to nothing (RFC 9112, section 2.2).
const blankAfterPost = 4

// relay serves a tunnel whose client speaks HTTP/1.1 on conn, until its end or
// until the inner server takes over.
func (p *Proxy) relay(t *tunnel, conn net.Conn) {
	if !p.beginRelay() {
		_ = conn.Close()
		return
	}
	defer p.endRelay()
	f := &relay{errand: errand{p: p, t: t}, conn: conn}
	defer f.contain()
	f.ctx, f.end = context.WithCancel(p.base)
	defer f.end()
	f.slow = func() { f.startWatch(conn, f.end) }
	f.hint = f.sendHint
	limits := &p.settings.Limits
	until := time.Now().Add(limits.HeadTimeout) // for the first request, as net/http has it
	for f.rest(until) {
		if f.skipBlank(); len(f.in) == 0 {
			f.release()
			continue
		}
		switch f.serve() {
		case next:
			f.advance()
		case lent:
			if !f.visit() {
				return
			}
			f.now = time.Now()
		case over:
			_ = conn.Close()
			f.unwatch()
			f.release()
			return
		case other:
			all := f.replay()
			f.p.handOver(&all)
			return
		}
		until = wire.Lenient(f.now, limits.IdleTimeout)
	}
	_ = conn.Close()
}

// contain keeps a panic from ending more than this tunnel.
func (f *relay) contain() {
	if v := recover(); v != nil {
		f.p.panicked("a tunnel", v)
		_ = f.conn.Close()
		f.stopWatch(f.conn)
		f.letGo()
		if f.workspace != nil && f.record.emit != nil {
			f.record.finish()
		}
	}
}

// panicked logs what ended in a panic that is contained, as net/http does. What it
// says may hold anything, and is not logged.
func (p *Proxy) panicked(what string, v any) {
	p.with.Log.Error(what+" ended in a panic", "panic_type", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
}

// outcome is what follows a request.
type outcome int

const (
	next  outcome = iota // the next request
	over                 // the end of the tunnel
	lent                 // the inner server, with this request
	other                // the inner server, with this request and all others
)

// rest waits for the first bytes of a request, unless they are there. Meanwhile
// the tunnel holds no buffers and may be told to end.
func (f *relay) rest(until time.Time) bool {
	if f.workspace != nil {
		return true
	}
	if !f.t.rest(until) {
		return false
	}
	// When the others have had their turn, it may be there. A watch may read one byte more.
	runtime.Gosched()
	n, err := f.conn.Read(f.first[:len(f.first)-1])
	if !f.t.wake() || err != nil && n == 0 {
		return false
	}
	f.prepare()
	f.in = f.first[:n]
	return true
}

// skipBlank takes out the line ends that may come before a request.
func (f *relay) skipBlank() {
	for f.blank > 0 && len(f.in) > 0 && (f.in[0] == '\r' || f.in[0] == '\n') {
		f.in = f.in[:copy(f.in, f.in[1:])]
		f.blank--
	}
}

// advance takes the request that was served out of the buffer.
func (f *relay) advance() {
	left := copy(f.in, f.in[f.length():])
	f.in = f.in[:left]
	if left == 0 {
		f.release()
	}
}

// unwatch ends the watch, and keeps what it read.
func (f *relay) unwatch() { f.in = append(f.in, f.stopWatch(f.conn)...) }

// room is what the buffer has for more, but for the byte that a watch may read.
func (f *relay) room() []byte {
	f.hold(min(len(f.in)+1, bufferSize-1))
	return f.in[len(f.in) : cap(f.in)-1]
}

// replay is the connection as the inner server is to have it, from the first byte of
// the request on.
func (f *relay) replay() replay {
	f.unwatch()
	early := bytes.Clone(f.in)
	f.release()
	_ = f.conn.SetReadDeadline(time.Time{})
	return replay{Conn: f.conn, early: early}
}

// How long the body of a request may take to arrive on the fast path.
const bodyWait = time.Second

// serve reads a request, sends it on and its answer back.
func (f *relay) serve() outcome {
	began := time.Now()
	f.now = began
	if o := f.receive(began.Add(f.p.settings.Limits.HeadTimeout)); o != next {
		return o
	}
	if f.p.upstream.only2.has(f.t.authority) {
		return other // it would be so for each of them
	}
	ix := f.p.with.Index()
	if !f.admit(ix, began, "HTTP/1.1") {
		return lent
	}
	defer func() { f.now = f.record.finish() }()
	return f.exchange(ix.Strips(f.x.integration))
}

// receive reads the head, and the body where there is one.
func (f *relay) receive(deadline time.Time) outcome {
	for {
		n, err := f.request.Parse(f.in)
		if f.size = n; err == nil {
			break
		}
		if err == wire.ErrOdd || len(f.in) >= bufferSize-1 {
			return other
		}
		if f.more(deadline) != nil {
			return over // as net/http has it: to half a head there is no answer
		}
	}
	f.blank = 0
	if string(f.request.Method) == "POST" {
		f.blank = blankAfterPost
	}
	if f.size > f.p.settings.Limits.HeadBytes || f.request.Chunked || f.request.Expects ||
		f.request.Length > int64(bufferSize-1-f.size) || !f.t.isNamed(f.request.Host) {
		return lent
	}
	if len(f.in) < f.length() {
		f.hold(f.length())
		for until := f.now.Add(bodyWait); len(f.in) < f.length(); {
			if f.more(until) != nil {
				return lent
			}
		}
	}
	return next
}

// more reads more of the request, until the deadline.
func (f *relay) more(until time.Time) error {
	_ = f.conn.SetReadDeadline(until)
	n, err := f.conn.Read(f.room())
	f.in = f.in[:len(f.in)+n]
	f.now = time.Now()
	if n > 0 {
		return nil
	}
	return err
}
