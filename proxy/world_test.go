package proxy_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"attache"
	"attache/certs"
	"attache/policy"
	"attache/proxy"
	"attache/secret"
)

// The credentials of the worlds below. Wherever they turn up but at the
// upstream that they are for, a test fails.
const (
	canary = "canary-f00dfeedc0ffee"
	host   = "api.example.test"
	other  = "other.example.test"
)

// ordinaryVariable is set where the worlds' proxies have no fast path: to pooled
// where they take every upstream for one that speaks HTTP/1.1, and to unpooled
// where they never know.
const ordinaryVariable = "ATTACHE_TEST_ORDINARY"

// hasFastPath is for tests that are about the fast path alone.
func hasFastPath() bool { return os.Getenv(ordinaryVariable) == "" }

// isPooled tells whether the ordinary path alone is there, and uses the pool from
// the first request on.
func isPooled() bool { return os.Getenv(ordinaryVariable) == "pooled" }

// world is a proxy, an upstream that both api.example.test and
// other.example.test resolve to, and what passed between them.
type world struct {
	t        testing.TB
	live     policy.Live
	upstream *origin
	proxy    *proxy.Proxy
	addr     string         // of the proxy
	roots    *x509.CertPool // trusts the proxy's CA
	ca       certs.Authority
	token    string
	hash     attache.TokenHash
	stop     func() // ends Serve and waits for it
	// fresh is the proxy's way to OAuth tokens; it is set before the first request.
	fresh func(ctx context.Context, c *attache.Connection, used uint64) (attache.Grant, error)

	log    lockedBuffer
	mu     sync.Mutex // guards events
	events []attache.Event
	news   chan struct{} // one for each event
}

// origin is a TLS server that keeps what it was asked.
type origin struct {
	*httptest.Server
	port uint16

	mu       sync.Mutex // guards requests
	requests []*http.Request
}

// newOrigin starts an upstream for the test's hosts. handle may be nil.
func newOrigin(t testing.TB, handle http.HandlerFunc, change ...func(*httptest.Server)) *origin {
	t.Helper()
	o := &origin{}
	o.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.requests = append(o.requests, r.Clone(context.Background()))
		o.mu.Unlock()
		if handle != nil {
			handle(w, r)
		}
	}))
	o.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	o.TLS = &tls.Config{Certificates: []tls.Certificate{issue(t, time.Now().Add(time.Hour), host, other, "*.example.test")}}
	o.EnableHTTP2 = true
	for _, c := range change {
		c(o.Server)
	}
	o.StartTLS()
	t.Cleanup(o.Close)
	o.port = portOf(t, o.Listener.Addr())
	return o
}

// last is the request that arrived last; nil where none did.
func (o *origin) last() *http.Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.requests) == 0 {
		return nil
	}
	return o.requests[len(o.requests)-1]
}

func (o *origin) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.requests)
}

// newWorld starts a proxy before the upstream, with the integration "bot", an
// access token, and the connections given.
func newWorld(t testing.TB, up *origin, change func(*proxy.Settings), connections ...attache.Connection) *world {
	t.Helper()
	w := &world{t: t, upstream: up, news: make(chan struct{}, 100_000)}
	w.live.Apply(attache.Change{Integration: &attache.Integration{Name: "bot"}})
	w.token, w.hash = w.addToken("bot", time.Time{})
	for _, c := range connections {
		w.connect(c)
	}

	var err error
	if w.ca, err = certs.NewAuthority(time.Now()); err != nil {
		t.Fatal(err)
	}
	minter := certs.NewMinter(certs.MinterOptions{})
	minter.Use(w.ca)
	w.roots = x509.NewCertPool()
	w.roots.AddCert(w.ca.Certificate())

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = ln.Addr().String()
	loopback := netip.MustParseAddr("127.0.0.1")
	settings := proxy.Settings{Upstream: proxy.Upstream{
		AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Hosts:        map[string]netip.Addr{host: loopback, other: loopback, "deep." + host: loopback},
		Own:          []netip.AddrPort{netip.MustParseAddrPort(w.addr)},
		Roots:        testRoots(t),
	}}
	settings.Ordinary = !hasFastPath()
	if change != nil {
		change(&settings)
	}
	w.proxy, err = proxy.New(settings, proxy.Collaborators{
		Index: w.live.Current,
		Leaf:  minter.Leaf,
		Fresh: func(ctx context.Context, c *attache.Connection, used uint64) (attache.Grant, error) {
			if w.fresh == nil {
				return attache.Grant{}, errors.New("there are no tokens in this world")
			}
			return w.fresh(ctx, c, used)
		},
		Record: w.record,
		Log:    slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	switch os.Getenv(ordinaryVariable) {
	case "pooled":
		w.assumeHTTP1()
	case "unpooled":
		w.proxy.LearnNoOrigin()
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- w.proxy.Serve(ctx, ln) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() {
		w.stop()
		w.check()
	})
	return w
}

// assumeHTTP1 has the ordinary path use the pool from the first request on.
func (w *world) assumeHTTP1() {
	for _, name := range []string{host, other, "deep." + host} {
		w.proxy.AssumeHTTP1(w.upstream.authority(name))
	}
}

func (w *world) record(e *attache.Event) {
	w.mu.Lock()
	w.events = append(w.events, *e)
	w.mu.Unlock()
	w.news <- struct{}{}
}

// awaitStop waits until the proxy, which somebody ends, takes no more clients.
func (w *world) awaitStop() {
	w.t.Helper()
	eventually(w.t, "the listener stays open", func() bool {
		c, err := net.Dial("tcp", w.addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
}

// check holds after every test: no secret in any event, and no event twice.
func (w *world) check() {
	if log := w.log.String(); strings.Contains(log, canary) || strings.Contains(log, w.token) {
		w.t.Errorf("the log shows a secret:\n%s", log)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := map[string]bool{}
	for _, e := range w.events {
		if seen[e.ID] {
			w.t.Errorf("two events with the id %s", e.ID)
		}
		seen[e.ID] = true
		if text := strings.Join([]string{e.Reason, e.Path, e.Target, e.Connection, e.Integration}, " "); strings.Contains(text, canary) || strings.Contains(text, w.token) {
			w.t.Errorf("an event shows a secret: %+v", e)
		}
	}
}

// lockedBuffer is a log that many goroutines write.
type lockedBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// event waits for an event that satisfies is.
func (w *world) event(is func(attache.Event) bool) attache.Event {
	w.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		w.mu.Lock()
		i := slices.IndexFunc(w.events, is)
		var e attache.Event
		if i >= 0 {
			e = w.events[i]
		}
		w.mu.Unlock()
		if i >= 0 {
			return e
		}
		select {
		case <-w.news:
		case <-deadline:
			w.mu.Lock()
			defer w.mu.Unlock()
			w.t.Fatalf("no such event came; there are %+v", w.events)
		}
	}
}

func isRequest(e attache.Event) bool { return e.Kind == attache.RequestEvent }
func isConnect(e attache.Event) bool { return e.Kind == attache.ConnectEvent }

// expireToken gives the token a moment to live, and waits until that is over.
func (w *world) expireToken() {
	expires := time.Now().Add(100 * time.Millisecond)
	w.live.Apply(attache.Change{AccessToken: &attache.AccessToken{ID: "1", Integration: "bot", Hash: w.hash, ExpiresAt: expires}})
	<-time.After(time.Until(expires))
}

func (w *world) addToken(integration string, expires time.Time) (string, attache.TokenHash) {
	id, token, hash := attache.NewToken(attache.AccessTokenPrefix)
	w.live.Apply(attache.Change{AccessToken: &attache.AccessToken{
		ID: id, Integration: integration, Hash: hash, CreatedAt: time.Now(), ExpiresAt: expires,
	}})
	return token.Expose(), hash
}

func (w *world) connect(c attache.Connection) {
	w.t.Helper()
	if c.Integration == "" {
		c.Integration = "bot"
	}
	if c.AllowedPorts == nil {
		c.AllowedPorts = []uint16{w.upstream.port}
	}
	if err := policy.CheckConnection(&c); err != nil {
		w.t.Fatal(err)
	}
	w.live.Apply(attache.Change{Connection: &c})
}

func bearer(name, domain string) attache.Connection {
	return attache.Connection{
		Name: name, Type: attache.BearerToken, AllowedDomain: attache.AllowedDomain(domain),
		Credential: attache.Credential{Token: secret.New(canary)},
	}
}

// proxyURL is what a client of the world sets HTTPS_PROXY to.
func (w *world) proxyURL() *url.URL {
	return &url.URL{Scheme: "http", User: url.UserPassword("bot", w.token), Host: w.addr}
}

// url is a URL at the upstream under its name.
func (w *world) url(path string) string { return "https://" + w.upstream.authority(host) + path }

func (o *origin) authority(name string) string {
	return net.JoinHostPort(name, portString(o.port))
}

// client is an ordinary Go client behind the proxy.
func (w *world) client(change ...func(*http.Transport)) *http.Client {
	tr := &http.Transport{
		Proxy:              http.ProxyURL(w.proxyURL()),
		TLSClientConfig:    &tls.Config{RootCAs: w.roots},
		DisableCompression: true,
		ForceAttemptHTTP2:  true,
	}
	for _, c := range change {
		c(tr)
	}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// h1 keeps a client from speaking HTTP/2.
func h1(tr *http.Transport) {
	tr.ForceAttemptHTTP2 = false
	tr.Protocols = new(http.Protocols)
	tr.Protocols.SetHTTP1(true)
}

var testCA = sync.OnceValues(func() (certs.Authority, error) { return certs.NewAuthority(time.Now()) })

func testRoots(t testing.TB) *x509.CertPool {
	t.Helper()
	ca, err := testCA()
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate())
	return pool
}

// issue makes an upstream's certificate, signed by the tests' authority.
func issue(t testing.TB, until time.Time, names ...string) tls.Certificate {
	t.Helper()
	ca, err := testCA()
	if err != nil {
		t.Fatal(err)
	}
	return issueBy(t, ca, until, names...)
}

func issueBy(t testing.TB, ca certs.Authority, until time.Time, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "upstream"},
		DNSNames:     names,
		NotBefore:    until.Add(-48 * time.Hour),
		NotAfter:     until,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca.Certificate(), key.Public(), ca.Key())
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func portOf(t testing.TB, addr net.Addr) uint16 {
	t.Helper()
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		t.Fatal(err)
	}
	return ap.Port()
}

// h2Alone makes an origin end the handshake with whoever does not offer HTTP/2.
func h2Alone(s *httptest.Server) {
	s.TLS.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if !slices.Contains(h.SupportedProtos, "h2") {
			return nil, errors.New("HTTP/2 alone")
		}
		return nil, nil
	}
}

// newPlainOrigin is an origin that speaks http.
func newPlainOrigin(t testing.TB) *origin {
	t.Helper()
	o := &origin{}
	o.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.requests = append(o.requests, r.Clone(context.Background()))
		o.mu.Unlock()
	}))
	t.Cleanup(o.Close)
	o.port = portOf(t, o.Listener.Addr())
	return o
}
