package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"attache"
	"attache/proxy"
	"attache/secret"
)

// An upstream that speaks HTTP/2 alone is for the ordinary path, which begins
// with the request that found that out and misses no byte of what follows.
func TestATunnelToAnH2UpstreamIsHandedOverWhole(t *testing.T) {
	var conn net.Conn
	var a string
	post := func(i int) {
		body := fmt.Sprint("body ", i)
		fmt.Fprintf(conn, "POST /%d HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", i, a, len(body), body)
	}
	next := sync.OnceFunc(func() { post(1) })
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }, func(s *httptest.Server) {
		s.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			next() // what comes now is after the request that is handed over
			if slices.Contains(hello.SupportedProtos, "h2") {
				return nil, nil
			}
			return nil, errors.New("HTTP/2 alone") // crypto/tls would let it pass
		}
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	a = up.authority(host)
	conn = w.secure(w.open(a), host)
	br := bufio.NewReader(conn)
	post(0)
	for i := range 3 {
		if i == 2 {
			post(i)
		}
		if resp, got := answer(t, br, "POST"); resp.StatusCode != 200 || got != fmt.Sprint("body ", i) {
			t.Fatalf("request %d: answer %d %q", i, resp.StatusCode, got)
		}
	}
	_ = conn.Close()
	w.event(isConnect)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.events) != 4 {
		t.Errorf("%d events, want 4", len(w.events))
	}
	for _, e := range w.events {
		if isRequest(e) && e.Method != "POST" {
			t.Errorf("event %+v", e)
		}
	}
}

// Serve waits for a request on the fast path as it does for any.
func TestServeGivesRequestsOfRelaysTimeToEnd(t *testing.T) {
	arrived, finish := make(chan struct{}, 2), make(chan struct{})
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/quick":
			return
		case "/stream":
			_, _ = io.WriteString(w, "begun, ")
			_ = http.NewResponseController(w).Flush()
		}
		arrived <- struct{}{}
		<-finish
		_, _ = io.WriteString(w, "done")
	}, only11)
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	idle, silent := w.secure(w.open(a), host), w.secure(w.open(a), host) // must not hold up the end
	ask(t, idle, "GET /quick HTTP/1.1\r\nHost: "+a+"\r\n\r\n")
	results := make(chan string, 2)
	for _, path := range []string{"/", "/stream"} {
		conn := w.secure(w.open(a), host)
		go func() {
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, a)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				results <- err.Error()
				return
			}
			body, err := io.ReadAll(resp.Body)
			results <- fmt.Sprint(string(body), " ", err)
		}()
	}
	<-arrived
	<-arrived
	stopped := make(chan struct{})
	go func() {
		w.stop()
		close(stopped)
	}()
	w.awaitStop()
	close(finish)
	for range 2 {
		if r := <-results; !strings.HasSuffix(r, "done <nil>") {
			t.Errorf("a request under way got %q", r)
		}
	}
	select {
	case <-stopped:
	case <-time.After(15 * time.Second):
		t.Fatal("Serve did not end")
	}
	for _, c := range []net.Conn{idle, silent} {
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "i/o timeout") {
			t.Error("a tunnel at rest is still open")
		}
	}
}

// batched is a connection that sends what is written while it holds in one
// segment, however many records that is.
type batched struct {
	net.Conn
	holds bool
	buf   bytes.Buffer
}

func (b *batched) Write(p []byte) (int, error) {
	if b.holds {
		return b.buf.Write(p)
	}
	return b.Conn.Write(p)
}

type batching struct{ net.Listener }

func (b batching) Accept() (net.Conn, error) {
	c, err := b.Listener.Accept()
	return &batched{Conn: c}, err
}

// An answer that nobody asked for is nobody's (RFC 9112, section 6.3): the next
// request, perhaps of another tenant, must not get it.
func TestWhatAnUpstreamSaysTooMuchIsNobodysAnswer(t *testing.T) {
	if !hasFastPath() && !isPooled() {
		return // net/http finds that out on a goroutine, perhaps too late
	}
	const poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
	for name, says := range map[string]func(c net.Conn, answered <-chan struct{}) chan struct{}{
		"in the same record": func(c net.Conn, _ <-chan struct{}) chan struct{} {
			_, _ = io.WriteString(c, okAnswer+poison)
			return nil
		},
		"in another record, with the same segment": func(c net.Conn, _ <-chan struct{}) chan struct{} {
			b := c.(*tls.Conn).NetConn().(*batched)
			b.holds = true
			_, _ = io.WriteString(c, okAnswer)
			_, _ = io.WriteString(c, poison)
			b.holds = false
			_, _ = b.Write(b.buf.Bytes())
			return nil
		},
		"after the answer was passed on": func(c net.Conn, answered <-chan struct{}) chan struct{} {
			_, _ = io.WriteString(c, okAnswer)
			<-answered
			_, _ = io.WriteString(c, poison)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			answered, said := make(chan struct{}), make(chan struct{})
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			up := rawUpstreamOn(t, batching{ln}, func(c net.Conn, br *bufio.Reader) {
				for {
					h, err := readHead(br)
					if err != nil {
						return
					}
					if !strings.HasPrefix(h, "GET /first") {
						_, _ = io.WriteString(c, okAnswer)
						continue
					}
					says(c, answered)
					close(said)
				}
			})
			w := newWorld(t, up, nil, bearer("for-a", host))
			a := up.authority(host)
			if _, body := ask(t, w.secure(w.open(a), host), "GET /first HTTP/1.1\r\nHost: "+a+"\r\n\r\n"); body != "ok" {
				t.Errorf("the first request got %q", body)
			}
			second := w.secure(w.open(a), host)
			close(answered)
			<-said
			if _, body := ask(t, second, "GET /second HTTP/1.1\r\nHost: "+a+"\r\n\r\n"); body != "ok" {
				t.Errorf("the second request got %q", body)
			}
		})
	}
}

func TestAnOddAnswerOfAnySizeIsPutIntoChunks(t *testing.T) {
	const size = 1 << 20
	body := strings.Repeat("0123456789abcdef", size/16)
	up, _ := heads(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: "+strings.Repeat("y", 300<<10)+"\r\n z\r\n\r\n"+
		fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", size, body))
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.HeadBytes = 1 << 20 }, bearer("for-a", host))
	a := up.authority(host)
	if _, got := ask(t, w.secure(w.open(a), host), "GET / HTTP/1.1\r\nHost: "+a+"\r\n\r\n"); got != body {
		t.Errorf("%d bytes arrived, or others", len(got))
	}
}

// A panic is a defect, but one tunnel's.
func TestAPanicEndsOneTunnelAndNoOther(t *testing.T) {
	up, _ := heads(t, okAnswer)
	c := oauthConnection()
	w := newWorld(t, up, nil, c)
	panics := atomic.Bool{}
	panics.Store(true)
	w.fresh = func(context.Context, *attache.Connection, uint64) (attache.Grant, error) {
		if panics.Swap(false) {
			panic("a defect")
		}
		return attache.Grant{Generation: 1, AccessToken: secret.New(canary)}, nil
	}
	endsOneTunnel(t, w)
	eventually(t, "its event does not come", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		requests := 0
		for _, e := range w.events {
			if isRequest(e) {
				requests++
			}
		}
		return requests == 2
	})
}

// Nor does it cost the others the place that its upstream connection had.
func TestAPanicLosesNoPlaceUpstream(t *testing.T) {
	var asked atomic.Int32
	up := rawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
		for {
			if _, err := readHead(br); err != nil {
				return
			}
			answer := okAnswer
			if asked.Add(1) == 1 {
				answer = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
			}
			_, _ = io.WriteString(conn, answer)
		}
	})
	w := newWorld(t, up, func(s *proxy.Settings) { s.Upstream.MaxPerHost = 1 }, oauthConnection())
	w.fresh = func(_ context.Context, _ *attache.Connection, used uint64) (attache.Grant, error) {
		if used != 0 {
			panic("a defect")
		}
		return attache.Grant{Generation: 1, AccessToken: secret.New(canary)}, nil
	}
	endsOneTunnel(t, w)
}

// endsOneTunnel asks in one tunnel, which ends without an answer, and in another.
func endsOneTunnel(t *testing.T, w *world) {
	t.Helper()
	a := w.upstream.authority(host)
	get := "GET / HTTP/1.1\r\nHost: " + a + "\r\n\r\n"
	conn := w.secure(w.open(a), host)
	_, _ = io.WriteString(conn, get)
	if rest, _ := io.ReadAll(conn); len(rest) != 0 {
		t.Errorf("the answer is %q", rest)
	}
	if resp, body := ask(t, w.secure(w.open(a), host), get); resp.StatusCode != 200 {
		t.Errorf("the next tunnel: %d %s", resp.StatusCode, body)
	}
}

// A connection that dies when it is used again is replaced for a request that
// may be repeated, once.
func TestARequestIsRepeatedOnceIfItMayBe(t *testing.T) {
	for name, c := range map[string]struct {
		request        string
		dies           func(connection, request int) bool
		status, wanted int
	}{
		"GET, on a connection that died": {
			"GET /b HTTP/1.1\r\nHost: HOST\r\n\r\n", func(c, r int) bool { return c == 1 && r == 2 }, 200, 2,
		},
		"GET, and the next one dies too": {
			"GET /b HTTP/1.1\r\nHost: HOST\r\n\r\n", func(c, r int) bool { return c > 1 || r == 2 }, 502, 2,
		},
		"POST": {
			"POST /b HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n\r\n", func(c, r int) bool { return c == 1 && r == 2 }, 502, 1,
		},
		"GET with a body": {
			"GET /b HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\n\r\nx", func(c, r int) bool { return c == 1 && r == 2 }, 502, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if isPooled() && name == "GET with a body" {
				return // it does not use the pool, and so not the connection that dies
			}
			var connections, again atomic.Int32
			up := rawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
				n := int(connections.Add(1))
				for i := 1; ; i++ {
					r, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					if r.URL.Path == "/b" {
						again.Add(1)
					}
					if c.dies(n, i) {
						return
					}
					_, _ = io.WriteString(conn, okAnswer)
				}
			})
			w := newWorld(t, up, nil, bearer("for-a", host))
			a := up.authority(host)
			conn := w.secure(w.open(a), host)
			ask(t, conn, "GET /a HTTP/1.1\r\nHost: "+a+"\r\n\r\n")
			resp, body := ask(t, conn, strings.ReplaceAll(c.request, "HOST", a))
			if resp.StatusCode != c.status || int(again.Load()) != c.wanted {
				t.Errorf("answer %d %s after %d tries", resp.StatusCode, body, again.Load())
			}
			if e := w.event(func(e attache.Event) bool { return e.Path == "/b" }); e.Status != c.status {
				t.Errorf("event %+v", e)
			}
		})
	}
}

// Buffers and upstream connections are shared among tenants; what is in them is
// not.
func TestNoTenantSeesAnything(t *testing.T) {
	if !hasFastPath() && !isPooled() {
		return // as above
	}
	answers := []string{
		"HTTP/1.1 200 OK\r\nContent-Length: %[1]d\r\nX: %[2]s\r\n\r\n%[2]s",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%[1]x\r\n%[2]s\r\n0\r\nX: %[2]s\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nX: %[2]s\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %[1]d\r\n\r\n%[2]s",
		"HTTP/1.1 200 OK\r\nContent-Length: %[1]d\r\nX: %[2]s\r\n folded\r\n\r\n%[2]s",
	}
	up := rawUpstream(t, func(c net.Conn, br *bufio.Reader) {
		for i := 0; ; i++ {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			body, _ := io.ReadAll(r.Body)
			says := r.Header.Get("Authorization") + " " + r.URL.Path + " " + string(body)
			if _, err := fmt.Fprintf(c, answers[i%len(answers)], len(says), says); err != nil {
				return
			}
		}
	})
	const tenants = 6
	w := newWorld(t, up, nil)
	tokens := make([]string, tenants)
	for i := range tokens {
		name := fmt.Sprint("tenant-", i)
		w.live.Apply(attache.Change{Integration: &attache.Integration{Name: name}})
		tokens[i], _ = w.addToken(name, time.Time{})
		c := bearer("for-a", host)
		c.Integration, c.Credential.Token = name, secret.New(canary+name)
		w.connect(c)
	}
	a := up.authority(host)
	var all sync.WaitGroup
	for i, token := range tokens {
		own := w.openAs(fmt.Sprint("tenant-", i), token, a)
		all.Go(func() {
			conn := tls.Client(own, &tls.Config{ServerName: host, RootCAs: w.roots})
			br := bufio.NewReader(conn)
			for n := range 150 {
				body := strings.Repeat(fmt.Sprint("of-tenant-", i, " "), n%50)
				fmt.Fprintf(conn, "POST /tenant-%d HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", i, a, len(body), body)
				want := fmt.Sprint("Bearer ", canary, "tenant-", i, " /tenant-", i, " ", body)
				for {
					resp, err := http.ReadResponse(br, nil)
					if err != nil {
						t.Error(err)
						return
					}
					got, err := io.ReadAll(resp.Body)
					for _, x := range append(resp.Header["X"], resp.Trailer["X"]...) {
						if strings.TrimSuffix(x, " folded") != strings.TrimRight(want, " ") {
							t.Errorf("tenant %d got the field %q", i, x)
						}
					}
					if resp.StatusCode < 200 {
						continue
					}
					if string(got) != want || err != nil {
						t.Errorf("tenant %d got %q, %v", i, got, err)
					}
					break
				}
			}
		})
	}
	all.Wait()
}
