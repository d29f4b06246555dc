package proxy

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"golang.org/x/net/http/httpguts"

	"attache"
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
	window int64 // room for its data; guarded by conn.mu
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
func (c *h2Conn) take(id uint32) bool {
	began := time.Now()
	if c.shrunk || c.listed > c.maxList() || c.t.isDraining() || c.p.upstream.only2.has(c.t.authority) {
		return false
	}
	s := c.stream()
	if s == nil {
		return false
	}
	ix := c.p.with.Index()
	if !s.parse(c) || !s.admit(ix, began, "HTTP/2.0") || !c.p.beginRelay() {
		s.rest()
		return false
	}
	s.id, s.strips = id, ix.Strips(s.x.integration)
	c.mu.Lock()
	s.window = c.initial
	c.taken[id] = s
	c.mu.Unlock()
	go s.serve()
	return true
}

// stream is one to be used, if there may be one more.
func (c *h2Conn) stream() *h2Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending || c.closed || c.busy+len(c.others) >= c.p.settings.Limits.Streams {
		return nil
	}
	c.busy++
	if last := len(c.idle) - 1; last >= 0 {
		s := c.idle[last]
		c.idle = c.idle[:last]
		return s
	}
	s := &h2Stream{errand: errand{p: c.p, t: c.t, slow: func() {}}, conn: c}
	s.ctx, s.end = context.WithCancel(c.ctx)
	s.hint, s.watcher = s.sendHint, noWatch
	return s
}

// rest ends the use of s.
func (s *h2Stream) rest() {
	if s.workspace != nil {
		s.release()
	}
	if s.conn.putBack(s) {
		_ = s.conn.shut()
	}
}

// parse makes a head of HTTP/1.1 of the request, and of that what the relay works
// with. It says no where the request is not plain, or for somebody else.
func (s *h2Stream) parse(c *h2Conn) bool {
	s.workspace, _ = workspaces.Get().(*workspace)
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
	cookies := 0
	for _, f := range c.fields[pseudo:] {
		if f.Name == "cookie" { // it may come in pieces (RFC 9113, section 8.2.3)
			cookies++
		}
		if in, ok = wire.AppendRequestField(in, f.Name, f.Value); !ok || cookies > 1 || len(in) > workspaceSize/2 {
			return false
		}
	}
	s.in = append(in, "\r\n"...)
	n, err := s.request.Parse(s.in)
	s.size = n
	return err == nil && n == len(s.in) && n <= s.p.settings.Limits.HeadBytes && s.request.Length == 0 && s.t.isNamed(s.request.Host)
}

// abandon ends a stream whose answer nobody wants.
func (s *h2Stream) abandon() {
	s.end()
	s.leave()
}

// serve sends the request on and its answer back.
func (s *h2Stream) serve() {
	defer s.p.endRelay()
	defer s.rest()
	defer s.contain()
	defer s.record.finish()
	c, why, ok := s.fetch(s.strips)
	s.open()
	switch {
	case !ok:
		s.detour()
	case why != nil:
		s.fail(*why)
	default:
		s.answer(c)
	}
	s.forget()
}

// open waits for the inner server's settings, which come before any answer.
func (s *h2Stream) open() {
	select {
	case <-s.conn.opened:
	case <-s.ctx.Done():
	}
}

// contain is as for a relay. A stream that ended in a panic is not used again.
func (s *h2Stream) contain() {
	if v := recover(); v != nil {
		s.p.with.Log.Error("a stream ended in a panic", "panic_type", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
		s.end()
		s.reset(wire.CodeInternal)
		s.workspace = nil
	}
}

// forget: the client waits for nothing any more.
func (s *h2Stream) forget() {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	delete(s.conn.taken, s.id)
}

// reset ends the stream without an answer, or inside it.
func (s *h2Stream) reset(code wire.Code) {
	s.forget()
	if !s.hasLeft() {
		_, _ = s.conn.Conn.Write(wire.AppendReset(nil, s.id, code))
	}
}

// appendHead writes the head of an answer as a header block. A length is that of
// what follows, which a hint and a 304 have not.
func (s *h2Stream) appendHead(block []byte) []byte {
	status := s.response.Status
	sized := status >= 200 && status != http.StatusNotModified
	block = wire.AppendStatus(block, status)
	for i := range s.response.Fields {
		f := &s.response.Fields[i]
		if isRelayedField(f) && (sized || !f.Is("content-length")) {
			block = wire.AppendField(block, f.Name, f.Value)
		}
	}
	return block
}

// appendHeader is for fields that net/http has read or made.
func appendHeader(block []byte, h http.Header) []byte {
	for name, values := range h {
		for _, v := range values {
			if httpguts.ValidHeaderFieldName(name) && httpguts.ValidHeaderFieldValue(v) {
				block = wire.AppendField(block, name, v)
			}
		}
	}
	return block
}

func (s *h2Stream) sendHint() error {
	s.open()
	out := s.appendHead(s.out[:wire.FrameHeadSize])
	return s.write(wire.SealHeaders(out, 0, s.id, 0))
}

// answer sends the upstream's answer to the client.
func (s *h2Stream) answer(c *wire.Conn) {
	b, out := s.begun(c)
	out, err := s.pass(c, b, out)
	if err != nil {
		s.discard(c)
		s.breakOff()
		return
	}
	s.giveBack(c, b)
	s.sendLast(out)
}

// begun writes the head of the answer.
func (s *h2Stream) begun(c *wire.Conn) (body, []byte) {
	s.record.Status = s.response.Status
	out := s.out[:wire.FrameHeadSize]
	if r := s.parsed; r != nil {
		relayable(r.Header)
		if r.StatusCode == http.StatusNotModified {
			r.Header.Del("Content-Length")
		}
		out = appendHeader(wire.AppendStatus(out, r.StatusCode), r.Header)
		return body{Reader: r.Body}, wire.SealHeaders(out, 0, s.id, 0)
	}
	s.body.Begin(c, &s.response, s.request.Method)
	return body{Reader: &s.body, wire: &s.body}, wire.SealHeaders(s.appendHead(out), 0, s.id, endFlag(s.body.Ended()))
}

// breakOff ends a stream inside its answer.
func (s *h2Stream) breakOff() {
	if s.record.Code == "" {
		s.record.failed(clientGone)
	}
	s.reset(wire.CodeInternal)
}

// sendLast sends what ends the stream.
func (s *h2Stream) sendLast(b []byte) {
	s.forget()
	if _, err := s.conn.Conn.Write(b); err != nil && s.record.Code == "" {
		s.record.failed(clientGone)
	}
}

// endFlag is the flag of a frame that may be a stream's last.
func endFlag(ended bool) byte {
	if ended {
		return wire.FlagEndStream
	}
	return 0
}

// pass sends a head, which out holds, and the body after it, each piece when it
// comes, and returns the last piece unsent.
func (s *h2Stream) pass(c *wire.Conn, b body, out []byte) ([]byte, error) {
	for b.wire == nil || !b.wire.Ended() {
		room, _ := s.conn.reserve(s, maxPiece)
		if len(out) > 0 && (room == 0 || b.wire == nil || len(c.Buffered()) == 0 || cap(out)-len(out) < wire.FrameHeadSize+maxPiece) {
			if err := s.write(out); err != nil {
				return nil, err
			}
			out = s.out[:0]
		}
		if room == 0 {
			var err error
			if room, err = s.conn.await(s.ctx, s, maxPiece); err != nil {
				return nil, err
			}
		}
		at, from := len(out), len(out)+wire.FrameHeadSize
		n, err := s.read(c, b, out[from:from+int(room)])
		s.conn.spend(s, room, int64(n))
		s.record.out.Add(int64(n))
		if err == io.EOF {
			return s.finish(out[:from+n], at, b), nil
		}
		if n > 0 {
			out = out[:from+n]
			wire.FrameHead{Type: wire.FrameData, Length: n, Stream: s.id}.Put(out[at:])
		}
		if len(out) > 0 {
			if failed := s.write(out); failed != nil {
				return nil, failed
			}
			out = s.out[:0]
		}
		if err != nil {
			s.record.failed(s.x.brokenOff())
			return nil, err
		}
	}
	return out, nil
}

// finish makes what out holds from there on the last data, with what follows it.
func (s *h2Stream) finish(out []byte, at int, b body) []byte {
	h := wire.FrameHead{Type: wire.FrameData, Length: len(out) - at - wire.FrameHeadSize, Stream: s.id}
	end := len(out)
	out = append(out, make([]byte, wire.FrameHeadSize)...)
	out = s.appendTrailer(out, b)
	if len(out) > end+wire.FrameHeadSize {
		h.Put(out[at:])
		return wire.SealHeaders(out, end, s.id, wire.FlagEndStream)
	}
	h.Flags = wire.FlagEndStream
	h.Put(out[at:])
	return out[:end]
}

func (s *h2Stream) write(b []byte) error {
	_, err := s.conn.Conn.Write(b)
	return err
}

// maxPiece makes a frame of data that fits in one TLS record.
const maxPiece = wire.MaxFrame - wire.FrameHeadSize

// appendTrailer writes what follows a body in chunks as a header block.
func (s *h2Stream) appendTrailer(block []byte, b body) []byte {
	if b.wire == nil {
		maps.DeleteFunc(s.parsed.Trailer, func(name string, _ []string) bool { return !isTrailer(name) })
		return appendHeader(block, s.parsed.Trailer)
	}
	for _, f := range b.wire.Trailer() {
		if isTrailer(http.CanonicalHeaderKey(string(f.Name))) {
			block = wire.AppendField(block, f.Name, f.Value)
		}
	}
	return block
}

// isTrailer tells whether a field that is relayed means anything after a body.
func isTrailer(name string) bool { return isRelayed(name) && httpguts.ValidTrailerHeader(name) }

// fail answers in the upstream's place.
func (s *h2Stream) fail(why problem) {
	resp := s.x.fail(why, &http.Request{Method: s.record.Method})
	if why.code == attache.CodeClientGone {
		s.reset(wire.CodeCancel)
		return
	}
	s.record.Status = resp.StatusCode
	text, _ := io.ReadAll(resp.Body) // from memory
	if s.record.Method == http.MethodHead {
		text = nil
	}
	out := wire.AppendStatus(s.out[:wire.FrameHeadSize], resp.StatusCode)
	out = wire.SealHeaders(appendHeader(out, resp.Header), 0, s.id, endFlag(len(text) == 0))
	for len(text) > 0 {
		if err := s.write(out); err != nil {
			break
		}
		room, err := s.conn.await(s.ctx, s, int64(len(text)))
		if err != nil {
			s.breakOff()
			return
		}
		s.conn.spend(s, room, room)
		s.record.out.Add(room)
		h := wire.FrameHead{Type: wire.FrameData, Length: int(room), Stream: s.id, Flags: endFlag(int(room) == len(text))}
		out = append(h.Append(out[:0]), text[:room]...)
		text = text[room:]
	}
	s.sendLast(out)
}

// detour is for an origin that wants HTTP/2 alone, which that turned out now: the
// inner server has passed the stream's number, and gets the request over a
// connection of its own.
func (s *h2Stream) detour() {
	s.p.upstream.only2.add(s.t.authority)
	ours, theirs := net.Pipe()
	defer ours.Close()
	c := &wire.Conn{Conn: ours}
	s.bound(c, time.Now().Add(s.p.upstream.read))
	defer s.unbound()
	if !s.p.tunnels.give(&detour{theirs, s.t}) {
		s.reset(wire.CodeInternal)
		return
	}
	_, err := c.Write(s.in)
	if err == nil {
		s.parsed, err = readOdd(c, s.record.Method, s.p.upstream.head)
	}
	if err != nil {
		s.reset(wire.CodeInternal)
		return
	}
	b, out := s.begun(c)
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

// RemoteAddr implements [net.Conn].
func (d *detour) RemoteAddr() net.Addr { return d.t.RemoteAddr() }
