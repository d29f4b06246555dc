package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/elazarl/goproxy"

	"attache"
	"attache/policy"
	"attache/wire"
)

// tunnel is one CONNECT and the connection inside it. The embedded Conn is the
// client's side, whose bytes it counts; closing the tunnel finishes its event.
type tunnel struct {
	net.Conn
	early []byte // that was looked at, and is to be read again
	caller
	target    attache.Target
	authority string // target as host:port
	origin    string // target as a URL without a path
	hostLine  string // of a request for the target
	decision  attache.Decision
	denial    *problem // answers every request in it, where opening it failed
	// mayBeClear: a connection covers the host, but not this port over TLS. If
	// what the client sends is clear HTTP, it is told so instead of let through.
	mayBeClear bool
	clear      bool       // it turned out to carry clear HTTP
	otherName  bool       // the ClientHello names another host than the target
	side       sync.Mutex // guards upstream
	upstream   net.Conn   // the other side of an opaque tunnel
	record     sharedRecord
	closed     func() // set when it opens; called once
	once       sync.Once
	resting
}

type tunnelKey struct{}

// tunnelOf is the tunnel that a request, or a CONNECT on its way through
// goproxy, belongs to; nil for a plain request.
func tunnelOf(ctx context.Context) *tunnel {
	t, _ := ctx.Value(tunnelKey{}).(*tunnel)
	return t
}

// Read implements [net.Conn].
func (t *tunnel) Read(b []byte) (int, error) {
	if len(t.early) > 0 {
		n := copy(b, t.early)
		t.early = t.early[n:]
		return n, nil
	}
	n, err := t.Conn.Read(b)
	t.record.in.Add(int64(n))
	return n, err
}

// Write implements [net.Conn].
func (t *tunnel) Write(b []byte) (int, error) {
	n, err := t.Conn.Write(b)
	t.record.out.Add(int64(n))
	return n, err
}

// Close implements [net.Conn].
func (t *tunnel) Close() error {
	err := t.Conn.Close()
	t.closeUpstream()
	t.once.Do(t.closed)
	return err
}

func (t *tunnel) closeUpstream() {
	t.side.Lock()
	defer t.side.Unlock()
	if t.upstream != nil {
		_ = t.upstream.Close()
	}
}

// CloseWrite passes a half-close on.
func (t *tunnel) CloseWrite() error { return closeWrite(t.Conn) }

// decide settles what kind of tunnel it will be.
func (t *tunnel) decide(ix *policy.Index, unmatched attache.Action) {
	q := policy.Query{
		Integration: t.integration,
		Connection:  t.connection,
		Target:      t.target,
		Method:      http.MethodConnect,
		Unmatched:   unmatched,
	}
	t.decision = ix.Decide(q)
	t.record.Decision = t.decision.Action
	switch t.decision.Action {
	case attache.Inject:
		if c := t.decision.Connection; c != nil {
			t.record.Connection = c.Name
		}
	case attache.Deny: // the requests inside are answered with the code, not this one
		t.record.Reason = t.decision.Reason
	case attache.Tunnel:
		q.Target.Scheme, q.Method = "http", http.MethodGet
		t.mayBeClear = ix.Decide(q).Code == attache.CodePlaintextRefused
	}
}

// dialOpaque connects the other side of an opaque tunnel. A refusal by policy is
// kept in the tunnel, so that it is answered inside, where clients show it.
func (p *Proxy) dialOpaque(ctx context.Context, t *tunnel) *problem {
	conn, err := p.upstream.dial(ctx, t.target)
	if err == nil {
		t.side.Lock()
		defer t.side.Unlock()
		t.upstream = conn
		return nil
	}
	why := explainFailure(err, t.target, false)
	if ctx.Err() != nil {
		why = clientGone
	}
	if why.code.Status() == http.StatusForbidden {
		t.denial = &why
		t.record.refused(why)
	}
	p.debug(&t.record.record, why, err)
	return &why
}

// onConnect is goproxy's question what to do with a CONNECT.
func (p *Proxy) onConnect(host string, ctx *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
	open := p.openIntercepted
	switch t := tunnelOf(ctx.Req.Context()); {
	case t.upstream != nil:
		open = p.openOpaque
	case t.mayBeClear:
		open = p.openEither
	}
	return &goproxy.ConnectAction{
		Action: goproxy.ConnectHijack,
		Hijack: func(r *http.Request, client net.Conn, _ *goproxy.ProxyCtx) {
			t := tunnelOf(r.Context())
			if p.establish(t, r, client) {
				open(r.Context(), t)
			}
		},
	}, host
}

// establish tells the client that the tunnel is open.
func (p *Proxy) establish(t *tunnel, r *http.Request, client net.Conn) bool {
	t.Conn = client
	t.record.Status = http.StatusOK
	t.closed = func() {
		p.mu.Lock()
		delete(p.open, t)
		p.mu.Unlock()
		t.record.finish()
	}
	p.mu.Lock()
	p.open[t] = struct{}{} // anyone may close it now
	stopping := p.stopping
	p.mu.Unlock()
	line := "HTTP/1.1 200 Connection established\r\n\r\n"
	if !r.ProtoAtLeast(1, 1) {
		line = "HTTP/1.0 200 Connection established\r\n\r\n"
	}
	if _, err := io.WriteString(t, line); err != nil || stopping {
		t.record.failed(problem{attache.CodeClientGone, "The client went away before the tunnel was open."})
		_ = t.Close()
		return false
	}
	return true
}

// openOpaque copies bytes both ways until the tunnel ends. The goroutine that it
// came on, with what the outer server holds for it, is not needed for that.
func (p *Proxy) openOpaque(_ context.Context, t *tunnel) {
	p.handlers.Go(func() {
		defer t.Close()
		splice(t, t.upstream, p.settings.Limits.IdleTimeout, p.permission(t.caller))
	})
}

// permission tells, for each piece of what is copied, whether who may go on.
func (p *Proxy) permission(who caller) func() bool {
	return func() bool { return who.stillValid(p.with.Index(), time.Now()) }
}

// How long a client of an opaque tunnel has to say something before the
// upstream is dialled: in some protocols it is the server who speaks first.
const firstByteWait = time.Second

const recordTypeHandshake = 0x16 // the first byte of a ClientHello (RFC 8446, section 5.1)

// openEither opens a tunnel that is opaque unless it carries clear HTTP, or leads nowhere:
// the client was told by then that it is open, and is told why inside.
func (p *Proxy) openEither(ctx context.Context, t *tunnel) {
	first, err := t.peek(firstByteWait)
	switch {
	case err == nil && first != recordTypeHandshake:
		t.clear = true
		p.handOver(t)
		return
	case err != nil && !wire.IsTimeout(err):
		_ = t.Close()
		return
	}
	why := p.dialOpaque(ctx, t)
	switch {
	case why == nil:
		p.openOpaque(ctx, t)
	case err != nil: // nobody has said anything that could be answered
		t.record.failed(*why)
		_ = t.Close()
	default:
		t.record.failed(*why)
		t.denial = why
		p.openIntercepted(ctx, t)
	}
}

// openIntercepted finds out whether the client speaks TLS or clear HTTP, shakes
// hands, and gives the connection to who serves it.
func (p *Proxy) openIntercepted(ctx context.Context, t *tunnel) {
	limit := p.settings.Limits.HeadTimeout
	first, err := t.peek(limit)
	if err != nil {
		t.record.failed(problem{attache.CodeClientGone, "The client opened a tunnel and sent nothing through it."})
		_ = t.Close()
		return
	}
	if first != recordTypeHandshake {
		t.clear = true
		p.handOver(t)
		return
	}
	conn := tls.Server(t, p.tls)
	_ = t.SetDeadline(time.Now().Add(limit))
	if err := conn.HandshakeContext(ctx); err != nil {
		why := clientTLSProblem(err)
		t.record.failed(why)
		p.debug(&t.record.record, why, err)
		_ = t.Close()
		return
	}
	_ = t.SetDeadline(time.Time{})
	if name := conn.ConnectionState().ServerName; name != "" { // also where a session was resumed
		asked, err := policy.ParseTarget("https", name)
		t.otherName = err != nil || asked.Host != t.target.Host
	}
	switch {
	case p.settings.Ordinary || t.otherName:
		p.handOver(conn)
	case conn.ConnectionState().NegotiatedProtocol == "h2":
		if c := p.newH2(t, conn); !p.h2Conns.give(c) {
			_ = c.shut()
		}
	default:
		p.handlers.Go(func() { p.relay(t, conn) })
	}
}

// handOver gives a tunnel, or what is around it, to the inner server, and closes it
// where that accepts no more.
func (p *Proxy) handOver(conn net.Conn) {
	if !p.tunnels.give(conn) {
		_ = conn.Close()
	}
}

// peek waits for the tunnel's first byte and leaves it to be read again.
func (t *tunnel) peek(wait time.Duration) (byte, error) {
	_ = t.SetReadDeadline(time.Now().Add(wait))
	defer func() { _ = t.SetReadDeadline(time.Time{}) }()
	first := make([]byte, 1)
	if _, err := io.ReadFull(t, first); err != nil {
		return 0, err
	}
	t.early = first
	return first[0], nil
}

// certificate is the leaf for a handshake: for the name that the client asks
// for, so that it gets to see the 421 where that is not the tunnel's target.
func (p *Proxy) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	t, ok := hello.Conn.(*tunnel)
	if !ok {
		return nil, errors.New("proxy: handshake outside a tunnel")
	}
	host := t.target.Host
	if hello.ServerName != "" {
		asked, err := policy.ParseTarget("https", hello.ServerName)
		if err != nil {
			return nil, err
		}
		host = asked.Host
	}
	return p.with.Leaf(hello.Context(), host)
}

// clientTLSProblem says why a client broke off our handshake with it.
func clientTLSProblem(err error) problem {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return problem{attache.CodeClientTLS, "The client does not trust this proxy's CA: give it the file that `attache ca path` names, or start it with `attache run`."}
	}
	return problem{attache.CodeClientTLS, "The TLS handshake with the client failed."}
}

// contextOfTunnel puts the tunnel that a connection of the inner server is in
// into the context of its requests.
func contextOfTunnel(ctx context.Context, c net.Conn) context.Context {
	switch outer := c.(type) {
	case *replay: // which a relay has given up
		c = outer.Conn
	case *visit:
		c = outer.Conn
	case *h2Conn:
		c = outer.t
	case *detour:
		ctx, c = context.WithValue(ctx, detourKey{}, true), outer.t
	}
	if s, ok := c.(*tls.Conn); ok {
		c = s.NetConn()
	}
	return context.WithValue(ctx, tunnelKey{}, c)
}
