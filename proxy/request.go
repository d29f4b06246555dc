package proxy

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/elazarl/goproxy"

	"attache"
	"attache/policy"
	"attache/wire"
)

// exchange is one request and its answer. It is the ResponseWriter that goproxy
// answers to and the RoundTripper that goproxy sends with, so that everything
// that is counted or held back on the way is in one place.
type exchange struct {
	caller
	proxy    *Proxy
	target   attache.Target
	asked    attache.Target // as the request says: Host, and the scheme of an absolute URL
	tunnel   *tunnel        // nil for a plain request
	record   *record
	client   http.ResponseWriter
	ctx      context.Context // the request's; ends when the client leaves
	query    policy.Query
	decision attache.Decision

	generation uint64             // of the OAuth token that is sent; 0: it is none
	giveUp     func(error)        // calls the upstream off
	connected  bool               // an upstream connection was there
	length     int64              // of the answer's body; -1: unknown
	own        bool               // the answer is ours, not the upstream's
	ended      bool               // the answer's body has been read to its end
	cutShort   bool               // the body broke off, or the client did
	upload     *upload            // the request's body, where there is one
	wants      string             // the protocol that the client wants to switch to
	switched   io.ReadWriteCloser // the upstream's side, after a 101
	answered   bool               // the client was sent a head
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// serveInner begins a request that came through a tunnel.
func (p *Proxy) serveInner(w http.ResponseWriter, r *http.Request) {
	t := tunnelOf(r.Context())
	x := &exchange{
		caller: t.caller,
		proxy:  p,
		target: t.target,
		tunnel: t,
		record: p.begin(new(record), attache.RequestEvent, r),
		client: w,
	}
	if !p.enter() {
		x.refuse(r, ending)
		x.record.finish()
		return
	}
	defer p.handlers.Done()
	defer x.record.finish()
	if t.clear {
		x.target.Scheme = "http"
	}
	x.record.Tunnel = t.record.ID
	if r.Context().Value(detourKey{}) != nil {
		x.record.Protocol = "HTTP/2.0" // as its client has it
	}
	if r.Method == http.MethodConnect { // goproxy would take it for a new tunnel
		x.refuse(r, problem{attache.CodeMethodNotAllowed, "A tunnel cannot be opened inside a tunnel: send CONNECT to the proxy itself."})
		return
	}
	p.exchange(x, r)
}

// exchange takes the request through goproxy, which calls onRequest, RoundTrip
// and onResponse, and then ends what goproxy cannot end.
func (p *Proxy) exchange(x *exchange, r *http.Request) {
	x.record.Integration = x.integration
	origin := x.target.String()
	x.record.Target = origin
	x.asked = attache.Target{Scheme: r.URL.Scheme, Host: r.Host}
	if !sendable(r) {
		x.refuse(r, problem{attache.CodeBadRequest, "The method or the request target is malformed: a target is a path, or a URL with a host, without spaces."})
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	x.ctx, x.giveUp = ctx, cancel
	r = r.WithContext(context.WithValue(ctx, exchangeKey{}, x))
	r.URL = exactURL(origin, r, x.target.Scheme == "http" && p.upstream.parent != nil)
	r.Host = r.URL.Host
	if r.ContentLength == 0 { // over HTTP/2 there is a body even so
		r.Body = http.NoBody
	}
	if r.Body != http.NoBody {
		rc := http.NewResponseController(x.client)
		_ = rc.EnableFullDuplex() // an answer may come before the upload has ended
		x.upload = &upload{ReadCloser: r.Body, x: x, deadline: rc.SetReadDeadline}
		x.upload.expects = r.Header["Expect"] != nil && r.ProtoMajor == 1 && r.ProtoAtLeast(1, 1)
		r.Body = x.upload
		defer x.upload.leave()
	}
	p.core.ServeHTTP(x, r)
	if x.switched != nil {
		x.switchProtocols()
	}
	if x.record.Code == attache.CodeClientGone && !x.answered {
		x.record.Status = 0
	}
	if x.cutShort {
		panic(http.ErrAbortHandler) // or a chunked answer would seem complete
	}
}

// onRequest is goproxy's first question: it admits the request and prepares it
// for the upstream, or answers in the upstream's place.
func (p *Proxy) onRequest(r *http.Request, ctx *goproxy.ProxyCtx) (*http.Request, *http.Response) {
	x := exchangeOf(r.Context())
	ctx.RoundTripper = x
	ix := p.with.Index()
	if why := x.admit(ix, time.Now(), r.Method, r.Header.Get(connectionHeader)); why != nil {
		x.own = true
		x.record.denied(*why)
		resp := why.response(r, x.record.ID)
		if why.code == attache.CodeTokenInvalid {
			resp.Header.Set("Connection", "close") // so that it is asked for a token again
		}
		return r, resp
	}
	if x.decision.Action == attache.Inject {
		strip(r, ix.Strips(x.integration), x.decision.Connection.StripCookies)
		inject(r.Header, x.decision)
		x.upload.spoolFor(x.decision.Connection)
	} else {
		strip(r, nil, false)
	}
	x.wants = r.Header.Get("Upgrade")
	return r, nil
}

// admit asks who, where to, and may they. The header is the one that may name a
// connection.
func (x *exchange) admit(ix *policy.Index, now time.Time, method, header string) *problem {
	if !x.stillValid(ix, now) {
		return &problem{attache.CodeTokenInvalid, tokenInvalid}
	}
	if t := x.tunnel; t != nil {
		if t.denial != nil {
			return t.denial
		}
		if x.asked.Scheme != "" && x.asked.Scheme != x.target.Scheme || !t.isFor(x.asked.Host, x.target.Scheme) {
			return &problem{attache.CodeAuthorityMismatch, "The tunnel is for " + t.authority + "; its SNI, Host, :authority and URLs may name nothing else. Open a tunnel for each host."}
		}
	}
	q := &x.query // in place, for it is large
	q.Integration, q.Connection = x.integration, x.named(header)
	q.Target, q.Method, q.Unmatched = x.target, method, x.proxy.settings.Unmatched
	x.decision = ix.Decide(x.query)
	x.record.Decision = x.decision.Action
	switch x.decision.Action {
	case attache.Deny:
		return &problem{x.decision.Code, x.decision.Reason}
	case attache.Inject:
		x.record.Connection = x.decision.Connection.Name
		return x.fresh(0)
	}
	return nil
}

// fresh sees to it that an OAuth connection has a token that may be sent, newer
// than the used generation where that is not zero.
func (x *exchange) fresh(used uint64) *problem {
	if x.decision.Connection.Type != attache.OAuth {
		return nil
	}
	grant, err := x.proxy.with.Fresh(x.ctx, x.decision.Connection, used)
	if err != nil {
		return &problem{attache.CodeCredentialUnavailable, "Connection " + x.decision.Connection.Name + " has no token that may be sent, so nothing was sent: " + err.Error()}
	}
	c := *x.decision.Connection
	c.Grant = &grant
	x.generation = grant.Generation
	x.decision.Header, x.decision.Value = c.Header()
	return nil
}

// Why RoundTrip gives up on a request, besides what the transport finds.
var (
	errPoolFull   = errors.New("no upstream connection became free")
	errImpossible = errors.New("the upstream's answer has an impossible status")
)

// RoundTrip sends the request, once more where the upstream refuses an OAuth token
// that can be refreshed, and holds back what a 101 gave it.
func (x *exchange) RoundTrip(r *http.Request, _ *goproxy.ProxyCtx) (*http.Response, error) {
	if err := x.proxy.upstream.mayAsk(x.target); err != nil {
		return nil, err
	}
	began := time.Now()
	resp, err := x.send(r)
	if err == nil && resp.StatusCode == http.StatusUnauthorized && x.generation != 0 {
		resp, err = x.replay(r, resp)
	}
	x.record.Upstream = time.Since(began).Seconds()
	if err != nil {
		return nil, err
	}
	switch status := resp.StatusCode; {
	case status == http.StatusSwitchingProtocols && x.wants != "" && strings.EqualFold(resp.Header.Get("Upgrade"), x.wants):
		x.switched, _ = resp.Body.(io.ReadWriteCloser)
		resp.Body = http.NoBody
		return resp, nil
	case status < 200 || status > 999:
		_ = resp.Body.Close()
		return nil, errImpossible
	}
	x.length = resp.ContentLength
	resp.Body = &download{resp.Body, x, resp}
	return resp, nil
}

// replay forces one refresh for the token that was refused, and sends the request
// again where its body is still there. Otherwise the client gets the refusal.
func (x *exchange) replay(r *http.Request, refused *http.Response) (*http.Response, error) {
	used := x.generation
	if x.fresh(used) != nil || x.generation == used {
		return refused, nil
	}
	body, ok := x.upload.again()
	if !ok {
		return refused, nil
	}
	_ = refused.Body.Close()
	r = r.Clone(r.Context())
	r.Body = body
	r.Header.Del("Expect") // the body is here
	inject(r.Header, x.decision)
	return x.send(r)
}

// send is one round trip, over the relays' pool where that can be.
func (x *exchange) send(r *http.Request) (*http.Response, error) {
	if !x.mayPool(r) {
		return x.sendUnpooled(r)
	}
	resp, err := x.sendPooled(r)
	if err == nil || x.ctx.Err() != nil || errors.Is(err, wire.ErrFull) {
		return resp, err
	}
	x.proxy.upstream.speak11.remove(x.tunnel.authority) // until that is found out again
	if errors.Is(err, errOtherProtocol) {
		return x.sendUnpooled(r)
	}
	return nil, err
}

// sendUnpooled is one round trip over a transport, which finds out what the origin
// speaks.
func (x *exchange) sendUnpooled(r *http.Request) (*http.Response, error) {
	up := x.proxy.upstream
	early := &hints{send: x.hint, left: up.head}
	defer early.stop()
	var dialling atomic.Bool
	wait := time.AfterFunc(up.patience, func() {
		if dialling.Load() {
			x.giveUp(os.ErrDeadlineExceeded)
		} else {
			x.giveUp(errPoolFull)
		}
	})
	defer wait.Stop()
	trace := &httptrace.ClientTrace{
		GetConn:      func(string) { wait.Reset(up.patience) }, // again where one was stale
		ConnectStart: func(string, string) { dialling.Store(true) },
		GotConn: func(httptrace.GotConnInfo) {
			wait.Stop()
			x.connected = true
		},
	}
	if r.ProtoAtLeast(1, 1) {
		trace.Got1xxResponse = func(code int, h textproto.MIMEHeader) error {
			return early.got(code, http.Header(h))
		}
	}
	if u := x.upload; u != nil {
		if r.Header["Expect"] != nil {
			trace.Wait100Continue, trace.Got100Continue = u.wait, u.invite
		}
		if u.expects && u.welcome == nil { // it is sent once, also where the request is twice
			u.welcome = sync.OnceValue(func() bool { return early.welcome(x.client) })
		}
	}
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), trace))
	if x.wants != "" {
		return up.upgrades.RoundTrip(r)
	}
	resp, err := up.pool.RoundTrip(r)
	switch {
	case err != nil || !x.isSecure():
	case resp.ProtoMajor == 1:
		up.speak11.add(x.tunnel.authority)
	default:
		up.speak11.remove(x.tunnel.authority)
	}
	return resp, err
}

// onResponse is goproxy's last question: it makes the upstream's answer, or its
// failure, one that may be passed on.
func (p *Proxy) onResponse(resp *http.Response, ctx *goproxy.ProxyCtx) *http.Response {
	x := exchangeOf(ctx.Req.Context())
	switch {
	case x.own:
		x.length = resp.ContentLength
		return resp
	case resp == nil:
		why := x.explain(ctx.Error)
		p.debug(x.record, why, ctx.Error)
		return x.fail(why, ctx.Req)
	case resp.StatusCode == http.StatusProxyAuthRequired:
		return x.fail(x.proxyAuth(), ctx.Req)
	}
	relayable(resp.Header)
	// A 304 has no body, but over HTTP/2 its length would be believed. And an upstream that
	// speaks HTTP/2 may name several.
	if resp.ContentLength < 0 || resp.StatusCode == http.StatusNotModified {
		delete(resp.Header, "Content-Length")
	}
	maps.DeleteFunc(resp.Trailer, isNoTrailer)
	if len(resp.Trailer) > 0 { // over HTTP/1.1 they need chunks
		delete(resp.Header, "Content-Length")
		x.length = -1
	}
	return resp
}

// explain says why the request has no answer.
func (x *exchange) explain(err error) problem {
	switch {
	case errors.Is(err, wire.ErrFull), errors.Is(context.Cause(x.ctx), errPoolFull):
		return problem{attache.CodeOverloaded, "All connections to " + x.target.Host + " that the proxy may have are in use (upstream.max_per_host). Try again, or with fewer requests at a time."}
	case x.isTimeout():
		return explainFailure(os.ErrDeadlineExceeded, x.target, x.connected)
	case x.upload.tooSlow():
		return stalled
	case x.ctx.Err() != nil:
		return clientGone
	case x.upload != nil:
		if why := x.upload.problem(); why != nil {
			return *why
		}
	}
	return explainFailure(err, x.target, x.connected)
}

// isTimeout tells whether the upstream was given up because it took too long.
func (x *exchange) isTimeout() bool { return context.Cause(x.ctx) == os.ErrDeadlineExceeded }

func (x *exchange) proxyAuth() problem {
	return problem{attache.CodeUpstreamProxyAuth, x.target.Host + " answered 407 as if it were a proxy; your access token for this proxy is fine."}
}

// brokenOff says why an answer's body has not come to its end.
func (x *exchange) brokenOff() problem {
	if x.ctx.Err() != nil && !x.isTimeout() {
		return clientGone
	}
	return problem{attache.CodeConnectionTerminated, x.target.Host + " broke off inside its answer."}
}

// fail answers for an upstream that did not.
func (x *exchange) fail(why problem, r *http.Request) *http.Response {
	x.record.failed(why)
	if why.code.Status() == http.StatusForbidden {
		x.record.Decision = attache.Deny
	}
	resp := why.response(r, x.record.ID)
	x.length = resp.ContentLength
	return resp
}

// refuse answers a request that goproxy is not to see.
func (x *exchange) refuse(r *http.Request, why problem) {
	x.record.denied(why)
	x.record.Integration = x.integration
	why.write(x, r, x.record.ID)
}

// Header implements [http.ResponseWriter].
func (x *exchange) Header() http.Header { return x.client.Header() }

// Unwrap is for [http.ResponseController].
func (x *exchange) Unwrap() http.ResponseWriter { return x.client }

// WriteHeader implements [http.ResponseWriter]. A head whose body may come later is sent
// at once; a short one mostly comes with it.
func (x *exchange) WriteHeader(status int) {
	x.record.Status = status
	if x.switched != nil {
		return // switchProtocols writes it
	}
	// What is left of the body must not be taken for the next request.
	unread := x.upload != nil && !x.upload.ended.Load()
	if (unread || x.tunnel != nil && x.tunnel.isDraining()) && !x.isHTTP2() {
		x.client.Header().Set("Connection", "close")
	}
	x.answered = x.record.Code != attache.CodeClientGone
	x.client.WriteHeader(status)
	if x.length < 0 || x.length > bufferSize {
		x.Flush()
	}
}

// Write implements [http.ResponseWriter]. It holds nothing back, but for what is
// known to be the last piece, which goes out together with the end.
func (x *exchange) Write(b []byte) (int, error) {
	x.writeBy(time.Now().Add(x.proxy.settings.Limits.WriteTimeout))
	n, err := x.client.Write(b)
	x.record.out.Add(int64(n))
	if err != nil && !errors.Is(err, http.ErrBodyNotAllowed) && x.record.Code == "" {
		x.record.failed(clientGone)
	}
	if err == nil && !x.ended {
		x.upload.extend()
		x.Flush()
		x.writeBy(time.Time{}) // or the stream is reset while nobody writes
	}
	return n, err
}

// writeBy sets the deadline of what is written to an HTTP/2 client, whose stream may be
// stuck where its connection is not.
func (x *exchange) writeBy(deadline time.Time) {
	if x.isHTTP2() {
		_ = http.NewResponseController(x.client).SetWriteDeadline(deadline)
	}
}

// isHTTP2 tells whether the client speaks HTTP/2, be it on the way round.
func (x *exchange) isHTTP2() bool { return x.record.Protocol == "HTTP/2.0" }

// ReadFrom implements [io.ReaderFrom], with a buffer that is used again.
func (x *exchange) ReadFrom(body io.Reader) (int64, error) {
	buf, _ := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{x}, body, buf[:])
}

// Flush implements [http.Flusher].
func (x *exchange) Flush() { _ = http.NewResponseController(x.client).Flush() }

// hint passes a 1xx answer on.
func (x *exchange) hint(status int, h http.Header) {
	if status == http.StatusContinue {
		return // it is sent when the body is first read
	}
	to := x.client.Header()
	maps.Copy(to, h)
	relayable(to)
	x.client.WriteHeader(status)
	clear(to)
}
