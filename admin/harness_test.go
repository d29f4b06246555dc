package admin_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"attache"
	"attache/admin"
	"attache/audit"
	"attache/certs"
	"attache/client"
	"attache/policy"
	"attache/secret"
	"attache/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is the API over a real store, on a TCP listener and on a Unix socket.
type server struct {
	t      testing.TB
	api    *admin.API
	store  *store.Store
	ring   *audit.Ring
	log    *lockedBuffer
	url    string
	socket string
	done   chan struct{}
}

func start(t testing.TB) *server {
	t.Helper()
	return startAs(t, admin.Instance{Version: "1.2.3", StartedAt: time.Now(), DataDir: "/data", ProxyAddress: "127.0.0.1:3128"})
}

func startAs(t testing.TB, as admin.Instance) *server {
	t.Helper()
	return startWith(t, func(_ *server, o *admin.Options) { o.Instance = as })
}

// startWith starts a server whose options are changed when there is a store.
func startWith(t testing.TB, change func(*server, *admin.Options)) *server {
	t.Helper()
	s := &server{t: t, ring: audit.NewRing(100), log: &lockedBuffer{}, done: make(chan struct{})}
	var err error
	if s.store, err = store.Open(t.Context(), store.Options{Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, s.store.Close()) })
	var live policy.Live
	cancel, err := s.store.Subscribe(t.Context(), live.Apply)
	must(t, err)
	t.Cleanup(cancel)
	options := admin.Options{
		Store: s.store,
		Events: admin.EventsFrom(s.ring.Recent, s.ring.Subscribe,
			func(d audit.Delivery) (attache.Event, uint64) { return d.Event, d.Missed }),
		Authority: newAuthority(t),
		Index:     &live,
		Hosts:     []string{"admin.example.com"},
		Done:      s.done,
		Logger:    slog.New(slog.NewJSONHandler(s.log, nil)),
	}
	change(s, &options)
	s.api, err = admin.New(options)
	must(t, err)
	tcp := httptest.NewServer(s.api)
	t.Cleanup(tcp.Close)
	s.url = tcp.URL
	s.socket = filepath.Join(t.TempDir(), "admin.sock")
	l, err := net.Listen("unix", s.socket)
	must(t, err)
	unix := &httptest.Server{Listener: l, Config: &http.Server{Handler: s.api.Trusted()}}
	unix.Start()
	t.Cleanup(unix.Close)
	return s
}

// client is a client over the socket.
func (s *server) client() *client.Client {
	s.t.Helper()
	c, err := client.New(client.Options{Socket: s.socket})
	must(s.t, err)
	s.t.Cleanup(c.Close)
	return c
}

// token makes an admin token.
func (s *server) token(role attache.Role) secret.Text {
	s.t.Helper()
	made, err := s.client().CreateAdminToken(s.t.Context(), role, time.Time{})
	must(s.t, err)
	return made.Token.Text
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// raw sends a request over TCP, as curl would: header lines are "Name: value".
func (s *server) raw(method, path, body string, header ...string) answer {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	must(s.t, err)
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			r.Host = value
			continue
		}
		r.Header.Add(name, value)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	must(s.t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	must(s.t, err)
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// as is the header of a request with the token.
func as(token secret.Text) string { return "Authorization: Bearer " + token.Expose() }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// authority is the CA, kept in memory.
type authority struct {
	mu  sync.Mutex
	all []certs.Authority // the signing one first
}

func newAuthority(t testing.TB) *authority {
	a := &authority{}
	must(t, a.Rotate(t.Context()))
	return a
}

func (a *authority) Certificates(context.Context) ([]*x509.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []*x509.Certificate
	for _, one := range a.all {
		all = append(all, one.Certificate())
	}
	return all, nil
}

func (a *authority) Rotate(context.Context) error {
	made, err := certs.NewAuthority(time.Now())
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append([]certs.Authority{made}, a.all...)
	return nil
}

func (a *authority) Drop(_ context.Context, fingerprint [sha256.Size]byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := len(a.all)
	a.all = slices.DeleteFunc(a.all, func(one certs.Authority) bool {
		return sha256.Sum256(one.Certificate().Raw) == fingerprint
	})
	if len(a.all) == before {
		return attache.ErrNotFound
	}
	return nil
}

// lockedBuffer is a log that a test can read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
