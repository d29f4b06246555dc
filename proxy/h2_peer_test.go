package proxy_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
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
	stingy  bool   // grants no room for data
	last    uint32 // the last stream that the proxy says it serves
	ended   error  // how the connection ended
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
