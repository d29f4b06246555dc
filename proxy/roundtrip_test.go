package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"attache"
	"attache/proxy"
)

// hellos counts an origin's connections by what they can speak: the pool's offer
// HTTP/1.1 alone.
type hellos struct {
	pooled, unpooled atomic.Int32
	h1               atomic.Bool // HTTP/1.1 is spoken
	h2               atomic.Bool // HTTP/2 is
}

func (h *hellos) configure(s *httptest.Server) {
	s.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		offersH2 := slices.Contains(hello.SupportedProtos, "h2")
		if offersH2 {
			h.unpooled.Add(1)
		} else {
			h.pooled.Add(1)
		}
		c := s.TLS.Clone()
		switch {
		case offersH2 && h.h2.Load():
			c.NextProtos = []string{"h2"}
		case h.h1.Load():
			c.NextProtos = []string{"http/1.1"}
		default:
			return nil, errors.New("HTTP/2 alone") // crypto/tls would let it pass
		}
		return c, nil
	}
}

// ask sends a request and reads the answer.
func (w *world) ask(client *http.Client, method, path, body string) (*http.Response, string) {
	w.t.Helper()
	var up io.Reader
	if body != "" {
		up = strings.NewReader(body)
	}
	return get(w.t, client, request(w.t, method, w.url(path), up))
}

// Once an origin is known to speak HTTP/1.1, what the ordinary path asks it takes
// no goroutine of an upstream connection, and the connections are used again.
func TestAnH1OriginIsAskedOverThePool(t *testing.T) {
	if !hasFastPath() {
		return // it is known, or cannot be
	}
	const requests = 20
	var h hellos
	h.h1.Store(true)
	var arrived atomic.Int32
	finish := make(chan struct{})
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Method, r.URL.Path)
		if r.URL.Path == "/held" {
			_ = http.NewResponseController(w).Flush()
			arrived.Add(1)
			<-finish
		}
	}, h.configure)
	w := newWorld(t, up, func(s *proxy.Settings) { s.Ordinary = true }, bearer("for-a", host))
	client := w.client()
	w.ask(client, "GET", "/first", "")
	if h.pooled.Load() != 0 {
		t.Error("nobody could know what it speaks")
	}
	for range 2 {
		finish, arrived = make(chan struct{}), atomic.Int32{}
		var all sync.WaitGroup
		for range requests {
			all.Go(func() {
				if resp, body := w.ask(client, "GET", "/held", ""); resp.StatusCode != 200 || resp.ProtoMajor != 2 || body != "GET/held" {
					t.Errorf("answer %d %q", resp.StatusCode, body)
				}
			})
		}
		eventually(t, "they do not arrive", func() bool { return arrived.Load() == requests })
		var stacks strings.Builder
		_ = pprof.Lookup("goroutine").WriteTo(&stacks, 2)
		if n := strings.Count(stacks.String(), "net/http.(*persistConn).readLoop("); n > 1 {
			t.Errorf("%d connections are a transport's, want that of the first request", n)
		}
		close(finish)
		all.Wait()
	}
	for _, method := range []string{"HEAD", "OPTIONS", "DELETE", "POST"} {
		w.ask(client, method, "/", "")
	}
	if p, u := h.pooled.Load(), h.unpooled.Load(); p != requests || u != 1 {
		t.Errorf("%d connections of the pool and %d others, want %d and 1", p, u, requests)
	}
	w.ask(client, "POST", "/", "a body")
	if p, u := h.pooled.Load(), h.unpooled.Load(); p != requests || u != 1 {
		t.Errorf("a body made %d connections of the pool and %d others", p-requests, u-1)
	}
}

// An origin that speaks HTTP/2 alone from one moment on is asked over HTTP/2, and
// the request that found that out is answered.
func TestAnOriginMayChangeItsProtocol(t *testing.T) {
	if !hasFastPath() {
		return // as above
	}
	var h hellos
	h.h1.Store(true)
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }, h.configure)
	w := newWorld(t, up, func(s *proxy.Settings) { s.Ordinary = true }, bearer("for-a", host))
	w.assumeHTTP1()
	client := w.client()
	ask := func(want string, pooled, unpooled int32) {
		t.Helper()
		resp, body := w.ask(client, "GET", "/", "")
		if resp.StatusCode != 200 || body != want || h.pooled.Load() != pooled || h.unpooled.Load() != unpooled {
			t.Errorf("answer %d %q, after %d connections of the pool and %d others", resp.StatusCode, body, h.pooled.Load(), h.unpooled.Load())
		}
	}
	ask("HTTP/1.1", 1, 0)
	ask("HTTP/1.1", 1, 0)
	h.h1.Store(false)
	h.h2.Store(true)
	up.CloseClientConnections()
	ask("HTTP/2.0", 2, 1)
	ask("HTTP/2.0", 2, 1)
	h.h1.Store(true)
	h.h2.Store(false)
	up.CloseClientConnections()
	eventually(t, "HTTP/2 is spoken on", func() bool { // until the transport knows that its connection is closed
		resp, _ := w.ask(client, "GET", "/", "")
		return resp.StatusCode == 200
	})
	ask("HTTP/1.1", 3, 2)
}

// However an exchange ends, its place in the pool is free for the next.
func TestNoPlaceInThePoolIsLost(t *testing.T) {
	answers := map[string]string{
		"/ok":       okAnswer,
		"/nothing":  "HTTP/1.1 204 No Content\r\n\r\n",
		"/chunks":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n",
		"/closes":   "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
		"/breaks":   "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
		"/odd":      "HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 2\r\n\r\nok",
		"/junk":     "\x00\r\n\r\n",
		"/switches": "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
		"/407":      "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno",
		"/hints":    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + okAnswer,
		"/more":     okAnswer + okAnswer,
		"/dies":     "",
	}
	left := make(chan struct{}, 10)
	asked := make(chan struct{}, 10)
	up := rawUpstream(t, func(c net.Conn, br *bufio.Reader) {
		for {
			h, err := readHead(br)
			if err != nil {
				return
			}
			path := strings.Fields(h)[1]
			if says, ok := strings.CutPrefix(path, "/leave"); ok {
				if says != "" {
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
				}
				asked <- struct{}{}
				_, _ = io.Copy(io.Discard, br) // until the proxy leaves
				left <- struct{}{}
				return
			}
			says := answers[path]
			if strings.HasPrefix(h, "HEAD") && !hasFastPath() && !isPooled() { // net/http's transport may take its body for the next answer
				says = strings.TrimSuffix(says, "ok")
			}
			if _, err := io.WriteString(c, says); err != nil || path == "/breaks" || path == "/closes" || path == "/dies" {
				return
			}
		}
	})
	w := newWorld(t, up, func(s *proxy.Settings) {
		s.Ordinary, s.Upstream.MaxPerHost = true, 1
	}, bearer("for-a", host))
	client := w.client()
	ok := func(after string) {
		t.Helper()
		w.assumeHTTP1()
		if resp, body := w.ask(client, "GET", "/ok", ""); resp.StatusCode != 200 || body != "ok" {
			t.Errorf("after %s: answer %d %q", after, resp.StatusCode, body)
		}
	}
	for path := range answers {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			if method == "HEAD" && path != "/ok" && path != "/nothing" {
				continue
			}
			w.assumeHTTP1()
			resp, err := client.Do(request(t, method, w.url(path), nil))
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
			ok(method + " " + path)
		}
	}
	for _, path := range []string{"/leave", "/leave-inside"} {
		w.assumeHTTP1()
		ctx, leave := context.WithCancel(t.Context())
		go func() { <-asked; leave() }()
		if resp, err := client.Do(request(t, "GET", w.url(path), nil).WithContext(ctx)); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		select {
		case <-left:
		case <-time.After(8 * time.Second):
			t.Error("the upstream is still asked")
		}
		if e := w.event(func(e attache.Event) bool { return e.Path == path }); e.Code != attache.CodeClientGone {
			t.Errorf("event %+v", e)
		}
		ok(path)
	}
}
