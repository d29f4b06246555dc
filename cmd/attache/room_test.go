package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"attache/configs"
)

// TestAServerThatIsEndingIsNone: whoever asks waits for it to end, and is not told
// that it fails.
func TestAServerThatIsEndingIsNone(t *testing.T) {
	for sentence, answer := range map[string]func(net.Conn){
		"that says so":      func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n") },
		"that says nothing": func(net.Conn) {},
		"in mid-answer":     func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n") },
	} {
		t.Run(sentence, func(t *testing.T) {
			dir := t.TempDir()
			ln, err := net.Listen("unix", filepath.Join(dir, socketFile))
			if err != nil {
				t.Fatal(err)
			}
			var asked sync.WaitGroup
			asked.Go(func() {
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					_, _ = http.ReadRequest(bufio.NewReader(conn))
					answer(conn)
					_ = conn.Close()
				}
			})
			if _, err := localAPI(t.Context(), dir); !errors.Is(err, errNoServer) {
				t.Errorf("it is %v", err)
			}
			_ = ln.Close()
			asked.Wait()
		})
	}
	if reset := fmt.Errorf("read: %w", syscall.ECONNRESET); !unanswered(reset) {
		t.Errorf("%v is an answer", reset)
	}
}

func TestAServerThatMakesRoomEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{log: slog.New(slog.DiscardHandler), idle: newIdle()}
		s.cfg.IdleExit = time.Hour
		began := time.Now()
		ended := make(chan error)
		go func() { ended <- s.endWhenIdle(t.Context()) }()
		synctest.Wait()
		if !s.idle.over(0) {
			t.Error("it is busy")
		}
		if err := <-ended; err != nil || time.Since(began) > 0 {
			t.Errorf("it takes %s, and ends with %v", time.Since(began), err)
		}
	})
}

// TestARequestThatIsUnderWayKeepsAServer, also one for an http URL, which has no
// tunnel.
func TestARequestThatIsUnderWayKeepsAServer(t *testing.T) {
	came, answer := make(chan struct{}), make(chan struct{})
	origin := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(came)
		<-answer
	}))
	defer origin.Close()
	s := newTestServer(t, func(cfg *configs.Config) {
		cfg.IdleExit = 100 * time.Millisecond
		cfg.Upstream.AllowPrivate = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	s.yields = true
	token, err := s.data.newToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g := grant{proxyURL: s.proxyURL(), user: defaultIntegration, token: token}
	transport, err := g.transport()
	if err != nil {
		t.Fatal(err)
	}
	defer transport.CloseIdleConnections()
	ended := make(chan error, 1)
	go func() { ended <- s.run(t.Context()) }()

	answered := make(chan error, 1)
	go func() {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, origin.URL, nil)
		if err != nil {
			answered <- err
			return
		}
		resp, err := transport.RoundTrip(r)
		if err == nil {
			err = resp.Body.Close()
		}
		answered <- err
	}()
	<-came
	select {
	case err := <-ended:
		t.Fatalf("it ends by itself: %v", err)
	case <-time.After(5 * s.cfg.IdleExit):
	}
	if who, err := askForRoom(t.Context(), s.cfg.DataDir, endPath, nil); who == nil {
		t.Errorf("it makes room: %v", err)
	}
	close(answer)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestSettingsTellSecretsApartAndDoNotHaveThem(t *testing.T) {
	none := configs.Default()
	for _, k := range configs.Keys() {
		if !k.Secret {
			continue
		}
		one, another := none, none
		const canary = "http://bob:canary@example.com:1/"
		if err := errors.Join(k.Set(&one, canary), k.Set(&another, "http://eve:canary@example.com:1/")); err != nil {
			t.Fatal(err)
		}
		for _, other := range []configs.Config{none, another} {
			if got := settingsOf(one).unlike(settingsOf(other)); !slices.Equal(got, []string{k.Name}) {
				t.Errorf("%s: %v differ", k.Name, got)
			}
		}
		if got := settingsOf(one).unlike(settingsOf(one)); got != nil {
			t.Errorf("%s differs from itself", k.Name)
		}
		for _, form := range []string{canary, hex.EncodeToString([]byte(canary))} {
			if text := fmt.Sprint(settingsOf(one)); strings.Contains(text, form) {
				t.Errorf("%s is there: %s", k.Name, text)
			}
		}
	}
}
