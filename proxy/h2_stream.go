package proxy

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"

	"attache/policy"
	"attache/wire"
)

// h2Stream is a request of an [h2Conn] on the fast path, and its answer, on a
// goroutine of its own.
type h2Stream struct {
	errand
	conn   *h2Conn
	id     uint32
	strips *policy.StripSet
	moved  chan struct{} // says that there may be room, or that it is its turn

	// conn.mu guards what follows, and in while the client sends.
	window int64     // room for its data
	lacks  int64     // of the request's body
	ended  bool      // the client has sent all
	wrong  wire.Code // what the client has done to it
}

// noWatch stands for the watch on a client: the reader of its connection sees it
// leave.
var noWatch = func() chan struct{} {
	ended := make(chan struct{})
	close(ended)
	return ended
}()

// take begins a stream with the fields that were read, where they are a plain
// request that gets a credential. Otherwise nothing has happened.
func (c *h2Conn) take(h wire.FrameHead) (taken bool) {
	began, ended := time.Now(), h.Flags&wire.FlagEndStream != 0
	if c.listed > c.maxList || c.t.isDraining() || !ended && !c.maySend() {
		return false
	}
	s := c.stream()
	if s == nil {
		return false
	}
	defer func() {
		if !taken {
			s.retire()
		}
	}()
	s.now = began
	ix := c.p.with.Index()
	if c.p.upstream.only2.has(c.t.authority) || !s.parse(c, ended) || !s.admit(ix, began, "HTTP/2.0") || !c.p.beginRelay() {
		return false
	}
	defer func() {
		if !taken {
			c.p.endRelay()
		}
	}()
	s.strips = ix.Strips(s.x.integration)
	if !c.register(s, h.Stream, ended) {
		return false
	}
	if !ended {
		c.sending = append(c.sending, h.Stream)
	}
	go s.serve()
	return true
}

// stream is one to be used, if there may be one more.
func (c *h2Conn) stream() *h2Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending || c.closed || c.isFull() ||
		c.busy >= c.p.settings.Limits.Streams { // some may not have sent all of their answers
		return nil
	}
	c.busy++
	if last := len(c.idle) - 1; last >= 0 {
		s := c.idle[last]
		c.idle = c.idle[:last]
		return s
	}
	s := &h2Stream{
		errand: errand{p: c.p, t: c.t, slow: func() {}},
		conn:   c,
		moved:  make(chan struct{}, 1),
	}
	s.ctx, s.end = context.WithCancel(c.ctx)
	s.hint, s.watcher = s.sendHint, noWatch
	return s
}

// register makes s the stream of that number, unless there are to be none any more.
func (c *h2Conn) register(s *h2Stream, id uint32, ended bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending || c.closed {
		return false
	}
	s.id, s.window, s.lacks, s.ended, s.wrong = id, c.initial, s.request.Length, ended, wire.CodeNone
	c.taken[id] = s
	c.top = id
	return true
}

// maxIdleStreams is how many are kept to be used again.
const maxIdleStreams = 16

// retire ends the use of s, and the connection, if that waited for it.
func (s *h2Stream) retire() {
	if s.workspace != nil {
		s.release()
	}
	c := s.conn
	c.lessBusy(func() {
		c.rested = time.Now()
		if s.ctx.Err() == nil && len(c.idle) < maxIdleStreams {
			c.idle = append(c.idle, s)
		} else {
			s.end()
		}
	})
}

// parse makes a head of HTTP/1.1 of the request, and of that what the relay works
// with. It says no where the request is not plain, or for somebody else, or a body
// of unknown length is to follow, or a large one.
func (s *h2Stream) parse(c *h2Conn, ended bool) bool {
	s.prepare()
	s.hold(c.listed)
	var method, path, authority, scheme string
	pseudo := 0
	for _, f := range c.fields {
		if !f.IsPseudo() {
			break
		}
		pseudo++
		switch f.Name {
		case ":method":
			method = f.Value
		case ":path":
			path = f.Value
		case ":authority":
			authority = f.Value
		case ":scheme":
			scheme = f.Value
		}
	}
	in, ok := wire.AppendRequestLine(s.in[:0], method, path, authority)
	if !ok || pseudo != 4 || scheme != "https" {
		return false
	}
	cookies, sized := 0, false
	for _, f := range c.fields[pseudo:] {
		switch f.Name {
		case "cookie": // it may come in pieces (RFC 9113, section 8.2.3)
			cookies++
		case "content-length":
			if sized || len(f.Value) > 18 || strings.Trim(f.Value, "0123456789") != "" {
				return false
			}
			in, sized = append(append(append(in, "Content-Length: "...), f.Value...), "\r\n"...), true
			continue
		}
		if in, ok = wire.AppendRequestField(in, f.Name, f.Value); !ok || cookies > 1 || len(in) > bufferSize/2 {
			return false
		}
	}
	if !sized && (method == "POST" || method == "PUT" || method == "PATCH") { // that there is no body has to be said
		in = append(in, "Content-Length: 0\r\n"...)
	}
	s.in = append(in, "\r\n"...)
	n, err := s.request.Parse(s.in)
	s.size = n
	if err != nil || n < len(s.in) || n > s.p.settings.Limits.HeadBytes || ended != (s.request.Length == 0) ||
		s.request.Length > int64(bufferSize-1-n) || s.request.Chunked || s.request.Expects || !s.t.isNamed(s.request.Host) {
		return false
	}
	s.hold(s.length())
	return true
}

// abandon ends a stream whose answer nobody wants, or whose client has done
// something wrong. It is called with conn.mu held.
func (s *h2Stream) abandon(wrong wire.Code) {
	delete(s.conn.taken, s.id)
	s.wrong = wrong
	s.end()
	s.leave()
}

// serve sends the request on and its answer back.
func (s *h2Stream) serve() {
	defer s.p.endRelay()
	defer s.retire()
	defer s.contain()
	defer s.record.finish()
	if s.request.Length > 0 && !s.readBody() {
		return
	}
	c, why, ok := s.fetch(s.strips)
	s.conn.awaitSettings()
	switch {
	case !ok:
		s.detour()
	case why != nil:
		s.fail(*why)
	default:
		s.answer(c)
	}
}

// contain is as for a relay. A stream that ended in a panic is not used again.
func (s *h2Stream) contain() {
	if v := recover(); v != nil {
		s.p.panicked("a stream", v)
		s.letGo()
		s.end()
		s.reset(wire.CodeInternal)
		s.workspace = nil
	}
}

// forget: the client waits for nothing any more. It returns what that has done
// wrong.
func (s *h2Stream) forget() wire.Code {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	delete(s.conn.taken, s.id)
	return s.wrong
}

// reset ends the stream without an answer, or inside it. To one that has ended it
// for a reason of its own, the client is told nothing.
func (s *h2Stream) reset(code wire.Code) {
	wrong := s.forget()
	s.record.finish()
	switch {
	case wrong != wire.CodeNone:
		code = wrong
	case s.hasLeft():
		return
	}
	_ = s.write(wire.AppendReset(nil, s.id, code))
}

// detour is for what now turns out not to be for the fast path: the origin speaks HTTP/2
// alone, or the request may not be sent any more when its body is there. The inner server
// has passed that stream's number, so it gets the request over a connection of its own.
func (s *h2Stream) detour() {
	ours, theirs := net.Pipe()
	defer ours.Close()
	var err error
	given := s.p.tunnels.give(&detour{theirs, s.t})
	if given {
		_, err = ours.Write(s.in[:s.size])
	}
	if !given || err != nil {
		s.record.failed(ending)
		s.reset(wire.CodeInternal)
		return
	}
	s.record.drop()             // the inner server has read the head, and sees to the event
	c := &wire.Conn{Conn: ours} // of no pool, so it is not given back
	s.bound(c, time.Now().Add(s.p.upstream.read))
	defer s.unbound()
	var sent sync.WaitGroup
	sent.Go(func() { _, _ = ours.Write(s.in[s.size:]) }) // the answer may come before it is read
	defer func() { _ = ours.Close(); sent.Wait() }()
	if err = s.parseOdd(c); err != nil {
		s.reset(wire.CodeInternal)
		return
	}
	for k := range hopByHop { // the rest has been seen to by the inner server
		s.parsed.Header.Del(k)
	}
	b, out := s.begunOdd(s.block(s.out[:0]))
	if out, err = s.pass(c, b, out); err != nil {
		s.breakOff()
		return
	}
	s.sendLast(out)
}

// detour is the inner server's side of the connection for a request that the fast
// path cannot send.
type detour struct {
	net.Conn
	t *tunnel
}

// detourKey is in the context of a request that takes one.
type detourKey struct{}

// RemoteAddr implements [net.Conn].
func (d *detour) RemoteAddr() net.Addr { return d.t.RemoteAddr() }
