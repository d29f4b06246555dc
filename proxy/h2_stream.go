package proxy

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/http/httpguts"

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
	window int64         // room for its data; guarded by conn.mu
	wrong  wire.Code     // what the client has done to it; guarded by conn.mu
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
	if c.listed > c.maxList || c.t.isDraining() {
		return false
	}
	s := c.stream()
	if s == nil {
		return false
	}
	ix := c.p.with.Index()
	if !s.parse(c) || !s.admit(ix, began, "HTTP/2.0") || !c.p.beginRelay() {
		s.retire()
		return false
	}
	s.strips = ix.Strips(s.x.integration)
	if !c.register(s, id) {
		c.p.endRelay()
		s.retire()
		return false
	}
	go s.serve()
	return true
}

// stream is one to be used, if there may be one more.
func (c *h2Conn) stream() *h2Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.table.isSettling() || c.ending || c.closed || c.isFull() ||
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
		errand: errand{p: c.p, t: c.t, pool: &smallWorkspaces, slow: func() {}},
		conn:   c,
		moved:  make(chan struct{}, 1),
	}
	s.ctx, s.end = context.WithCancel(c.ctx)
	s.hint, s.watcher = s.sendHint, noWatch
	return s
}

// register makes s the stream of that number, unless there are to be none any more.
func (c *h2Conn) register(s *h2Stream, id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending || c.closed {
		return false
	}
	s.id, s.window, s.wrong = id, c.initial, wire.CodeNone
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
// with. It says no where the request is not plain, or for somebody else.
func (s *h2Stream) parse(c *h2Conn) bool {
	s.workspace, _ = s.pool.Get().(*workspace)
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
		if in, ok = wire.AppendRequestField(in, f.Name, f.Value); !ok || cookies > 1 || len(in) > smallWorkspaceSize/2 {
			return false
		}
	}
	switch method {
	case "POST", "PUT", "PATCH": // without a body, which has to be said
		in = append(in, "Content-Length: 0\r\n"...)
	}
	s.in = append(in, "\r\n"...)
	n, err := s.request.Parse(s.in)
	s.size = n
	return err == nil && n == len(s.in) && n <= s.p.settings.Limits.HeadBytes && s.request.Length == 0 && s.t.isNamed(s.request.Host)
}

// abandon ends a stream whose answer nobody wants, or whose client has done
// something wrong. It is called with conn.mu held.
func (s *h2Stream) abandon(wrong wire.Code) {
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
	c, why, ok := s.fetch(s.strips)
	s.conn.awaitSettings(s.ctx)
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

// block is the beginning of a header block at the end of out.
func (s *h2Stream) block(out []byte) []byte {
	out = append(out, make([]byte, wire.FrameHeadSize)...)
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.conn.table.none {
		out = append(out, wire.EmptyTable)
	}
	return out
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
	s.conn.awaitSettings(s.ctx)
	out := s.appendHead(s.block(s.out[:0]))
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
	out := s.block(s.out[:0])
	if s.parsed != nil {
		relayable(s.parsed.Header)
		return s.begunOdd(out)
	}
	s.body.Begin(c, &s.response, s.request.Method)
	return body{Reader: &s.body, wire: &s.body}, wire.SealHeaders(s.appendHead(out), 0, s.id, endFlag(s.body.Ended()))
}

// begunOdd is begun for an answer that net/http has read.
func (s *h2Stream) begunOdd(out []byte) (body, []byte) {
	r := s.parsed
	if r.StatusCode == http.StatusNotModified {
		r.Header.Del("Content-Length")
	}
	out = appendHeader(wire.AppendStatus(out, r.StatusCode), r.Header)
	return body{Reader: r.Body}, wire.SealHeaders(out, 0, s.id, 0)
}

// breakOff ends a stream inside its answer.
func (s *h2Stream) breakOff() {
	if s.record.Code == "" {
		s.record.failed(clientGone)
	}
	s.reset(wire.CodeInternal)
}

// sendLast sends what ends the stream. Its event comes before: then whoever has the
// answer finds it, and that of the tunnel is the last.
func (s *h2Stream) sendLast(b []byte) {
	s.forget()
	s.record.finish()
	_ = s.write(b)
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
		if len(out) > 0 && (b.wire == nil || len(c.Buffered()) == 0 || cap(out)-len(out) < wire.FrameHeadSize+maxPiece) {
			if err := s.write(out); err != nil {
				return nil, err
			}
			out = s.out[:0]
		}
		at, from := len(out), len(out)+wire.FrameHeadSize
		n, err := s.read(c, b, out[from:from+maxPiece])
		s.record.out.Add(int64(n))
		var failed error
		out, at, failed = s.fit(out[:from+n], at)
		switch {
		case failed != nil:
			return nil, failed
		case err == io.EOF:
			return s.appendEnd(out, at, b), nil
		case n == 0:
			out = out[:at]
		}
		if len(out) > 0 {
			if failed = s.write(out); failed != nil {
				return nil, failed
			}
		}
		if err != nil {
			s.record.failed(s.x.brokenOff())
			return nil, err
		}
		out = s.out[:0]
	}
	return out, nil
}

// fit makes frames of the data that out ends with, as the client grants room for
// it. It sends all but the last, and returns that and where it is.
func (s *h2Stream) fit(out []byte, at int) ([]byte, int, error) {
	wait := patience{limit: s.p.settings.Limits.WriteTimeout}
	defer wait.end()
	for {
		data := len(out) - at - wire.FrameHeadSize
		n := int(s.conn.reserve(s, int64(data)))
		if n == 0 && data > 0 {
			if at > 0 {
				if err := s.write(out[:at]); err != nil {
					return nil, 0, err
				}
				out, at = out[at:], 0
			}
			var err error
			if n, err = s.conn.await(s, data, &wait); err != nil {
				return nil, 0, err
			}
		}
		wire.FrameHead{Type: wire.FrameData, Length: n, Stream: s.id}.Put(out[at:])
		if n == data {
			return out, at, nil
		}
		if err := s.write(out[:at+wire.FrameHeadSize+n]); err != nil {
			return nil, 0, err
		}
		out, at = out[at+n:], 0 // the next head takes the place of data that is gone
	}
}

// appendEnd makes what out holds from there on the last data, with what follows it.
func (s *h2Stream) appendEnd(out []byte, at int, b body) []byte {
	h := wire.FrameHead{Type: wire.FrameData, Length: len(out) - at - wire.FrameHeadSize, Stream: s.id}
	end := len(out)
	out = s.block(out)
	empty := len(out)
	out = s.appendTrailer(out, b)
	if len(out) > empty {
		h.Put(out[at:])
		return wire.SealHeaders(out, end, s.id, wire.FlagEndStream)
	}
	h.Flags = wire.FlagEndStream
	h.Put(out[at:])
	return out[:end]
}

// write sends frames. A client that cannot be written to is given up.
func (s *h2Stream) write(b []byte) error {
	_, err := s.conn.Conn.Write(b)
	if err != nil {
		_ = s.conn.shut()
	}
	return err
}

// maxPiece makes a frame of data that fits in one TLS record.
const maxPiece = wire.MaxFrame - wire.FrameHeadSize

// appendTrailer writes what follows a body in chunks as a header block.
func (s *h2Stream) appendTrailer(block []byte, b body) []byte {
	if b.wire == nil && s.parsed == nil { // it is an answer of ours
		return block
	}
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
	if why.code == clientGone.code {
		s.reset(wire.CodeCancel)
		return
	}
	s.record.Status = resp.StatusCode
	text, _ := io.ReadAll(resp.Body) // from memory
	if s.record.Method == http.MethodHead {
		text = nil
	}
	out := appendHeader(wire.AppendStatus(s.block(s.out[:0]), resp.StatusCode), resp.Header)
	out = wire.SealHeaders(out, 0, s.id, endFlag(len(text) == 0))
	if len(text) > 0 {
		s.record.out.Add(int64(len(text)))
		at := len(out)
		out = append(append(out, make([]byte, wire.FrameHeadSize)...), text...)
		var err error
		if out, at, err = s.fit(out, at); err != nil {
			s.breakOff()
			return
		}
		out = s.appendEnd(out, at, body{})
	}
	s.sendLast(out)
}

// detour is for an origin that, as it now turns out, speaks HTTP/2 alone. The inner
// server has passed that stream's number, so it gets the request over a connection
// of its own.
func (s *h2Stream) detour() {
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
