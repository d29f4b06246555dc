package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"attache"
	"attache/proxy"
	"attache/secret"
)

// Invariant 9: whatever a test opened has ended when the tests have.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// eventually waits until ok, and fails where it does not come.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(15 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal(what)
		}
	}
}

// openFiles counts this process's file descriptors, where the system tells.
func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

func TestAThousandTunnelsLeaveNothingBehind(t *testing.T) {
	const tunnels = 1000
	up := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	w := newWorld(t, up, func(s *proxy.Settings) { s.Upstream.MaxIdlePerHost = 4 }, bearer("for-a", host))
	warm := w.secure(w.open(up.authority(host)), host)
	ask(t, warm, "GET / HTTP/1.1\r\nHost: "+up.authority(host)+"\r\n\r\n")
	_ = warm.Close()
	eventually(t, "the first tunnel stays", func() bool { return w.proxy.Stats().Tunnels == 0 })
	goroutines, files := runtime.NumGoroutine(), openFiles(t)

	conns := make([]net.Conn, tunnels)
	var all sync.WaitGroup
	few := make(chan struct{}, 50) // handshakes at a time
	for i := range conns {
		all.Go(func() {
			few <- struct{}{}
			defer func() { <-few }()
			target, roots := host, w.roots
			if i%2 == 1 {
				target, roots = other, testRoots(t) // opaque
			}
			raw, err := net.Dial("tcp", w.addr)
			if err != nil {
				t.Error(err)
				return
			}
			conns[i] = raw
			_ = raw.SetDeadline(time.Now().Add(60 * time.Second))
			fmt.Fprintf(raw, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\nProxy-Authorization: %s\r\n\r\n", up.authority(target), w.authorization())
			if resp, err := http.ReadResponse(bufio.NewReaderSize(oneByte{raw}, 16), nil); err != nil || resp.StatusCode != 200 {
				t.Errorf("CONNECT: %v, %v", resp, err)
				return
			}
			conn := tls.Client(raw, &tls.Config{ServerName: target, RootCAs: roots})
			fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", up.authority(target))
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || resp.StatusCode != 200 {
				t.Errorf("GET: %v, %v", resp, err)
			}
		})
	}
	all.Wait()
	if open := w.proxy.Stats().Tunnels; open != tunnels {
		t.Errorf("%d tunnels are open, want %d", open, tunnels)
	}
	for _, c := range conns {
		_ = c.Close()
	}
	eventually(t, "tunnels stay open", func() bool { return w.proxy.Stats().Tunnels == 0 })
	// The pool keeps a few upstream connections, each with its goroutines on
	// both sides, which are in this process.
	eventually(t, "goroutines stay", func() bool { return runtime.NumGoroutine() <= goroutines+10 })
	eventually(t, "file descriptors stay", func() bool { return openFiles(t) <= files+10 })
	connects := func() (n int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, e := range w.events {
			if isConnect(e) {
				n++
			}
		}
		return n
	}
	eventually(t, "some tunnels have no event", func() bool { return connects() >= tunnels+1 }) // which comes after the tunnel
	if n := connects(); n != tunnels+1 {
		t.Errorf("%d events for %d tunnels", n, tunnels+1)
	}
}

func TestClientsThatDawdleAreCutOff(t *testing.T) {
	up := newOrigin(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	w := newWorld(t, up, func(s *proxy.Settings) {
		s.Limits.HeadTimeout = 300 * time.Millisecond
		s.Limits.IdleTimeout = 600 * time.Millisecond
	}, bearer("for-a", host))
	a := up.authority(host)
	for name, begin := range map[string]func(t *testing.T) net.Conn{
		"in the head of a CONNECT": func(*testing.T) net.Conn {
			c := w.dial()
			_, _ = io.WriteString(c, "CONNECT "+a+" HTTP/1.1\r\nHost:")
			return c
		},
		"before the handshake": func(*testing.T) net.Conn { return w.open(a) },
		"inside the handshake": func(*testing.T) net.Conn {
			c := w.open(a)
			_, _ = c.Write([]byte{0x16, 3, 1})
			return c
		},
		"in the head of a request": func(*testing.T) net.Conn {
			c := w.secure(w.open(a), host)
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\n")
			return c
		},
		"in a body": func(*testing.T) net.Conn {
			c := w.secure(w.open(a), host)
			_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: "+a+"\r\nContent-Length: 10\r\n\r\nhal")
			return c
		},
		"between requests": func(t *testing.T) net.Conn {
			c := w.secure(w.open(a), host)
			ask(t, c, "GET / HTTP/1.1\r\nHost: "+a+"\r\n\r\n")
			return c
		},
		"in an opaque tunnel": func(*testing.T) net.Conn { return w.open(up.authority(other)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := begin(t)
			if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "i/o timeout") {
				t.Error("the connection was still there after 15 seconds")
			}
		})
	}
}

func TestABusyDirectionKeepsAQuietOneOpen(t *testing.T) {
	tick := make(chan struct{})
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		for range tick {
			_, _ = io.WriteString(w, "x")
			w.(http.Flusher).Flush()
		}
	}, only11)
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.IdleTimeout = 400 * time.Millisecond })
	conn := tls.Client(w.open(up.authority(other)), &tls.Config{ServerName: other, RootCAs: testRoots(t)})
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", up.authority(other))
	go func() {
		defer close(tick)
		beat := time.NewTicker(100 * time.Millisecond)
		defer beat.Stop()
		for range 12 { // three times the idle limit
			<-beat.C
			tick <- struct{}{}
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "xxxxxxxxxxxx" {
		t.Errorf("read %q, %v", body, err)
	}
}

func TestAHalfClosedTunnelStillAnswers(t *testing.T) {
	up := clearUpstreamOn(t, loopback(t), func(c net.Conn, br *bufio.Reader) {
		all, _ := io.ReadAll(br) // until the client has ended
		_, _ = fmt.Fprintf(c, "got %d bytes", len(all))
	})
	w := newWorld(t, up, nil)
	conn := w.open(w.upstream.authority(other))
	_, _ = io.WriteString(conn, "hello")
	_ = conn.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "got 5 bytes" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestMoreClientsThanAllowedWait(t *testing.T) {
	up := newOrigin(t, nil)
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Connections = 2 }, bearer("for-a", host))
	first, second := w.open(up.authority(host)), w.open(up.authority(host))
	third := w.dial()
	fmt.Fprintf(third, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\nProxy-Authorization: %s\r\n\r\n", up.authority(host), w.authorization())
	_ = third.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if _, err := third.Read(make([]byte, 1)); err == nil {
		t.Fatal("the third was served at once")
	}
	_ = first.Close()
	_ = third.SetReadDeadline(time.Now().Add(15 * time.Second))
	if resp, err := http.ReadResponse(bufio.NewReader(third), nil); err != nil || resp.StatusCode != 200 {
		t.Errorf("then %v, %v", resp, err)
	}
	_ = second.Close()
}

func TestServeGivesRequestsTimeToEnd(t *testing.T) {
	arrived, finish := make(chan struct{}), make(chan struct{})
	up := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-finish
		_, _ = io.WriteString(w, "done")
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	idle := w.secure(w.open(up.authority(host)), host) // must not hold up the end
	opaque := w.open(up.authority(other))
	type result struct {
		status int
		body   string
	}
	results := make(chan result, 1)
	go func() {
		resp, body := get(t, w.client(), request(t, "GET", w.url("/"), nil))
		results <- result{resp.StatusCode, body}
	}()
	<-arrived
	stopped := make(chan struct{})
	go func() {
		w.stop()
		close(stopped)
	}()
	w.awaitStop()
	close(finish)
	if r := <-results; r.status != 200 || r.body != "done" {
		t.Errorf("the request under way got %+v", r)
	}
	select {
	case <-stopped:
	case <-time.After(15 * time.Second):
		t.Fatal("Serve did not end")
	}
	for name, c := range map[string]net.Conn{"idle": idle, "opaque": opaque} {
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "i/o timeout") {
			t.Errorf("the %s tunnel is still open", name)
		}
	}
}

func TestAParentProxyIsGoneThrough(t *testing.T) {
	up := newOrigin(t, nil)
	plain := newPlainOrigin(t)
	parent := newWorld(t, up, nil) // another of us, that tunnels everything
	asURL := parent.proxyURL().String()
	w := newWorld(t, up, func(s *proxy.Settings) {
		s.Upstream.Parent = secret.New(asURL)
		s.Upstream.AllowPrivate, s.Upstream.Hosts = nil, nil // the parent resolves and dials
	}, bearer("for-a", host))
	t.Run("by what is injected", func(t *testing.T) {
		resp, _ := get(t, w.client(), request(t, "GET", w.url("/"), nil))
		if resp.StatusCode != 200 || up.last().Header.Get("Authorization") != "Bearer "+canary {
			t.Errorf("answer %d, the upstream saw %v", resp.StatusCode, up.last().Header)
		}
	})
	t.Run("by what is tunnelled", func(t *testing.T) {
		client := w.client(func(tr *http.Transport) { tr.TLSClientConfig.RootCAs = testRoots(t) })
		resp, _ := get(t, client, request(t, "GET", "https://"+up.authority(other)+"/", nil))
		if resp.StatusCode != 200 {
			t.Errorf("answer %d", resp.StatusCode)
		}
		client.CloseIdleConnections()
		parent.event(func(e attache.Event) bool { return e.Decision == attache.Tunnel })
	})
	t.Run("by plain http", func(t *testing.T) {
		resp, _ := get(t, w.client(), request(t, "GET", "http://"+plain.authority(other)+"/", nil))
		if resp.StatusCode != 200 || plain.last().Header.Get("Proxy-Authorization") != "" {
			t.Errorf("answer %d", resp.StatusCode)
		}
	})
	t.Run("and its refusal is told", func(t *testing.T) {
		parent.live.Apply(attache.Change{Deleted: true, AccessToken: &attache.AccessToken{Integration: "bot", Hash: parent.hash}})
		fresh := newWorld(t, up, func(s *proxy.Settings) { s.Upstream.Parent = secret.New(asURL) }, bearer("for-a", host))
		resp, body := get(t, fresh.client(), request(t, "GET", fresh.url("/"), nil))
		if resp.StatusCode != 502 || strings.Contains(body, parent.token) {
			t.Errorf("answer %d %s", resp.StatusCode, body)
		}
	})
}

// FuzzProxyAuthorization sends whatever a stranger may put into the field: the
// answer is a 407 on a connection that stays open, or a 400.
func FuzzProxyAuthorization(f *testing.F) {
	up := httptest.NewServer(nil)
	f.Cleanup(up.Close)
	w := newWorld(f, &origin{port: 1}, nil)
	for _, seed := range []string{"", "Basic", "Basic ", "Basic Og==", "Bearer ", "Bearer att_", "Basic \xff", "Negotiate x", "Basic Ym90OmF0dF8w"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if strings.ContainsAny(value, "\r\n") || strings.Contains(value, w.token) {
			return
		}
		c, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(15 * time.Second))
		resp, _ := ask(t, c, "CONNECT api.example.test:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: "+value+"\r\n\r\n")
		if resp.StatusCode != 407 && resp.StatusCode != 400 {
			t.Errorf("%q: answer %d", value, resp.StatusCode)
		}
	})
}

// Everything that these tests say is true without the fast path as well.
func TestTheOrdinaryPathPassesTheseTestsToo(t *testing.T) {
	if !hasFastPath() {
		return // this is that run
	}
	for _, way := range []string{"unpooled", "pooled"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			tests := exec.CommandContext(t.Context(), os.Args[0], "-test.timeout=10m")
			tests.Env = append(os.Environ(), ordinaryVariable+"="+way)
			if out, err := tests.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// A client that stops inside a body is told that it took too long, and not that
// it has left.
func TestAStalledUploadIsToldSo(t *testing.T) {
	up := newOrigin(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.IdleTimeout = 300 * time.Millisecond }, bearer("for-a", host))
	a := up.authority(host)
	c := w.secure(w.open(a), host)
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: "+a+"\r\nContent-Length: 10\r\n\r\nhal")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestTimeout {
		t.Errorf("status %d", resp.StatusCode)
	}
	if e := w.event(isRequest); e.Code != attache.CodeRequestTimeout || e.Status != http.StatusRequestTimeout {
		t.Errorf("the event says %d, %s", e.Status, e.Code)
	}
}
