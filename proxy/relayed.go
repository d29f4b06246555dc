package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"attache/policy"
	"attache/wire"
)

// How long an upstream may take, for the head of an answer or a piece of its
// body, before anybody looks whether the client is still there.
const watchAfter = 50 * time.Millisecond

// exchange sends the request that was admitted, and its answer back.
func (f *relay) exchange(strips *policy.StripSet) outcome {
	began := time.Now()
	c, err := f.send(strips)
	if errors.Is(err, errOtherProtocol) {
		f.record.drop()
		return other
	}
	if err == nil && f.response.Status == http.StatusUnauthorized && f.x.generation != 0 {
		c, err = f.refused(c, strips)
	}
	f.record.Upstream = time.Since(began).Seconds()
	if err != nil {
		why := f.x.explain(err)
		f.p.debug(&f.record, why, err)
		return f.fail(why)
	}
	if f.response.Status == http.StatusProxyAuthRequired {
		f.discard(c)
		return f.fail(f.x.proxyAuth())
	}
	return f.answer(c)
}

// send writes the request to an upstream and reads the head of its answer.
func (f *relay) send(strips *policy.StripSet) (*wire.Conn, error) {
	c, err := f.p.upstream.relays.Do(f.ctx, f.t.authority, wire.Call{
		Ask: func(c *wire.Conn) error {
			f.x.connected = true
			return f.ask(c, strips)
		},
		Repeatable: f.request.Length == 0 && isRepeatable(f.record.Method),
		Slow:       f.slow,
	})
	if err != nil {
		f.unbound()
	}
	return c, err
}

// isRepeatable tells whether a request with that method, and no body, may be sent
// twice.
func isRepeatable(method string) bool {
	return method == "GET" || method == "HEAD" || method == "OPTIONS"
}

// refused forces one refresh for the OAuth token that was refused, and sends the
// request again. Otherwise the client gets the refusal.
func (f *relay) refused(c *wire.Conn, strips *policy.StripSet) (*wire.Conn, error) {
	used := f.x.generation
	f.slow()
	if f.x.fresh(used) != nil || f.x.generation == used {
		return c, nil
	}
	f.discard(c)
	return f.send(strips)
}

func (f *relay) ask(c *wire.Conn, strips *policy.StripSet) error {
	c.Lend(f.from[:min(len(f.from), f.p.settings.Limits.HeadBytes)])
	f.parsed = nil
	f.out = f.appendRequest(f.out[:0], strips)
	now := time.Now()
	f.bound(c, wire.Lenient(now, watchAfter))
	err := c.Ask(f.out)
	if err == wire.ErrLate { // the machine is busy
		f.slow()
		now = time.Now()
		f.bound(c, now.Add(f.p.settings.Upstream.ResponseTimeout))
		err = c.Ask(f.out)
	}
	if err != nil {
		return err
	}
	return f.readHead(c, now)
}

// appendRequest writes the request as the upstream is to see it: without what
// strip takes out on the ordinary path, and with the credential.
func (f *relay) appendRequest(out []byte, strips *policy.StripSet) []byte {
	r := &f.request
	line := len(r.Method) + len(r.Target) + len("  HTTP/1.1\r\n")
	out = append(out, f.in[:line]...)
	out = append(out, f.t.hostLine...)
	cookies := !f.x.decision.Connection.StripCookies
	for i := range r.Fields {
		field := &r.Fields[i]
		if !isForProxy(field) && !strips.HasName(field.Name) && (cookies || !field.Is("cookie")) {
			out = append(out, field.Line...)
		}
	}
	out = appendCredential(out, f.x.decision)
	out = append(out, "\r\n"...)
	return append(out, f.in[f.size:f.length()]...)
}

// readHead reads the head of the final answer, and passes the ones before it on.
func (f *relay) readHead(c *wire.Conn, asked time.Time) error {
	last, soon := asked.Add(f.p.settings.Upstream.ResponseTimeout), asked.Add(watchAfter)
	for {
		err := c.ReadHead(&f.response)
		switch status := f.response.Status; {
		case err == wire.ErrOdd:
			f.slow()
			f.bound(c, last)
			return f.parseOdd(c)
		case wire.IsTimeout(err) && soon != last:
			f.slow()
			soon = last
			f.bound(c, last)
		case err != nil:
			return err
		case status == http.StatusSwitchingProtocols:
			return errImpossible
		case status >= 200:
			return nil
		case status != http.StatusContinue: // which nobody asked for
			f.out = f.appendHead(f.out[:0])
			f.out = append(f.out, "\r\n"...)
			if _, err := f.conn.Write(f.out); err != nil {
				f.end() // the client has left
				return err
			}
		}
	}
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

// body is what follows the head of an answer, and how the client is told where
// it ends.
type body struct {
	io.Reader
	wire    *wire.Body // nil: net/http reads it
	chunked bool
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

// appendHead writes the status line and the fields that are relayed.
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
		if isRelayedField(&r.Fields[i]) {
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
		f.record.out.Add(int64(n))
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

// read reads a piece of the body.
func (f *relay) read(c *wire.Conn, b body, p []byte) (int, error) {
	if f.watcher == nil && b.wire != nil {
		f.bound(c, wire.Lenient(time.Now(), watchAfter))
		n, err := b.Read(p)
		if !wire.IsTimeout(err) {
			return n, err
		}
	}
	f.slow()
	f.bound(c, time.Now().Add(f.p.upstream.read))
	return b.Read(p)
}

// appendTrailer writes what follows a body in chunks. Package wire has taken no
// field out of it.
func (f *relay) appendTrailer(out []byte, b body) []byte {
	if b.wire == nil {
		return append(f.appendOddTrailer(out), "\r\n"...)
	}
	for _, field := range b.wire.Trailer() {
		if isRelayed(http.CanonicalHeaderKey(string(field.Name))) {
			out = append(out, field.Line...)
		}
	}
	return append(out, "\r\n"...)
}

// giveBack returns the upstream connection to the pool where it can be used
// again.
func (f *relay) giveBack(c *wire.Conn, b body) {
	f.unbound()
	if b.wire != nil && b.wire.InStep() && !f.response.Close {
		f.p.upstream.relays.Put(c)
		return
	}
	f.p.upstream.relays.Discard(c)
}

func (f *relay) discard(c *wire.Conn) {
	f.unbound()
	f.p.upstream.relays.Discard(c)
}

// fail answers in the upstream's place.
func (f *relay) fail(why problem) outcome {
	resp := f.x.fail(why, &http.Request{Method: f.record.Method})
	if why.code == clientGone.code {
		return over
	}
	f.record.Status = resp.StatusCode
	var b bytes.Buffer
	_ = resp.Write(&b) // to memory
	if _, err := f.conn.Write(b.Bytes()); err != nil {
		return over
	}
	f.record.out.Add(resp.ContentLength)
	f.unwatch()
	return next
}
