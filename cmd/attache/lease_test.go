package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"attache"
	"attache/client"
	"attache/configs"
	"attache/store"
)

// newTestServer is a server on a directory of its own, which does not run yet.
func newTestServer(t *testing.T, edits ...func(*configs.Config)) *server {
	t.Helper()
	a := &app{out: io.Discard, err: io.Discard, lookup: func(string) (string, bool) { return "", false }}
	cfg := configs.Default()
	cfg.DataDir = filepath.Join(t.TempDir(), "data")
	cfg.Listen = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	cfg.Admin.Listen, cfg.Metrics.Listen = cfg.Listen, cfg.Listen
	for _, edit := range edits {
		edit(&cfg)
	}
	s, err := a.newServer(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// running runs a server until the returned function is called, which checks that
// it ended well and left nothing behind.
func running(t *testing.T, s *server) (end func()) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		goleak.VerifyNone(t, before)
	}
}

func (s *server) knows(token accessToken) bool {
	_, ok := s.data.live.Current().AccessToken(token.hash)
	return ok
}

// awaiting fails unless something is so before long.
func awaiting(t *testing.T, what string, is func() bool) {
	t.Helper()
	so := false
	err := eventually(t.Context(), 10*time.Second, func() (bool, error) {
		so = is()
		return so, nil
	})
	if err != nil || !so {
		t.Fatalf("not before long: %s (%v)", what, err)
	}
}

func TestALeaseIsATokenForAsLongAsTheConnectionLives(t *testing.T) {
	s := newTestServer(t)
	end := running(t, s)
	defer end()
	token := newAccessToken()
	l, err := takeLease(t.Context(), s.cfg.DataDir, defaultIntegration, token)
	if err != nil {
		t.Fatal(err)
	}
	if !s.knows(token) {
		t.Error("the token is not valid in its lease")
	}
	if l.ProxyURL != "http://"+s.listeners.proxy.Addr().String() || l.CA == "" {
		t.Errorf("the lease is %+v", l.leaseAnswer)
	}
	if stored, err := s.data.store.AccessTokens(t.Context(), defaultIntegration); err != nil || len(stored) > 0 {
		t.Errorf("the token was stored: %v, %v", stored, err)
	}
	if s.idle.over(0) {
		t.Error("a server with a lease is idle")
	}
	l.end()
	awaiting(t, "the token ends with its lease", func() bool { return !s.knows(token) })
}

func TestLeasesThatAreRefused(t *testing.T) {
	s := newTestServer(t)
	end := running(t, s)
	defer end()
	token := newAccessToken()
	if _, err := takeLease(t.Context(), s.cfg.DataDir, "nobody", token); !errors.Is(err, attache.ErrNotFound) {
		t.Errorf("for an integration that does not exist: %v", err)
	}
	if s.knows(token) {
		t.Error("a refused token is valid")
	}
	if _, err := takeLease(t.Context(), t.TempDir(), defaultIntegration, token); !errors.Is(err, errNoServer) {
		t.Errorf("of no server: %v", err)
	}
	for _, body := range []string{"", "{", `{"integration":"default","id":"x","hash":"00"}`, `{"integration":"default","hash":"zz"}`} {
		resp, err := askSocket(t.Context(), s.socket.Addr().String(), leasePath, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("for %q: %s", body, resp.Status)
		}
		_ = resp.Body.Close()
	}
}

func TestADeletedIntegrationTakesItsLeasesTokens(t *testing.T) {
	s := newTestServer(t)
	end := running(t, s)
	defer end()
	token := newAccessToken()
	l, err := takeLease(t.Context(), s.cfg.DataDir, defaultIntegration, token)
	if err != nil {
		t.Fatal(err)
	}
	defer l.end()
	if err := s.data.store.DeleteIntegration(t.Context(), defaultIntegration); err != nil {
		t.Fatal(err)
	}
	if s.knows(token) {
		t.Error("the token outlived its integration")
	}
}

func TestALeaseOutlivesTheReadTimeout(t *testing.T) {
	s := newTestServer(t)
	ended := make(chan struct{})
	slow := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		s.serveLease(w, r)
	}))
	slow.Config.ReadTimeout = 50 * time.Millisecond
	dir := t.TempDir()
	var err error
	if slow.Listener, err = net.Listen("unix", filepath.Join(dir, socketFile)); err != nil {
		t.Fatal(err)
	}
	slow.Start()
	defer slow.Close()
	l, err := takeLease(t.Context(), dir, defaultIntegration, newAccessToken())
	if err != nil {
		t.Fatal(err)
	}
	defer l.end()
	select {
	case <-ended:
		t.Error("it ended by itself")
	case <-l.lost:
		t.Error("it was lost")
	case <-time.After(5 * slow.Config.ReadTimeout):
	}
}

func TestAServerThatEndsSaysSoToItsLeases(t *testing.T) {
	s := newTestServer(t)
	end := running(t, s)
	l, err := takeLease(t.Context(), s.cfg.DataDir, defaultIntegration, newAccessToken())
	if err != nil {
		t.Fatal(err)
	}
	end()
	<-l.lost
	l.end()
}

func TestOnlyOneServerHasADataDirectory(t *testing.T) {
	s := newTestServer(t)
	a := &app{out: io.Discard, err: io.Discard}
	cfg := s.cfg
	if _, err := a.newServer(t.Context(), cfg, s.log); !errors.Is(err, store.ErrInUse) {
		t.Errorf("the second: %v", err)
	}
	// It has not taken the first one's socket with it.
	end := running(t, s)
	defer end()
	c, err := client.New(client.Options{Socket: s.socket.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
}
