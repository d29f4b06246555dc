package proxy

import (
	"io"
	"maps"
	"net/http"

	"golang.org/x/net/http/httpguts"

	"attache/wire"
)

// block is the beginning of a header block at the end of out. Each says that it
// needs no table: one of them has to, after the client's became smaller (RFC 7541,
// section 4.2).
func (s *h2Stream) block(out []byte) []byte {
	out = append(out, make([]byte, wire.FrameHeadSize)...)
	return append(out, wire.EmptyTable)
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
	s.conn.awaitSettings()
	out := s.block(s.out[:0])
	if r := s.parsed; r != nil {
		relayable(r.Header)
		delete(r.Header, "Content-Length")
		out = appendHeader(wire.AppendStatus(out, r.StatusCode), r.Header)
	} else {
		out = s.appendHead(out)
	}
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
		piece := int(min(b.left(), maxPiece))
		out = s.spacious(out, int64(wire.FrameHeadSize+piece))
		if len(out) > 0 && (b.wire == nil || len(c.Buffered()) == 0 || cap(out)-len(out) < wire.FrameHeadSize+piece) {
			if err := s.write(out); err != nil {
				return nil, err
			}
			out = s.spacious(s.out[:0], int64(wire.FrameHeadSize+piece)) // a long head has one of its own
		}
		at, from := len(out), len(out)+wire.FrameHeadSize
		n, err := s.read(c, b, out[from:from+piece])
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
		s.record.BytesOut += int64(n)
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
		maps.DeleteFunc(s.parsed.Trailer, isNoTrailer)
		return appendHeader(block, s.parsed.Trailer)
	}
	for _, f := range b.wire.Trailer() {
		if isTrailer(http.CanonicalHeaderKey(string(f.Name))) {
			block = wire.AppendField(block, f.Name, f.Value)
		}
	}
	return block
}

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
