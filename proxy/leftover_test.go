package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"attache"
	"attache/proxy"
)

// What is wrong with a request is said without its body, which may never come.
func TestARefusalDoesNotWaitForTheBody(t *testing.T) {
	up := newOrigin(t, nil)
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	outside, inside := w.dial, func() net.Conn { return w.secure(w.open(a), host) }
	for name, c := range map[string]struct {
		dial func() net.Conn
		head string
	}{
		"not a proxy request":    {outside, "POST / HTTP/1.1\r\nHost: x\r\n"},
		"no access token":        {outside, "POST http://x.example.test/ HTTP/1.1\r\nHost: x\r\n"},
		"a CONNECT without one":  {outside, "CONNECT " + a + " HTTP/1.1\r\nHost: x\r\n"},
		"a CONNECT in a tunnel":  {inside, "CONNECT " + a + " HTTP/1.1\r\nHost: " + a + "\r\n"},
		"another host in tunnel": {inside, "POST / HTTP/1.1\r\nHost: " + other + "\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := c.dial()
			_ = conn.SetReadDeadline(time.Now().Add(8 * time.Second))
			fmt.Fprintf(conn, "%sContent-Length: 10\r\n\r\n", c.head)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode < 400 {
				t.Errorf("answer %d", resp.StatusCode)
			}
		})
	}
}

// Whoever stops inside a body that was answered is not waited for.
func TestAnAnsweredUploadThatStopsIsNotWaitedFor(t *testing.T) {
	up := rawUpstream(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := readHead(br); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
		}
		_, _ = io.Copy(io.Discard, br)
	})
	w := newWorld(t, up, func(s *proxy.Settings) { s.Ordinary = true }, bearer("for-a", host))
	a := up.authority(host)
	var all sync.WaitGroup
	for range 40 {
		conn := w.secure(w.open(a), host)
		all.Go(func() {
			defer conn.Close()
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 1000\r\n\r\n0123456789", a)
			br := bufio.NewReader(conn)
			resp, err := http.ReadResponse(br, nil)
			if err != nil || resp.StatusCode != 413 {
				t.Errorf("answer %v: %v", resp, err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			if _, err := br.ReadByte(); err != io.EOF {
				t.Errorf("the connection goes on: %v", err)
			}
		})
	}
	all.Wait()
}

// An upstream that is slow to read is not the client's fault.
func TestAnUploadWaitsForItsUpstream(t *testing.T) {
	const size = 4 << 20
	for protocol, change := range map[string][]func(*http.Transport){"HTTP/1.1": {h1}, "HTTP/2": nil} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				<-time.After(2500 * time.Millisecond)
				n, err := io.Copy(io.Discard, r.Body)
				fmt.Fprint(w, n, err)
			})
			w := newWorld(t, up, func(s *proxy.Settings) {
				s.Ordinary, s.Limits.IdleTimeout = true, time.Second
			}, bearer("for-a", host))
			resp, body := get(t, w.client(change...), request(t, "POST", w.url("/"), io.MultiReader(bytes.NewReader(make([]byte, size)))))
			if resp.StatusCode != 200 || body != fmt.Sprint(size, nil) {
				t.Errorf("answer %d %q", resp.StatusCode, body)
			}
		})
	}
}

// A connection may be deleted while the body comes: the fast path has admitted the
// request, and the ordinary one, which gets it then, does not.
func TestADenialInsideABodyIsAnswered(t *testing.T) {
	if !hasFastPath() {
		return
	}
	for _, size := range []int{1000, 30_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			up := newOrigin(t, nil, only11)
			w := newWorld(t, up, func(s *proxy.Settings) { s.Unmatched = attache.Deny }, bearer("for-a", host))
			body, more := io.Pipe()
			r := request(t, "POST", w.url("/"), body)
			r.ContentLength = int64(size)
			go func() {
				_, _ = more.Write(make([]byte, size/2))
				<-time.After(300 * time.Millisecond)
				w.live.Apply(attache.Change{Deleted: true, Connection: &attache.Connection{Integration: "bot", Name: "for-a"}})
				_, _ = more.Write(make([]byte, size-size/2))
				_ = more.Close()
			}()
			if resp, _ := get(t, w.client(), r); resp.StatusCode != 403 {
				t.Errorf("answer %d", resp.StatusCode)
			}
		})
	}
}

// A client may be silent for as long as its upstream is not: limits.idle_timeout is of
// both directions.
func TestASilentUploadIsNotIdleWhileItsAnswerComes(t *testing.T) {
	for name, c := range map[string]struct {
		change []func(*http.Transport)
		origin func(*httptest.Server)
	}{
		"HTTP/1.1":                    {[]func(*http.Transport){h1}, only11},
		"HTTP/2":                      {nil, h2Alone},
		"HTTP/2 to an older upstream": {nil, only11},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				rc := http.NewResponseController(w)
				_ = rc.EnableFullDuplex()
				for range 10 {
					_, _ = io.WriteString(w, "x")
					_ = rc.Flush()
					<-time.After(300 * time.Millisecond)
				}
				_, _ = io.Copy(w, r.Body)
			}, c.origin)
			w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.IdleTimeout = time.Second }, bearer("for-a", host))
			body, more := io.Pipe()
			go func() {
				_, _ = more.Write([]byte("a"))
				<-time.After(2800 * time.Millisecond)
				_, _ = more.Write([]byte("b"))
				_ = more.Close()
			}()
			if resp, body := get(t, w.client(c.change...), request(t, "POST", w.url("/"), body)); resp.StatusCode != 200 || body != "xxxxxxxxxxab" {
				t.Errorf("answer %d %q", resp.StatusCode, body)
			}
		})
	}
}

// When the proxy ends, a long request over a plain connection does not take the time of
// those in tunnels.
func TestTunnelsAreToldOfTheEndBesideAPlainRequest(t *testing.T) {
	arrived, finish := make(chan struct{}), make(chan struct{})
	plain := clearUpstreamOn(t, loopback(t), func(c net.Conn, br *bufio.Reader) {
		if _, err := readHead(br); err == nil {
			close(arrived)
			<-finish
			_, _ = io.WriteString(c, okAnswer)
		}
	})
	up := newOrigin(t, nil)
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Drain = 20 * time.Second }, bearer("for-a", host))
	tunnel := w.secure(w.open(up.authority(host)), host)
	ask(t, tunnel, "GET / HTTP/1.1\r\nHost: "+up.authority(host)+"\r\n\r\n")
	conn := w.dial()
	fmt.Fprintf(conn, "GET http://%s/ HTTP/1.1\r\nHost: %[1]s\r\nProxy-Authorization: %s\r\n\r\n", plain.authority(other), w.authorization())
	<-arrived
	stopped := make(chan struct{})
	go func() {
		w.stop()
		close(stopped)
	}()
	_ = tunnel.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := tunnel.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the tunnel is still open: %v", err)
	}
	close(finish)
	if resp, body := answer(t, bufio.NewReader(conn), "GET"); resp.StatusCode != 200 || body != "ok" {
		t.Errorf("answer %d %q", resp.StatusCode, body)
	}
	<-stopped
}
