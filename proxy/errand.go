package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"attache"
	"attache/policy"
	"attache/wire"
)

// errand is the upstream's side of the fast path, the same for every client: it
// takes one request after the other to a connection of the pool, and brings back
// the answer's head and the pieces of its body. How the client is read and told is
// for who sends it.
type errand struct {
	p    *Proxy
	t    *tunnel
	ctx  context.Context // ends when the client leaves, or the proxy
	end  context.CancelFunc
	now  time.Time    // of late: since the last wait before the request is sent. To ask costs as much as to decide
	slow func()       // begins to watch the client
	hint func() error // passes on an answer that is not the final one
	watch
	*workspace
}

// length is how many bytes the request has, with its body.
func (f *errand) length() int { return f.size + int(f.request.Length) }

// isNamed tells whether a Host names the target in the way that clients write it.
func (t *tunnel) isNamed(host []byte) bool {
	return string(host) == t.authority || t.target.Port == 443 && string(host) == t.target.Host
}

// admit begins the exchange and its record, and says whether the fast path may have
// it: what is denied or not ready to be sent is the ordinary path's.
func (f *errand) admit(ix *policy.Index, began time.Time, protocol string) bool {
	if !f.begin(began, protocol) || f.x.admit(ix, f.now, methodName(f.request.Method), f.field("attache-connection")) != nil {
		return false
	}
	f.x.ctx = f.ctx
	return f.x.decision.Action == attache.Inject
}

// begin starts the exchange and its record, or says that the path is not one.
//
// What is marked go:noinline in this file would be inlined where the profile says that it
// pays, and make its callers' frames so large that the stack of each tunnel, which it
// keeps while it waits, took 8 KiB in place of 4 (make bench BENCHFLAGS='-run idle').
//
//go:noinline
func (f *errand) begin(began time.Time, protocol string) bool {
	id, path, ok := f.names()
	x := &f.x
	*x = exchange{}
	x.caller, x.proxy, x.tunnel, x.record = f.t.caller, f.p, f.t, &f.record
	x.target, x.asked.Host = f.t.target, f.t.authority
	x.ctx = done // nobody waits here for a token
	f.record.restart(f.p.with.Record)
	e := &f.record.Event
	e.ID, e.Time, e.Kind = id, began, attache.RequestEvent
	e.Tunnel, e.Client, e.Integration = f.t.record.ID, f.t.record.Client, f.t.integration
	e.Target, e.Method, e.Path, e.Protocol = f.t.origin, methodName(f.request.Method), path, protocol
	e.BytesIn = f.request.Length
	return ok
}

// done is a context that has ended.
var done = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// names are the request's id and its path, decoded as net/url has it. They are
// pieces of one string, where that can be.
func (f *errand) names() (id, path string, ok bool) {
	raw, _, _ := bytes.Cut(f.request.Target, []byte("?"))
	if len(raw) > maxPath || bytes.IndexByte(raw, '%') >= 0 {
		path, err := url.PathUnescape(string(raw))
		return f.p.ids.next(), clip(path, maxPath), err == nil
	}
	both := f.p.ids.append(f.out[:0])
	at := len(both)
	text := string(append(both, raw...))
	return text[:at], text[at:], true
}

// field is the value of a field, whose name is given in lower case; empty where
// there is none.
func (f *errand) field(name string) string {
	for i := range f.request.Fields {
		if f.request.Fields[i].Is(name) {
			return string(f.request.Fields[i].Value)
		}
	}
	return ""
}

// methodName is the method as a string, which for the usual ones takes no memory.
func methodName(b []byte) string {
	switch string(b) {
	case "GET":
		return "GET"
	case "POST":
		return "POST"
	case "PUT":
		return "PUT"
	case "PATCH":
		return "PATCH"
	case "DELETE":
		return "DELETE"
	case "HEAD":
		return "HEAD"
	case "OPTIONS":
		return "OPTIONS"
	}
	return string(b)
}

// How long an upstream may take, for the head of an answer or a piece of its
// body, before anybody looks whether the client is still there.
const watchAfter = 50 * time.Millisecond

// fetch sends the request that was admitted, and reads the head of its answer. The
// client is to be told the problem, where there is one. Where it says no, no answer was
// taken, and somebody else has to send it.
func (f *errand) fetch(strips *policy.StripSet) (*wire.Conn, *problem, bool) {
	began := f.now
	c, err := f.send(strips)
	if errors.Is(err, errOtherProtocol) {
		f.p.upstream.only2.add(f.t.authority)
		return nil, nil, false
	}
	if err == nil && f.response.Status == http.StatusUnauthorized && f.x.generation != 0 {
		c, err = f.refused(c, strips)
	}
	f.record.Upstream = time.Since(began).Seconds()
	if err != nil {
		why := f.x.explain(err)
		f.p.debug(&f.record, why, err)
		return nil, &why, true
	}
	if f.response.Status == http.StatusProxyAuthRequired {
		f.discard(c)
		why := f.x.proxyAuth()
		return nil, &why, true
	}
	return c, nil, true
}

// send writes the request to an upstream and reads the head of its answer.
func (f *errand) send(strips *policy.StripSet) (*wire.Conn, error) {
	return f.p.upstream.relays.Do(f.ctx, f.t.authority, wire.Call{
		Ask: func(c *wire.Conn) error {
			f.x.connected = true
			answered := false
			defer func() {
				if !answered {
					f.unbound() // it is the pool's again, also after a panic
				}
			}()
			err := f.ask(c, strips)
			answered = err == nil
			return err
		},
		Repeatable: f.request.Length == 0 && isRepeatable(f.record.Method),
		Slow:       f.slow,
	})
}

// isRepeatable tells whether a request with that method, and no body, may be sent
// twice.
func isRepeatable(method string) bool {
	return method == "GET" || method == "HEAD" || method == "OPTIONS"
}

// refused forces one refresh for the OAuth token that was refused, and sends the
// request again. Otherwise the client gets the refusal.
func (f *errand) refused(c *wire.Conn, strips *policy.StripSet) (*wire.Conn, error) {
	used := f.x.generation
	f.slow()
	if f.x.fresh(used) != nil || f.x.generation == used {
		return c, nil
	}
	f.now = time.Now()
	f.discard(c)
	return f.send(strips)
}

func (f *errand) ask(c *wire.Conn, strips *policy.StripSet) error {
	c.Lend(f.from[:min(len(f.from), f.p.settings.Limits.HeadBytes)])
	f.parsed = nil
	f.out = f.appendRequest(f.spacious(f.out[:0], int64(f.length())), strips)
	if f.watcher != nil { // something may have been waited for
		f.now = time.Now()
	}
	f.bound(c, wire.Lenient(f.now, watchAfter))
	err := c.Ask(f.out)
	if err == wire.ErrLate { // the machine is busy
		f.slow()
		f.now = time.Now()
		f.bound(c, f.now.Add(f.p.settings.Upstream.ResponseTimeout))
		err = c.Ask(f.out)
	}
	if err != nil {
		return err
	}
	return f.readHead(c)
}

// appendRequest writes the request as the upstream is to see it: without what
// strip takes out on the ordinary path, and with the credential.
//
//go:noinline
func (f *errand) appendRequest(out []byte, strips *policy.StripSet) []byte {
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
//
//go:noinline
func (f *errand) readHead(c *wire.Conn) error {
	most := min(bufferSize, f.p.settings.Limits.HeadBytes)
	last, patient := f.now.Add(f.p.settings.Upstream.ResponseTimeout), false
	for {
		err := c.ReadHead(&f.response)
		switch status := f.response.Status; {
		case err == wire.ErrLong && len(f.from) < most:
			f.from = f.enlarge(nil)[:most]
			c.Lend(f.from)
		case err == wire.ErrOdd || err == wire.ErrLong:
			f.slow()
			f.bound(c, last)
			return f.parseOdd(c)
		case wire.IsTimeout(err) && !patient:
			f.slow()
			patient = true
			f.bound(c, last)
		case err != nil:
			return err
		case status == http.StatusSwitchingProtocols:
			return errImpossible
		case status >= 200:
			return nil
		case status != http.StatusContinue: // which nobody asked for
			if err := f.passHint(); err != nil {
				return err
			}
		}
	}
}

// passHint passes on what was read.
func (f *errand) passHint() error {
	err := f.hint()
	if err != nil {
		f.end() // the client has left
	}
	return err
}

// body is what follows the head of an answer, and how the client is told where
// it ends.
type body struct {
	io.Reader
	wire    *wire.Body // nil: net/http reads it
	chunked bool
}

// left is how much of it is to come, or as much as a buffer holds where that is not
// known.
func (b body) left() int64 {
	if b.wire == nil || b.wire.Left() < 0 {
		return bufferSize
	}
	return b.wire.Left()
}

// read reads a piece of the body.
func (f *errand) read(c *wire.Conn, b body, p []byte) (int, error) {
	if there := len(c.Buffered()) > 0; b.wire != nil && (there || f.watcher == nil) {
		if !there {
			f.bound(c, wire.Lenient(time.Now(), watchAfter))
		}
		n, err := b.Read(p)
		if !wire.IsTimeout(err) {
			return n, err
		}
	}
	f.slow()
	f.bound(c, time.Now().Add(f.p.upstream.read))
	return b.Read(p)
}

// giveBack returns the upstream connection to the pool where it can be used
// again.
func (f *errand) giveBack(c *wire.Conn, b body) {
	if gone := f.unbound(); !gone && b.wire != nil && b.wire.InStep() && !f.response.Close {
		f.p.upstream.relays.Put(c)
		return
	}
	f.p.upstream.relays.Discard(c)
}

// letGo gives up the upstream connection that a panic has left.
func (f *errand) letGo() {
	if c, ok := f.bounded().(*wire.Conn); ok {
		f.discard(c)
	}
}

func (f *errand) discard(c *wire.Conn) {
	f.unbound()
	f.p.upstream.relays.Discard(c)
}
