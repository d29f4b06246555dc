package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"attache"
	"attache/admin"
	"attache/audit"
	"attache/configs"
	"attache/metrics"
	"attache/oauth"
	"attache/policy"
	"attache/proxy"
)

// server is everything that serves one data directory, assembled from a
// configuration. What it is made of does not know of each other; here it is put
// together, in this order: the store, what follows its changes (the index, the
// CA, the metrics), what takes events, the proxy, and the API over all of it.
type server struct {
	cfg  configs.Config
	log  *slog.Logger
	data *data
	listeners

	ring     *audit.Ring
	audit    *audit.Log // nil: off
	logFile  io.Closer  // nil: the log of events is no file
	metrics  *metrics.Metrics
	endpoint *oauth.Endpoint
	keeper   *oauth.Keeper
	proxy    *proxy.Proxy
	api      *admin.API
	idle     *idle
	unfollow func()

	ready    atomic.Bool
	yields   bool          // it is a background server, and ends for another
	draining chan struct{} // closed when the server begins to end
	errands  chan errand
}

// newServer opens and assembles everything and begins nothing. Run it, and
// close it whether it ran or not.
func (a *app) newServer(ctx context.Context, cfg configs.Config, log *slog.Logger) (s *server, err error) {
	s = &server{
		cfg: cfg, log: log,
		idle:     newIdle(),
		draining: make(chan struct{}),
		errands:  make(chan errand, maxErrands),
		unfollow: func() {},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
			s = nil
		}
	}()
	defer easeCollector()()
	// What can be refused comes first, so that then nothing is made on disk.
	settings, err := proxySettings(cfg)
	if err != nil {
		return s, err
	}
	if s.listeners, err = listen(ctx, cfg); err != nil {
		return s, err
	}
	if s.data, err = a.openData(ctx, cfg); err != nil {
		return s, err
	}
	if s.socket, err = listenSocket(ctx, filepath.Join(cfg.DataDir, socketFile)); err != nil {
		return s, err
	}
	if err := s.openAudit(a.out, a.err); err != nil {
		return s, err
	}
	s.newMetrics()
	settings.Upstream.Own = s.own
	if err := s.newKeeper(settings.Upstream); err != nil {
		return s, err
	}
	if s.unfollow, err = s.data.follow(ctx, s.metrics.Changed, s.keeper.Changed); err != nil {
		return s, err
	}
	if s.proxy, err = proxy.New(settings, proxy.Collaborators{
		Index: s.data.live.Current, Leaf: s.data.minter.Leaf, Fresh: s.keeper.Fresh, Record: s.sink(), Log: s.log,
	}); err != nil {
		return s, err
	}
	s.api, err = s.newAPI()
	return s, err
}

// close releases what newServer took.
func (s *server) close() error {
	s.unfollow()
	s.listeners.close()
	var errs []error
	if s.logFile != nil {
		errs = append(errs, s.logFile.Close())
	}
	if s.data != nil {
		errs = append(errs, s.data.Close())
	}
	return errors.Join(errs...)
}

// openAudit makes what takes the events: the ring for the API, and the log.
func (s *server) openAudit(out, err io.Writer) error {
	s.ring = audit.NewRing(s.cfg.Events.Keep)
	var to io.Writer
	switch where := s.cfg.Log.Events; where {
	case configs.EventsOff:
		return nil
	case configs.EventsToStdout:
		to = out
	case configs.EventsToStderr:
		to = err
	default:
		f, err := os.OpenFile(where, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("log.events: %w", err)
		}
		s.logFile, to = f, f
	}
	s.audit = audit.NewLog(to, audit.LogOptions{})
	return nil
}

// newMetrics makes the metrics. What they ask for is there by the time of the
// first scrape.
func (s *server) newMetrics() {
	o := metrics.Options{
		Version: programVersion(), Revision: revision(),
		Proxy:       func() metrics.ProxyStats { return metrics.ProxyStats(s.proxy.Stats()) },
		Leaves:      func() metrics.LeafStats { return metrics.LeafStats(s.data.minter.Stats()) },
		Store:       func() metrics.StoreStats { return metrics.StoreStats(s.data.store.Stats()) },
		Connections: func() int { return s.data.live.Current().Connections() },
		CAExpiry:    s.data.authority.Expiry,
	}
	if s.audit != nil {
		o.Audit = func() metrics.AuditStats { return metrics.AuditStats(s.audit.Stats()) }
	}
	s.metrics = metrics.New(o)
}

// newKeeper makes what keeps OAuth grants alive. It reaches providers as the proxy
// reaches its upstreams, and never through the proxy.
func (s *server) newKeeper(up proxy.Upstream) error {
	dial, err := proxy.Dialer(up)
	if err != nil {
		return err
	}
	s.endpoint = oauth.NewEndpoint(oauth.EndpointOptions{DialContext: dial, Roots: up.Roots})
	record := s.sink()
	s.keeper = oauth.NewKeeper(s.endpoint, s.data.store, oauth.KeeperOptions{
		OnState: func(t oauth.Transition) { record(grantEvent(t)) },
	})
	return nil
}

// grantEvent is the event of a change in the life of a grant.
func grantEvent(t oauth.Transition) *attache.Event {
	e := &attache.Event{
		ID: rand.Text(), Time: time.Now().Add(-t.Took), Kind: attache.GrantEvent,
		Integration: t.Integration, Connection: t.Connection,
		Code: attache.Code(t.Code), Reason: string(t.From) + " -> " + string(t.To), Duration: t.Took.Seconds(),
	}
	if advice := oauth.Advice(t.Code); advice != "" {
		e.Reason += ": " + advice
	}
	return e
}

// sink is where the events go.
func (s *server) sink() audit.Sink {
	touch := func(e *attache.Event) {
		if e.Kind != attache.GrantEvent { // nobody used anything
			s.idle.touch(e.Time.Add(time.Duration(e.Duration * float64(time.Second))))
		}
	}
	sinks := []audit.Sink{s.ring.Record, s.metrics.Record, touch}
	if s.audit != nil {
		sinks = append(sinks, s.audit.Record)
	}
	return audit.Fanout(sinks...)
}

// proxySettings are the proxy's, but for the addresses that it must not call.
func proxySettings(cfg configs.Config) (proxy.Settings, error) {
	up, lim := cfg.Upstream, cfg.Limits
	roots, err := upstreamRoots(up.CAFile)
	if err != nil {
		return proxy.Settings{}, err
	}
	hosts := map[string]netip.Addr{}
	for _, h := range up.Hosts {
		target, err := policy.ParseTarget("https", h.Host)
		if err != nil {
			return proxy.Settings{}, fmt.Errorf("upstream.hosts: %q: %w", h.Host, err)
		}
		hosts[target.Host] = h.Address
	}
	return proxy.Settings{
		Unmatched: cfg.Unmatched,
		Curves:    curves(cfg),
		Upstream: proxy.Upstream{
			AllowPrivate: up.AllowPrivate, Hosts: hosts, Roots: roots, Parent: up.Proxy,
			ConnectTimeout: up.ConnectTimeout, TLSTimeout: up.TLSTimeout,
			ResponseTimeout: up.ResponseTimeout, IdleTimeout: up.IdleTimeout,
			MaxIdlePerHost: up.MaxIdlePerHost, MaxPerHost: up.MaxPerHost, DisableHTTP2: !up.HTTP2,
		},
		Limits: proxy.Limits{
			Connections: lim.Connections, HeadBytes: int(lim.HeadBytes), HeadTimeout: lim.HeadTimeout,
			IdleTimeout: lim.IdleTimeout, WriteTimeout: lim.WriteTimeout, Streams: lim.StreamsPerConnection,
		},
	}, nil
}

// curves are what clients may agree on keys with; nil is Go's own choice, which
// prefers the hybrid one.
func curves(cfg configs.Config) []tls.CurveID {
	switch cfg.KeyExchange {
	case configs.KeyExchangeHybrid:
		return nil
	case configs.KeyExchangeAuto:
		if !cfg.Listen.Addr().IsLoopback() {
			return nil
		}
	}
	return []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}
}

// upstreamRoots are the system's roots and those in a PEM file; nil where there
// is none, which means the system's.
func upstreamRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("upstream.ca_file: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, err
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("upstream.ca_file: %s holds no certificate in PEM: name a file of root certificates", file)
	}
	return roots, nil
}

func (s *server) newAPI() (*admin.API, error) {
	listening, _ := netip.ParseAddrPort(address(s.admin)) // zero where it does not
	return admin.New(admin.Options{
		Store: s.data.store, Events: events(s.ring), Authority: s.data.authority,
		Index: s.data.live, Unmatched: s.cfg.Unmatched, PublicURL: s.cfg.Admin.PublicURL, Hosts: s.cfg.Admin.Hosts,
		Instance: admin.Instance{
			Version: programVersion(), StartedAt: time.Now(), DataDir: s.cfg.DataDir,
			ProxyAddress: address(s.listeners.proxy), ProxyTLS: s.proxyTLS(), AdminAddress: address(s.admin), MetricsAddress: address(s.listeners.metrics),
		},
		OAuth: admin.OAuthOptions{
			Flows: oauth.NewFlows(s.keeper), Keeper: s.keeper, Endpoint: s.endpoint, CallbackURL: callbackURL(s.cfg.Admin.PublicURL, listening),
		},
		Done: s.draining, Later: s.later, Logger: s.log,
	})
}

func (s *server) proxyTLS() bool { return s.cfg.ListenTLS.CertificateFile != "" }

// proxyURL is how clients on this machine reach the proxy, without the user.
func (s *server) proxyURL() string {
	return proxyURL(reachable(address(s.listeners.proxy)), s.proxyTLS())
}

// proxyURL is that of a proxy at an address, without the user.
func proxyURL(address string, tls bool) string {
	if tls {
		return "https://" + address
	}
	return "http://" + address
}

// reachable is an address to dial for one to listen on: one that is on every
// interface is on loopback, and [::] takes IPv4 as well.
func reachable(listening string) string {
	a, err := netip.ParseAddrPort(listening)
	if err != nil || !a.Addr().IsUnspecified() {
		return listening
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port()).String()
}
