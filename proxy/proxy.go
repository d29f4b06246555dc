// Package proxy is the data plane: it accepts clients' CONNECTs and requests,
// finds out who calls and where to, decrypts what gets a credential, and sends
// it on with that credential and no other.
//
// The way of a request through the house:
//
//	listener -> outer http.Server -> guard.go    who is it, where to
//	         -> goproxy -> tunnel.go             CONNECT: copy, or decrypt
//	         -> relay.go                         plain HTTP/1.1, as long as it is that
//	         -> h2.go                            plain requests of HTTP/2
//	         -> visit.go                         one request, from a relay and back to it
//	         -> inner http.Server (h1 and h2)    everything else, for all tunnels
//	         -> goproxy -> request.go            may they, strip, inject, send, relay
//	         -> roundtrip.go                     over the relays' pool, or a transport
//
// goproxy is the core that calls our handlers; its own interception loop is not
// used (ConnectHijack takes its place), so that every request is read by
// net/http with its limits, deadlines and cancellation.
//
// The package sees neither store nor API: it is given an index to decide with,
// a mint of leaf certificates, and a place for events.
package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/elazarl/goproxy"

	"attache"
	"attache/policy"
	"attache/secret"
)

// Settings is what an administrator may choose. Zero values mean the defaults
// that the fields name.
type Settings struct {
	Unmatched attache.Action // what to do with a host that no connection covers: Tunnel (default) or Deny
	Ordinary  bool           // keep every request off the fast path
	Curves    []tls.CurveID  // what to agree on keys with in clients' handshakes; nil: what crypto/tls prefers
	Upstream  Upstream
	Limits    Limits
}

// Upstream is how origins are reached.
type Upstream struct {
	AllowPrivate    []netip.Prefix        // private, loopback or reserved ranges that may be dialled; default none
	Hosts           map[string]netip.Addr // addresses of hosts that are not asked of DNS, by canonical name
	Own             []netip.AddrPort      // this process's own listeners, never dialled, whatever is allowed
	Roots           *x509.CertPool        // who may vouch for an origin; nil: the system's roots
	Parent          secret.Text           // URL of a proxy to go through (http or https, userinfo for Basic); empty: go straight
	ConnectTimeout  time.Duration         // default 10 s
	TLSTimeout      time.Duration         // default 10 s
	ResponseTimeout time.Duration         // from the end of the request to the head of the answer; default 10 min
	IdleTimeout     time.Duration         // how long an unused connection is kept; default 90 s
	MaxIdlePerHost  int                   // default 512
	MaxPerHost      int                   // default 512
	DisableHTTP2    bool
}

// Limits are what one client, or all of them, may take of us.
type Limits struct {
	Connections  int           // clients' connections at a time; default 10,000
	HeadBytes    int           // a request's or an answer's head; default 64 KiB
	HeadTimeout  time.Duration // for a head, or a TLS handshake, to arrive; default 10 s
	IdleTimeout  time.Duration // a connection on which nothing moves, up to a quarter more between requests; default 10 min
	WriteTimeout time.Duration // for one write to a client to be taken; default 1 min
	Streams      int           // h2 streams of one connection; default 250
	Drain        time.Duration // for requests to end when Serve is told to stop; default 5 s
}

// Collaborators are the parts that the proxy works with. All are required and
// are called concurrently.
type Collaborators struct {
	// Index is the current index. It is loaded once per CONNECT and per request.
	Index func() *policy.Index
	// Leaf is the certificate to show a client that asked for host.
	Leaf func(ctx context.Context, host string) (*tls.Certificate, error)
	// Fresh is the grant of an OAuth connection with a token that may be sent: at
	// once where it is valid, else after a refresh, for which it waits as long as ctx
	// allows. The connection is the one that was decided on: when it is gone there is
	// no grant, whoever has its name by now. A used generation other than zero says
	// that the upstream refused that token. The text of its error is shown to the
	// client. Nil: there is none.
	Fresh func(ctx context.Context, c *attache.Connection, used uint64) (attache.Grant, error)
	// Record takes the one event of a CONNECT or a request, which it may not keep,
	// and must not block.
	Record func(*attache.Event)
	// Log takes what an operator may want to know while debugging, and never a
	// secret.
	Log *slog.Logger
}

// Proxy is the data plane. Make one with [New], run it with [Proxy.Serve].
type Proxy struct {
	settings Settings
	with     Collaborators
	core     *goproxy.ProxyHttpServer
	upstream *upstream
	tls      *tls.Config // one for all tunnels, so that sessions resume
	ids      ids

	tunnels *handover       // to the inner server
	h2Conns *handover       // to the one for what h2.go lets pass
	base    context.Context // of what Serve does

	handlers sync.WaitGroup // of CONNECTs, requests and tunnels: all that Serve waits for
	asked    atomic.Int64   // CONNECTs and requests without a tunnel that are not done
	mu       sync.Mutex     // guards what follows
	open     map[*tunnel]struct{}
	relaying int           // tunnels and streams on the fast path
	noRelay  chan struct{} // closed when there are none; nil: nobody waits for that
	draining bool          // Serve has been told to stop
	stopping bool
}

// New makes a proxy. It starts nothing.
func New(s Settings, with Collaborators) (*Proxy, error) {
	if with.Index == nil || with.Leaf == nil || with.Record == nil || with.Log == nil {
		return nil, errors.New("proxy: a collaborator is missing")
	}
	s = s.withDefaults()
	up, err := newUpstream(s.Upstream, s.Limits)
	if err != nil {
		return nil, err
	}
	if with.Fresh == nil {
		with.Fresh = func(context.Context, *attache.Connection, uint64) (attache.Grant, error) {
			return attache.Grant{}, errors.New("OAuth connections are not refreshed here")
		}
	}
	p := &Proxy{
		settings: s,
		with:     with,
		upstream: up,
		ids:      newIDs(),
		tunnels:  newHandover(),
		h2Conns:  newHandover(),
		open:     map[*tunnel]struct{}{},
	}
	p.tls = &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: p.certificate,

		CurvePreferences: s.Curves,
		// Small records help over slow networks, for the price of a write each.
		DynamicRecordSizingDisabled: true,
	}
	p.core = p.newCore()
	return p, nil
}

func (s Settings) withDefaults() Settings {
	s.Unmatched = either(s.Unmatched, attache.Tunnel)
	u, l := &s.Upstream, &s.Limits
	u.ConnectTimeout = either(u.ConnectTimeout, 10*time.Second)
	u.TLSTimeout = either(u.TLSTimeout, 10*time.Second)
	u.ResponseTimeout = either(u.ResponseTimeout, 10*time.Minute)
	u.IdleTimeout = either(u.IdleTimeout, 90*time.Second)
	u.MaxIdlePerHost = either(u.MaxIdlePerHost, 512)
	u.MaxPerHost = either(u.MaxPerHost, 512)
	l.Connections = either(l.Connections, 10_000)
	l.HeadBytes = either(l.HeadBytes, 64<<10)
	l.HeadTimeout = either(l.HeadTimeout, 10*time.Second)
	l.IdleTimeout = either(l.IdleTimeout, 10*time.Minute)
	l.WriteTimeout = either(l.WriteTimeout, time.Minute)
	l.Streams = either(l.Streams, 250)
	l.Drain = either(l.Drain, 5*time.Second)
	return s
}

// either is v, or its default where v is zero.
func either[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// newCore sets up goproxy: our handlers decide about CONNECTs and requests, and
// it changes nothing on its own account.
func (p *Proxy) newCore() *goproxy.ProxyHttpServer {
	core := goproxy.NewProxyHttpServer()
	core.Tr, core.ConnectDial = nil, nil // every request goes through p.upstream
	core.KeepHeader = true               // request.go strips, before it injects
	core.KeepAcceptEncoding = true
	core.Logger = coreLog{p.with.Log}
	core.OnRequest().HandleConnectFunc(p.onConnect)
	core.OnRequest().DoFunc(p.onRequest)
	core.OnResponse().DoFunc(p.onResponse)
	return core
}

func (p *Proxy) newInner(base context.Context) *http.Server {
	l := p.settings.Limits
	return &http.Server{
		Handler:           http.HandlerFunc(p.serveInner),
		TLSConfig:         p.tls.Clone(), // Serve writes to it
		ReadHeaderTimeout: l.HeadTimeout,
		IdleTimeout:       l.IdleTimeout,
		MaxHeaderBytes:    l.HeadBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: l.Streams},
		ErrorLog:          slog.NewLogLogger(p.with.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext:       contextOfTunnel,

		DisableGeneralOptionsHandler: true,
	}
}

// Serve accepts clients on ln until ctx ends, then gives requests that are under
// way their time to finish, closes everything, and returns nil. It closes ln. It
// may be called once.
func (p *Proxy) Serve(ctx context.Context, ln net.Listener) error {
	l := p.settings.Limits
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	outer := &http.Server{
		BaseContext:       func(net.Listener) context.Context { return base },
		Handler:           http.HandlerFunc(p.guard),
		ReadHeaderTimeout: l.HeadTimeout,
		IdleTimeout:       l.HeadTimeout, // strangers wait here; tunnels have left
		MaxHeaderBytes:    l.HeadBytes,
		ErrorLog:          slog.NewLogLogger(p.with.Log.Handler(), slog.LevelDebug),

		DisableGeneralOptionsHandler: true,
	}
	outer.Protocols = new(http.Protocols)
	outer.Protocols.SetHTTP1(true)

	// There are two inner servers, because that for an h2Conn is told to end first,
	// leaves idleness to it, and must take what is decrypted already for HTTP/2, which
	// on a clear tunnel is not spoken.
	inner, h2 := p.newInner(base), p.newInner(base)
	inner.ConnState = func(c net.Conn, state http.ConnState) {
		if v, ok := c.(*visit); ok {
			v.told(state)
		}
	}
	h2.IdleTimeout = -1
	h2.Protocols = new(http.Protocols)
	h2.Protocols.SetUnencryptedHTTP2(true)
	p.base = base

	failed := make(chan error, 3)
	var servers sync.WaitGroup
	servers.Go(func() { p.upstream.relays.Run(base) })
	servers.Go(func() { failed <- outer.Serve(newLimited(ln, l.Connections, l.WriteTimeout)) })
	servers.Go(func() { failed <- inner.Serve(p.tunnels) })
	servers.Go(func() { failed <- h2.Serve(p.h2Conns) })

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("proxy: serve: %w", err)
	}
	p.stop(outer, inner, h2, cancel)
	servers.Wait()
	p.handlers.Wait()
	return err
}

// stop ends all servers and every tunnel, politely for as long as Drain; then
// it calls off what their handlers still wait for.
func (p *Proxy) stop(outer, inner, h2 *http.Server, callOff func()) {
	ctx, cancel := context.WithTimeout(context.Background(), p.settings.Limits.Drain)
	defer cancel()
	end := func(s *http.Server) {
		if s.Shutdown(ctx) != nil {
			_ = s.Close()
		}
	}
	var told sync.WaitGroup
	told.Go(func() { end(outer) })
	told.Go(func() { end(h2) }) // at once: its clients may begin no more streams
	p.drain()
	p.awaitRelays(ctx)
	_ = p.tunnels.Close()
	end(inner)
	told.Wait()
	p.awaitRelays(ctx) // for what the inner server has answered, and is not sent yet
	callOff()
	p.mu.Lock()
	p.stopping = true
	left := slices.Collect(maps.Keys(p.open))
	p.mu.Unlock()
	for _, t := range left {
		_ = t.Close()
	}
	p.upstream.close()
}

// drain ends the tunnels on the fast path, each after the request that it serves.
func (p *Proxy) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.draining = true
	for t := range p.open {
		t.drain()
	}
}

// awaitRelays waits until there are none, for as long as ctx allows.
func (p *Proxy) awaitRelays(ctx context.Context) {
	none := make(chan struct{})
	p.mu.Lock()
	if p.relaying == 0 {
		close(none)
	} else {
		p.noRelay = none
	}
	p.mu.Unlock()
	select {
	case <-none:
	case <-ctx.Done():
	}
}

// beginRelay counts a tunnel on the fast path, or a stream, for awaitRelays and Serve
// to wait for. It says no when there are to be no more.
func (p *Proxy) beginRelay() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.draining {
		p.relaying++
		p.handlers.Add(1)
	}
	return !p.draining
}

// extendRelay is beginRelay for what was begun before, and has more to send.
func (p *Proxy) extendRelay() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopping {
		p.relaying++
		p.handlers.Add(1)
	}
	return !p.stopping
}

func (p *Proxy) endRelay() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handlers.Done()
	if p.relaying--; p.relaying == 0 && p.noRelay != nil {
		close(p.noRelay)
		p.noRelay = nil
	}
}

// enter counts a handler, for Serve to wait for. It says no when that is over.
func (p *Proxy) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopping {
		p.handlers.Add(1)
	}
	return !p.stopping
}

// ending is what a client is told who comes too late.
var ending = problem{attache.CodeOverloaded, "The proxy is ending. Try again."}

// debug logs why something failed: for the error only its type, because its text
// may quote what an upstream sent, and that may quote what we sent it.
func (p *Proxy) debug(r *record, why problem, err error) {
	p.with.Log.Debug(why.detail, "request_id", r.ID, "target", r.Target, "code", why.code, "error_type", fmt.Sprintf("%T", errors.Unwrap(err)))
}

// Stats is what the proxy counts of itself, for metrics.
type Stats struct {
	Tunnels                   int    // open now
	UpstreamConnectionsOpened uint64 // since the start
}

// Stats may be called at any time.
func (p *Proxy) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{
		Tunnels:                   len(p.open),
		UpstreamConnectionsOpened: p.upstream.opened.Load(),
	}
}

// Busy reports whether there is a tunnel, one is being opened, or a request without
// one is under way. It may be called at any time.
func (p *Proxy) Busy() bool { return p.asked.Load() > 0 || p.Stats().Tunnels > 0 }

// coreLog gives goproxy's warnings to the debug log. They may quote addresses,
// and what matters of them is in the events.
type coreLog struct{ log *slog.Logger }

func (l coreLog) Printf(format string, v ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("goproxy", "message", fmt.Sprintf(format, v...))
	}
}
