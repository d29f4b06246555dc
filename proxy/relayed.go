package proxy

import (
	"bytes"
	"io"
	"net/http"
	"strconv"

	"attache/policy"
	"attache/wire"
)

// exchange sends the request that was admitted, and its answer back.
func (f *relay) exchange(strips *policy.StripSet) outcome {
	c, why, ok := f.fetch(strips)
	switch {
	case !ok:
		f.record.drop()
		return other
	case why != nil:
		return f.fail(*why)
	}
	return f.answer(c)
}

// sendHint passes on an answer that is not the final one (RFC 8297).
func (f *relay) sendHint() error {
	if f.parsed != nil {
		delete(f.parsed.Header, "Content-Length")
		f.out = f.appendOddHead(f.out[:0])
	} else {
		f.out = f.appendHead(f.out[:0])
	}
	f.out = append(f.out, "\r\n"...)
	_, err := f.conn.Write(f.out)
	return err
}

// answer sends the upstream's answer to the client.
func (f *relay) answer(c *wire.Conn) outcome {
	f.record.Status = f.response.Status
	body, out := f.begun(c)
	ending := f.t.isDraining()
	if ending {
		out = append(out, "Connection: close\r\n"...)
	}
	out = append(out, "\r\n"...)
	out, err := f.pass(c, body, out)
	if err == nil {
		f.giveBack(c, body)
		_, err = f.conn.Write(out)
		if err == nil && !ending {
			f.unwatch()
			return next
		}
	} else {
		f.discard(c)
	}
	if err != nil && f.record.Code == "" {
		f.record.failed(clientGone)
	}
	return over
}

// begun writes the head of the answer, but for its last line.
func (f *relay) begun(c *wire.Conn) (body, []byte) {
	var b body
	if f.parsed != nil {
		return f.begunOdd()
	}
	f.body.Begin(c, &f.response, f.request.Method)
	b.Reader, b.wire = &f.body, &f.body
	b.chunked = f.response.Length < 0 && f.response.HasBody(f.request.Method)
	out := f.appendHead(f.out[:0])
	if b.chunked {
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	}
	return b, out
}

// appendHead writes the status line and the fields that are relayed. A hint has no length.
func (f *relay) appendHead(out []byte) []byte {
	r := &f.response
	out = append(out, "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(r.Status), 10)
	if len(r.Reason) == 0 {
		out = append(out, ' ')
	}
	out = append(out, r.Reason...)
	out = append(out, "\r\n"...)
	for i := range r.Fields {
		if isRelayedField(&r.Fields[i]) && (r.Status >= 200 || !r.Fields[i].Is("content-length")) {
			out = append(out, r.Fields[i].Line...)
		}
	}
	return out
}

// How a piece of a body is framed as a chunk: the size in four digits, and line
// ends around.
const (
	chunkHead = len("0000\r\n")
	chunkTail = len("\r\n0\r\n\r\n")
	maxChunk  = 0xffff
)

// pass sends what out holds and the body after it, each piece when it comes, and
// returns the last piece unsent.
func (f *relay) pass(c *wire.Conn, b body, out []byte) ([]byte, error) {
	out = f.spacious(out, b.left()+int64(chunkTail))
	if b.wire == nil || len(c.Buffered()) == 0 && !b.wire.Ended() || cap(out)-len(out) < len(c.Buffered())+chunkHead+chunkTail {
		if _, err := f.conn.Write(out); err != nil {
			return nil, err
		}
		out = out[:0]
	}
	for {
		at := len(out)
		if b.chunked {
			out = append(out, "0000\r\n"...)
		}
		n, err := f.read(c, b, out[len(out):min(cap(out)-chunkTail, len(out)+maxChunk)])
		f.record.BytesOut += int64(n)
		switch {
		case b.chunked && n > 0:
			putSize(out[at:], n)
			out = append(out[:at+chunkHead+n], "\r\n"...)
		case b.chunked:
			out = out[:at]
		default:
			out = out[:at+n]
		}
		switch {
		case err == io.EOF && b.chunked:
			return f.appendTrailer(append(out, "0\r\n"...), b), nil
		case err == io.EOF:
			return out, nil
		}
		if _, failed := f.conn.Write(out); failed != nil {
			return nil, failed
		}
		out = out[:0]
		if err != nil {
			f.record.failed(f.x.brokenOff())
			return nil, err
		}
	}
}

// putSize writes the size of a chunk over its four digits.
func putSize(b []byte, n int) {
	const digits = "0123456789abcdef"
	for i := 3; i >= 0; i-- {
		b[i] = digits[n&15]
		n >>= 4
	}
}

// appendTrailer writes what follows a body in chunks. Package wire has taken no
// field out of it.
func (f *relay) appendTrailer(out []byte, b body) []byte {
	if b.wire == nil {
		return append(f.appendOddTrailer(out), "\r\n"...)
	}
	for _, field := range b.wire.Trailer() {
		if isTrailer(http.CanonicalHeaderKey(string(field.Name))) {
			out = append(out, field.Line...)
		}
	}
	return append(out, "\r\n"...)
}

// fail answers in the upstream's place.
func (f *relay) fail(why problem) outcome {
	resp := f.x.fail(why, &http.Request{Method: f.record.Method})
	if why.code == clientGone.code {
		return over
	}
	f.record.Status = resp.StatusCode
	resp.Close = f.t.isDraining()
	var b bytes.Buffer
	_ = resp.Write(&b) // to memory
	if _, err := f.conn.Write(b.Bytes()); err != nil {
		return over
	}
	if f.record.Method != http.MethodHead {
		f.record.BytesOut += resp.ContentLength
	}
	if resp.Close {
		return over
	}
	f.unwatch()
	return next
}
