package proxy_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2Peer is a client that speaks HTTP/2 frame by frame, and says nothing but what a
// test has it say.
type h2Peer struct {
	*http2.Framer
	t       testing.TB
	conn    net.Conn
	block   bytes.Buffer
	encoder *hpack.Encoder
	decoder *hpack.Decoder
	fields  []hpack.HeaderField // of the block that is being read
	streams map[uint32]*h2Answer
	stingy  bool        // grants no room for data
	frame   http2.Frame // the last one
	last    uint32      // the last stream that the proxy says it serves
	ended   error       // how the connection ended
	code    http2.ErrCode
}

// h2Answer is what came on a stream.
type h2Answer struct {
	heads [][]hpack.HeaderField
	data  bytes.Buffer
	ended bool
	reset http2.ErrCode
	cut   bool // by a reset
}

func newH2Peer(t testing.TB, conn net.Conn, settings ...http2.Setting) *h2Peer {
	t.Helper()
	p := &h2Peer{Framer: http2.NewFramer(conn, conn), t: t, conn: conn, streams: map[uint32]*h2Answer{}}
	p.AllowIllegalWrites, p.AllowIllegalReads = true, true
	p.encoder = hpack.NewEncoder(&p.block)
	p.decoder = hpack.NewDecoder(4096, func(f hpack.HeaderField) { p.fields = append(p.fields, f) })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(conn, http2.ClientPreface)
	_ = p.WriteSettings(settings...)
	return p
}

// pairs are names and values.
func pairs(text ...string) (fields []hpack.HeaderField) {
	for i := 0; i+1 < len(text); i += 2 {
		fields = append(fields, hpack.HeaderField{Name: text[i], Value: text[i+1]})
	}
	return fields
}

// plain is a request for the authority, with more fields.
func plainH2(authority, path string, more ...string) []hpack.HeaderField {
	return append(pairs(":method", "GET", ":scheme", "https", ":authority", authority, ":path", path), pairs(more...)...)
}

// encode is a header block.
func (p *h2Peer) encode(fields []hpack.HeaderField) []byte {
	p.block.Reset()
	for _, f := range fields {
		_ = p.encoder.WriteField(f)
	}
	return bytes.Clone(p.block.Bytes())
}

// ask sends a request without a body.
func (p *h2Peer) ask(id uint32, fields []hpack.HeaderField) {
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.encode(fields), EndStream: true, EndHeaders: true})
}

func (p *h2Peer) stream(id uint32) *h2Answer {
	if p.streams[id] == nil {
		p.streams[id] = &h2Answer{}
	}
	return p.streams[id]
}

// read takes one frame, and says no at the end of the connection.
func (p *h2Peer) read() bool {
	if p.ended != nil {
		return false
	}
	f, err := p.ReadFrame()
	if err != nil {
		p.ended = err
		return false
	}
	p.frame = f
	end := false
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			_ = p.WriteSettingsAck()
		}
	case *http2.HeadersFrame:
		p.decode(f.StreamID, f.HeaderBlockFragment(), f.HeadersEnded())
		end = f.StreamEnded()
	case *http2.ContinuationFrame:
		p.decode(f.StreamID, f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.DataFrame:
		p.stream(f.StreamID).data.Write(f.Data())
		if end = f.StreamEnded(); f.Length > 0 && !p.stingy {
			_ = p.WriteWindowUpdate(0, f.Length)
			_ = p.WriteWindowUpdate(f.StreamID, f.Length)
		}
	case *http2.RSTStreamFrame:
		s := p.stream(f.StreamID)
		if end = true; !s.cut { // data that was on its way may be refused again
			s.reset, s.cut = f.ErrCode, true
		}
	case *http2.GoAwayFrame:
		p.last, p.code = f.LastStreamID, f.ErrCode
	}
	if end {
		p.stream(f.Header().StreamID).ended = true
	}
	return true
}

func (p *h2Peer) decode(id uint32, fragment []byte, end bool) {
	if _, err := p.decoder.Write(fragment); err != nil {
		p.t.Errorf("stream %d: header block: %v", id, err)
	}
	if end {
		s := p.stream(id)
		s.heads = append(s.heads, p.fields)
		p.fields = nil
	}
}

// wait reads until the stream has ended, or the connection.
func (p *h2Peer) wait(id uint32) *h2Answer {
	for s := p.stream(id); !s.ended && p.read(); {
	}
	return p.stream(id)
}

// drain reads until the connection ends, and returns why it did.
func (p *h2Peer) drain() error {
	for p.read() {
	}
	if errors.Is(p.ended, io.EOF) {
		return nil
	}
	return p.ended
}

// status is that of the last head with one; 0: there is none.
func (s *h2Answer) status() int {
	status := 0
	for _, h := range s.heads {
		for _, f := range h {
			if f.Name == ":status" {
				status, _ = strconv.Atoi(f.Value)
			}
		}
	}
	return status
}

// answers is the stream as the differential tests compare it, hints first.
func (s *h2Answer) answers() (all []answered) {
	for _, fields := range s.heads {
		h, status := http.Header{}, 0
		for _, f := range fields {
			if f.Name == ":status" {
				status, _ = strconv.Atoi(f.Value)
				continue
			}
			if http.CanonicalHeaderKey(f.Name) == f.Name {
				h.Add("Not-Lower-Case", f.Name)
			}
			h.Add(f.Name, f.Value)
		}
		if length := h.Get("Content-Length"); length != "" {
			h["X-Length"] = []string{length} // it is part of what is said here, not of the framing
		}
		normal(h)
		if status == 0 && len(all) > 0 {
			all[len(all)-1].Trailer = h
			continue
		}
		all = append(all, answered{Status: status, Header: h})
	}
	if len(all) == 0 {
		return []answered{{Err: s.cut}}
	}
	last := &all[len(all)-1]
	last.Body, last.Err = s.data.String(), s.cut || !s.ended
	if last.Header.Get("Content-Type") == "application/problem+json" {
		delete(last.Header, "X-Length")
		last.Body = requestID.ReplaceAllString(last.Body, "")
	}
	if last.Status == http.StatusBadGateway {
		last.Body = ""
		delete(last.Header, "Attache-Error")
		delete(last.Header, "Proxy-Status")
	}
	return all
}

// echo says which protocol a request came by, and what its body was.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, _ = fmt.Fprintf(w, "%s %s %s", r.Proto, r.URL.Path, body)
}

func (w *world) h2(settings ...http2.Setting) *h2Peer {
	w.t.Helper()
	conn := w.secure(w.open(w.upstream.authority(host)), host, "h2")
	w.t.Cleanup(func() { _ = conn.Close() })
	return newH2Peer(w.t, conn, settings...)
}

// post sends a request with a body of unknown length, which is not for the fast path.
func (p *h2Peer) post(id uint32, fields []hpack.HeaderField, body string) {
	fields[0].Value = "POST"
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.encode(fields), EndHeaders: true})
	_ = p.WriteData(id, true, []byte(body))
}

// speaker is a raw HTTP/1.1 upstream. answer writes the whole answer.
func speaker(t testing.TB, answer func(c net.Conn, r *http.Request)) *origin {
	return rawUpstream(t, func(c net.Conn, br *bufio.Reader) {
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			answer(c, r)
		}
	})
}

// sized writes an answer of n bytes.
func sized(c net.Conn, n int) {
	fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", n)
	for piece := strings.Repeat("x", 8<<10); n > 0; n -= len(piece) {
		if _, err := io.WriteString(c, piece[:min(n, len(piece))]); err != nil {
			return
		}
	}
}

// postTo is a request with a body, which the inner server gets.
func (p *h2Peer) postTo(id uint32, authority, path string) {
	p.post(id, plainH2(authority, path), "body")
}

// until reads frames, and grants no room, until one is what is wanted.
func (p *h2Peer) until(d time.Duration, is func(http2.Frame) bool) bool {
	_ = p.conn.SetReadDeadline(time.Now().Add(d))
	defer func(stingy bool) { p.stingy = stingy }(p.stingy)
	p.stingy = true
	for p.read() {
		if is(p.frame) {
			return true
		}
	}
	return false
}

func isHead(id uint32) func(http2.Frame) bool {
	return func(f http2.Frame) bool { h, ok := f.(*http2.HeadersFrame); return ok && h.StreamID == id }
}

// takeAll has the fast path use up the room on the connection.
func (p *h2Peer) takeAll(t testing.TB, id uint32, n int) {
	t.Helper()
	if !p.until(5*time.Second, func(f http2.Frame) bool {
		d, ok := f.(*http2.DataFrame)
		if ok && d.StreamID == id {
			n -= len(d.Data())
		}
		return n <= 0
	}) {
		t.Fatalf("stream %d stopped with %d bytes to come: %v", id, n, p.ended)
	}
}

// fieldOf is the value of a field of the stream's first head.
func (s *h2Answer) fieldOf(name string) string {
	if len(s.heads) > 0 {
		for _, f := range s.heads[0] {
			if f.Name == name {
				return f.Value
			}
		}
	}
	return ""
}

// pong waits for the answer to a ping, and reads what comes before it.
func (p *h2Peer) pong() bool {
	_ = p.WritePing(false, [8]byte{7})
	for p.ended == nil {
		f, err := p.ReadFrame()
		if err != nil {
			p.ended = err
			return false
		}
		if g, ok := f.(*http2.PingFrame); ok && g.IsAck() {
			return true
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			p.last, p.code = g.LastStreamID, g.ErrCode
		}
		if d, ok := f.(*http2.DataFrame); ok {
			p.stream(d.StreamID).data.Write(d.Data())
		}
		if h, ok := f.(*http2.HeadersFrame); ok {
			p.decode(h.StreamID, h.HeaderBlockFragment(), h.HeadersEnded())
		}
		if r, ok := f.(*http2.RSTStreamFrame); ok {
			s := p.stream(r.StreamID)
			s.ended, s.reset, s.cut = true, r.ErrCode, true
		}
	}
	return false
}

// trailing answers GET with what fills the room, and POST with what the paths say.
func trailing(t testing.TB) *origin {
	return speaker(t, func(c net.Conn, r *http.Request) {
		switch {
		case r.Method == "GET":
			sized(c, 65535)
		case r.URL.Path == "/trailer":
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-A: one\r\nX-B: two\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\nX-Sum: three\r\n\r\n")
		default:
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-A: one\r\nX-B: two\r\nContent-Length: 0\r\n\r\n")
		}
	})
}

// filler answers a GET with as much as the room that there is at first, so that
// there is none for the answer to a POST.
func filler(t testing.TB) *origin {
	return speaker(t, func(c net.Conn, r *http.Request) {
		if r.Method == "POST" {
			sized(c, 8<<10)
			return
		}
		sized(c, 65535)
	})
}

// haveHeld takes the last of the connection's room, and gets the head of an answer on
// stream 3 whose data have to wait.
func (p *h2Peer) haveHeld(t testing.TB, authority string) {
	t.Helper()
	p.ask(1, plainH2(authority, "/"))
	p.takeAll(t, 1, 65535)
	p.postTo(3, authority, "/")
	if !p.until(5*time.Second, isHead(3)) {
		t.Fatal(p.ended)
	}
}

// newBlocks is an encoder alone.
func newBlocks() *h2Peer {
	p := &h2Peer{}
	p.encoder = hpack.NewEncoder(&p.block)
	return p
}

// heldRequest is a client that waits for the answer on stream 1, which comes, with
// two bytes, when it is set free.
func heldRequest(t testing.TB) (p *h2Peer, free func()) {
	asked, release := make(chan struct{}, 1), make(chan struct{})
	up := speaker(t, func(c net.Conn, _ *http.Request) {
		asked <- struct{}{}
		<-release
		sized(c, 2)
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	free = sync.OnceFunc(func() { close(release) })
	p = w.h2()
	p.ask(1, plainH2(up.authority(host), "/"))
	<-asked
	return p, free
}

func isSettingsAck(f http2.Frame) bool { s, ok := f.(*http2.SettingsFrame); return ok && s.IsAck() }
