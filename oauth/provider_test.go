package oauth_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// canary is in every secret of the tests, and must be in nothing that is shown.
const canary = "canary-51c3"

// provider is an authorization server over real TLS. It rotates refresh tokens
// and revokes the whole family of one that is spent twice, unless told otherwise.
// It does not need a network, so it also runs in a bubble of synctest.
type provider struct {
	listener *pipes
	server   *httptest.Server
	asked    chan string // gets the grant type of each request that is seen; nil: nobody looks

	mu       sync.Mutex // guards what follows
	life     time.Duration
	keeps    bool                             // does not rotate
	forgets  bool                             // keeps no list of requests
	script   []http.HandlerFunc               // for the next requests, one each
	requests []request                        // seen
	families map[string]*family               // by the first word of their tokens
	access   map[string]time.Time             // until when each access token is valid
	outage   func(w http.ResponseWriter) bool // answers in our place, if it returns true
}

type request struct {
	header http.Header
	form   url.Values
	path   string
	peers  []*x509.Certificate
}

// family is one authorization and every token that came of it.
type family struct {
	name    string
	count   int    // refreshes
	refresh string // the one that may be spent
	revoked bool
	reused  int // how often a token was spent that was spent before
}

func newProvider() *provider {
	return &provider{
		life:     time.Hour,
		families: map[string]*family{},
		access:   map[string]time.Time{},
	}
}

// listen lets the provider be reached over TLS, through its listener.
func (p *provider) listen(t testing.TB) {
	p.listener = newPipes()
	p.server = httptest.NewUnstartedServer(p)
	p.server.Listener.Close()
	p.server.Listener = p.listener
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	p.server.StartTLS()
	t.Cleanup(p.server.Close)
}

// roots are what verifies the provider's certificate, for example.com.
func (p *provider) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.server.Certificate())
	return pool
}

// next scripts the answer to the next request that has none yet.
func (p *provider) next(h ...http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.script = append(p.script, h...)
}

func (p *provider) seen() []request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

// family returns what became of the family of that name.
func (p *provider) family(name string) family {
	p.mu.Lock()
	defer p.mu.Unlock()
	return *p.families[name]
}

// accepts tells whether an upstream of this provider accepts the access token.
func (p *provider) accepts(token string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Before(p.access[token])
}

// begin makes a family, as a person's authorization does.
func (p *provider) begin(name string) (access, refresh string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := &family{name: name}
	p.families[name] = f
	p.advance(f, p.life)
	return p.accessOf(f), f.refresh
}

// advance makes the next tokens of a family.
func (p *provider) advance(f *family, life time.Duration) {
	f.count++
	if f.refresh == "" || !p.keeps {
		f.refresh = fmt.Sprintf("%s.refresh.%d.%s", f.name, f.count, canary)
	}
	delete(p.access, fmt.Sprintf("%s.access.%d.%s", f.name, f.count-2, canary)) // no need to keep all
	p.access[p.accessOf(f)] = time.Now().Add(life)
}

func (p *provider) accessOf(f *family) string {
	return fmt.Sprintf("%s.access.%d.%s", f.name, f.count, canary)
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	form := read(r)
	p.mu.Lock()
	seen := request{header: r.Header, form: form, path: r.URL.Path}
	if r.TLS != nil {
		seen.peers = r.TLS.PeerCertificates
	}
	if !p.forgets {
		p.requests = append(p.requests, seen)
	}
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { p.behave(w, form) })
	if len(p.script) > 0 {
		answer, p.script = p.script[0], p.script[1:]
	}
	p.mu.Unlock()
	if p.asked != nil {
		p.asked <- form.Get("grant_type")
	}
	answer(w, r)
}

// read returns the parameters of a request, which are a form or JSON.
func read(r *http.Request) url.Values {
	if r.Header.Get("Content-Type") != "application/json" {
		_ = r.ParseForm()
		return r.PostForm
	}
	object := map[string]string{}
	_ = json.NewDecoder(r.Body).Decode(&object)
	form := url.Values{}
	for k, v := range object {
		form.Set(k, v)
	}
	return form
}

// behave answers as RFC 6749 says.
func (p *provider) behave(w http.ResponseWriter, form url.Values) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.outage != nil && p.outage(w) {
		return
	}
	var f *family
	life := p.life
	switch form.Get("grant_type") {
	case "refresh_token":
		token := form.Get("refresh_token")
		name, _, _ := strings.Cut(token, ".")
		f = p.families[name]
		switch {
		case f == nil || f.revoked:
			refuseWith(w, 400, "invalid_grant")
			return
		case f.refresh != token:
			f.reused++
			f.revoked = true
			refuseWith(w, 400, "invalid_grant")
			return
		}
	case "client_credentials", "authorization_code", "urn:ietf:params:oauth:grant-type:device_code":
		name := cmp.Or(form.Get("family"), form.Get("grant_type")[:6])
		if f = p.families[name]; f == nil {
			f = &family{name: name}
			p.families[name] = f
		}
	default:
		refuseWith(w, 400, "unsupported_grant_type")
		return
	}
	if seconds := form.Get("life"); seconds != "" {
		life, _ = time.ParseDuration(seconds)
	}
	p.advance(f, life)
	a := map[string]any{"access_token": p.accessOf(f), "token_type": "bearer", "expires_in": int(life.Seconds())}
	if form.Get("grant_type") != "client_credentials" {
		a["refresh_token"] = f.refresh
	}
	answerWith(w, 200, a)
}

func refuseWith(w http.ResponseWriter, status int, code string) {
	answerWith(w, status, map[string]any{"error": code, "error_description": "because of " + canary})
}

func answerWith(w http.ResponseWriter, status int, a map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(a)
}

// says answers with a status, headers ("Name: value") and a body.
func says(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// hangsUp breaks the connection with the request read and nothing answered.
func hangsUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// neverAnswers waits until nobody does any more. An answer then might still be
// read, since the client of a TLS connection says goodbye before it is gone.
func neverAnswers(w http.ResponseWriter, r *http.Request) {
	<-r.Context().Done()
	hangsUp(w, r)
}

// pipes is a network of one listener.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.done:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: io.ErrClosedPipe}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// direct calls a handler without a connection.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	w := &recorder{status: http.StatusOK, header: http.Header{}}
	d.ServeHTTP(w, r)
	return &http.Response{StatusCode: w.status, Header: w.header, Body: io.NopCloser(&w.body), Request: r}, nil
}

type recorder struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(status int)      { w.status = status }
func (w *recorder) Write(b []byte) (int, error) { return w.body.Write(b) }
