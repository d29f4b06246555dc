package proxy

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"attache/wire"
)

// The ordinary path uses the relays' pool where it can: for a request without a
// body to an origin that is known to speak HTTP/1.1 over TLS. It is sent as
// net/http's transport would send it, and takes no goroutine. The transports have what
// is left: bodies, which may be answered before their end; the wish for a 100 or for
// another protocol; clear http; and all that may go over HTTP/2.

// isSecure tells whether the request came through a tunnel and goes on over TLS.
func (x *exchange) isSecure() bool { return x.tunnel != nil && x.target.Scheme == "https" }

// mayPool tells whether the request can go over the pool, and the origin is known
// to speak HTTP/1.1.
func (x *exchange) mayPool(r *http.Request) bool {
	up := &x.proxy.settings.Upstream
	return x.isSecure() && r.Body == http.NoBody && x.wants == "" && len(r.Header["Expect"]) == 0 &&
		(up.DisableHTTP2 || x.proxy.upstream.speak11.has(x.tunnel.authority))
}

// sendPooled is one round trip over the relays' pool.
func (x *exchange) sendPooled(r *http.Request) (*http.Response, error) {
	p := &pooled{x: x, request: r}
	p.desk, _ = desks.Get().(*desk)
	c, err := x.proxy.upstream.relays.Do(x.ctx, x.tunnel.authority, wire.Call{
		Ask:        p.ask,
		Repeatable: isRepeatable(r.Method),
		Slow:       func() {},
	})
	if err != nil {
		desks.Put(p.desk)
		return nil, err
	}
	p.begin(c)
	if err := x.ctx.Err(); err != nil { // an upstream may answer that the connection ends
		_ = p.Close()
		return nil, err
	}
	return p.answer, nil
}

// pooled is a request on its way over a connection of the relays' pool, and then
// the body of its answer.
type pooled struct {
	x       *exchange
	request *http.Request
	answer  *http.Response
	stay    func() bool // lets the connection outlive the request; false: the client has left
	over    error       // what is read after the connection was given back
	*desk               // nil from then on
}

// desk is what a request needs until its answer ends.
type desk struct {
	conn  *wire.Conn
	head  wire.Response // of the answer
	body  io.Reader     // of the answer: plain, or net/http's where its head is odd
	plain wire.Body
	buf   [16 << 10]byte // the request and, once that is sent, the answer's head and what comes with it
}

var desks = sync.Pool{New: func() any { return new(desk) }}

// ask writes the request to c and reads the head of the answer. From here on, c is
// closed when the client leaves.
func (p *pooled) ask(c *wire.Conn) error {
	settings := &p.x.proxy.settings
	p.x.connected = true
	p.stay = context.AfterFunc(p.x.ctx, func() { _ = c.Close() })
	c.Lend(p.buf[:min(len(p.buf), settings.Limits.HeadBytes)])
	out := bytes.NewBuffer(p.buf[:0])
	err := p.request.Write(out)
	if err == nil {
		_ = c.SetReadDeadline(time.Now().Add(settings.Upstream.ResponseTimeout))
		err = c.Ask(out.Bytes())
	}
	if err == nil {
		err = p.readHead(c)
	}
	if err != nil {
		p.stay()
	}
	return err
}

// readHead reads the head of the final answer, and passes the ones before it on.
func (p *pooled) readHead(c *wire.Conn) error {
	for {
		err := c.ReadHead(&p.head)
		switch status := p.head.Status; {
		case err == wire.ErrOdd || err == wire.ErrLong:
			p.answer, err = readOdd(c, p.request.Method, p.x.proxy.upstream.head, func(hint *http.Response) error {
				p.hint(hint.StatusCode, hint.Header)
				return nil
			})
			return err
		case err != nil:
			return err
		case status == http.StatusSwitchingProtocols:
			return errImpossible
		case status >= 200:
			return nil
		default:
			p.hint(status, headerOf(p.head.Fields))
		}
	}
}

// hint passes on an answer that is not the final one, to a client that knows of such.
func (p *pooled) hint(status int, h http.Header) {
	if p.request.ProtoAtLeast(1, 1) {
		p.x.hint(status, h)
	}
}

// begin makes an answer of what was read.
func (p *pooled) begin(c *wire.Conn) {
	p.conn = c
	if p.answer != nil {
		p.body, p.answer.Body = p.answer.Body, p
		return
	}
	r := &p.head
	p.answer = &http.Response{
		StatusCode:    r.Status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    r.Minor,
		Header:        headerOf(r.Fields),
		ContentLength: r.Length,
		Close:         r.Close,
		Request:       p.request,
		Body:          p,
	}
	p.plain.Begin(c, r, []byte(p.request.Method))
	p.body = &p.plain
	if r.Chunked {
		p.answer.Trailer = announced(p.answer.Header["Trailer"])
	}
	if p.plain.Ended() {
		if p.request.Method != http.MethodHead { // which is told the length of what it does not get
			p.answer.ContentLength = 0
		}
		p.answer.Body = http.NoBody
		p.giveBack(io.EOF)
	}
}

// Read implements [io.Reader]. The connection is given back with the last piece.
func (p *pooled) Read(b []byte) (int, error) {
	if p.desk == nil {
		return 0, p.over
	}
	_ = p.conn.SetReadDeadline(time.Now().Add(p.x.proxy.upstream.read))
	n, err := p.body.Read(b)
	if err == io.EOF {
		if fields := p.plain.Trailer(); len(fields) > 0 { // net/http has seen to an odd answer's
			if p.answer.Trailer == nil {
				p.answer.Trailer = make(http.Header)
			}
			maps.Copy(p.answer.Trailer, headerOf(fields))
		}
		p.giveBack(err)
	}
	return n, err
}

// Close implements [io.Closer].
func (p *pooled) Close() error {
	if p.desk != nil {
		p.giveBack(http.ErrBodyReadAfterClose)
	}
	return nil
}

// giveBack returns the connection to the pool, where it can be used again. From
// then on there is only that error to read.
func (p *pooled) giveBack(over error) {
	relays := p.x.proxy.upstream.relays
	if p.stay() && p.plain.InStep() && !p.head.Close {
		relays.Put(p.conn)
	} else {
		relays.Discard(p.conn)
	}
	d := p.desk
	p.desk, p.over = nil, over
	d.conn, d.body, d.plain = nil, nil, wire.Body{}
	desks.Put(d)
}

// headerOf is the fields as net/http has them. All are pieces of one string.
func headerOf(fields []wire.Field) http.Header {
	var text strings.Builder
	size := 0
	for i := range fields {
		size += len(fields[i].Name) + len(fields[i].Value)
	}
	text.Grow(size)
	for i := range fields {
		text.Write(fields[i].Name)
		text.Write(fields[i].Value)
	}
	left, values := text.String(), make([]string, len(fields))
	h := make(http.Header, len(fields))
	for i := range fields {
		f := &fields[i]
		name := http.CanonicalHeaderKey(left[:len(f.Name)])
		left = left[len(f.Name):]
		values[i], left = left[:len(f.Value)], left[len(f.Value):]
		if before := h[name]; before != nil {
			h[name] = append(before, values[i])
		} else {
			h[name] = values[i : i+1 : i+1]
		}
	}
	return h
}

// announced are the trailers that an answer's head promises, without their values.
func announced(values []string) http.Header {
	var trailer http.Header
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			if name = http.CanonicalHeaderKey(strings.TrimSpace(name)); name == "" {
				continue
			}
			if trailer == nil {
				trailer = make(http.Header)
			}
			trailer[name] = nil
		}
	}
	return trailer
}
