package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"attache"
	"attache/configs"
)

func TestAServerIsAliveFromStartToEndAndReadyBetween(t *testing.T) {
	s := newTestServer(t)
	answers := func(path string, want int) {
		t.Helper()
		w := httptest.NewRecorder()
		s.metricsHandler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if w.Code != want {
			t.Errorf("%s answers %d %s, want %d", path, w.Code, w.Body, want)
		}
	}
	answers("/healthz", http.StatusOK)
	answers("/readyz", http.StatusServiceUnavailable)
	end := running(t, s)
	awaiting(t, "the server runs", s.ready.Load)
	answers("/readyz", http.StatusOK)
	end()
	answers("/readyz", http.StatusServiceUnavailable)
	answers("/healthz", http.StatusOK)
}

func TestMetricsAreNotReadByAPageWhoseNameWasReboundToLoopback(t *testing.T) {
	s := newTestServer(t, func(cfg *configs.Config) { cfg.Admin.Hosts = []string{"attache.example.com"} })
	for host, want := range map[string]int{
		"rebound.attacker.example:3130": http.StatusMisdirectedRequest,
		"attache.example.com":           http.StatusOK,
		"localhost:3130":                http.StatusOK,
		"127.0.0.1:3130":                http.StatusOK,
		"[::1]:3130":                    http.StatusOK,
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
		r.Host = host
		s.metricsHandler().ServeHTTP(w, r)
		if read := strings.Contains(w.Body.String(), "attache_"); w.Code != want || read != (want == http.StatusOK) {
			t.Errorf("under the name %s the answer is %d %.200s", host, w.Code, w.Body)
		}
	}
}

func TestAServerThatIsToKeepNoEventsKeepsNone(t *testing.T) {
	s := newTestServer(t, func(cfg *configs.Config) { cfg.Events.Keep = 0 })
	s.sink()(new(attache.Event{ID: "last", Kind: attache.RequestEvent}))
	if kept := s.ring.Recent(10); len(kept) > 0 {
		t.Errorf("it keeps %+v", kept)
	}
}

func TestErrandsThatWaitAtTheEndAreToldSo(t *testing.T) {
	s := newTestServer(t)
	end := running(t, s)
	ran := make(chan error)
	s.later(func(ctx context.Context) {
		<-ctx.Done()
		ran <- nil
	})
	s.later(func(ctx context.Context) { ran <- ctx.Err() })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		end()
	}()
	if err := errors.Join(<-ran, <-ran); !errors.Is(err, context.Canceled) {
		t.Errorf("the errand that waited got %v", err)
	}
	<-ended
}

// pipes is a listener in the process.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error { return nil }
func (pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func TestAClientThatReadsNothingIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := make(pipes)
		ended := make(chan time.Duration, 1)
		s := &server{log: slog.New(slog.DiscardHandler)}
		serve := s.serving(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			began := time.Now()
			for {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					ended <- time.Since(began)
					return
				}
			}
		}))
		served := make(chan error)
		go func() { served <- serve(t.Context()) }()
		ours, theirs := net.Pipe()
		ln <- theirs
		if _, err := io.WriteString(ours, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		select {
		case after := <-ended:
			// A provider may take ten seconds, and so may a passphrase.
			if after < 30*time.Second {
				t.Errorf("given up after %s, which is too little for an answer that takes long", after)
			}
		case <-time.After(5 * time.Minute):
			t.Error("the answer still waits for its reader after five minutes")
		}
		_ = ours.Close()
		close(ln)
		if err := <-served; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// asked is a connection over which a health check has been answered, or an error
// where there is no answer within a time.
func asked(t *testing.T, address string, within time.Duration) (net.Conn, error) {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, within)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(within))
	if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return c, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return c, err
	}
	return c, resp.Body.Close()
}

func TestAPortServesSoManyClientsAtOnceAndOthersWait(t *testing.T) {
	s := newTestServer(t)
	defer running(t, s)()
	for name, ln := range map[string]net.Listener{"admin": s.admin, "metrics": s.listeners.metrics} {
		t.Run(name, func(t *testing.T) {
			var last net.Conn
			for range httpConnections {
				var err error
				if last, err = asked(t, address(ln), 10*time.Second); err != nil {
					t.Fatal(err)
				}
			}
			early, err := asked(t, address(ln), 200*time.Millisecond)
			if err == nil {
				t.Error("one more is served at once")
			}
			_ = early.Close()
			_ = last.Close()
			if _, err := asked(t, address(ln), 10*time.Second); err != nil {
				t.Errorf("when one has left, the next is not served: %v", err)
			}
		})
	}
}
