package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"attache"
	"attache/proxy"
)

// rawUpstream speaks bytes over TLS; handle has one connection.
func rawUpstream(t testing.TB, handle func(c net.Conn, br *bufio.Reader)) *origin {
	t.Helper()
	return rawUpstreamOn(t, loopback(t), handle)
}

func rawUpstreamOn(t testing.TB, ln net.Listener, handle func(c net.Conn, br *bufio.Reader)) *origin {
	t.Helper()
	return clearUpstreamOn(t, tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{issue(t, time.Now().Add(time.Hour), host, other)}}), handle)
}

// clearUpstreamOn leaves TLS to the listener.
func clearUpstreamOn(t testing.TB, ln net.Listener, handle func(c net.Conn, br *bufio.Reader)) *origin {
	t.Helper()
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			all.Go(func() { defer c.Close(); handle(c, bufio.NewReader(c)) })
		}
	})
	t.Cleanup(func() { ln.Close(); all.Wait() })
	return &origin{port: portOf(t, ln.Addr())}
}

func loopback(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func readHead(br *bufio.Reader) (head string, err error) {
	for !strings.HasSuffix(head, "\r\n\r\n") {
		line, err := br.ReadString('\n')
		if head += line; err != nil {
			return head, err
		}
	}
	return head, nil
}

// heads answers each head with says and passes it on.
func heads(t testing.TB, says string) (*origin, chan string) {
	seen := make(chan string, 100)
	return rawUpstream(t, func(c net.Conn, br *bufio.Reader) {
		for {
			h, err := readHead(br)
			if err != nil {
				return
			}
			seen <- h
			_, _ = io.WriteString(c, says)
		}
	}), seen
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func TestARequestTargetWithoutAPathNamesNoOtherHost(t *testing.T) {
	for _, target := range []string{"https:https://" + other + "/x", "https:foo", "https:@" + other} {
		up, seen := heads(t, okAnswer)
		w := newWorld(t, up, nil, bearer("for-a", host))
		ask(t, w.secure(w.open(up.authority(host)), host), "GET "+target+" HTTP/1.1\r\nHost: "+up.authority(host)+"\r\n\r\n")
		select {
		case h := <-seen:
			if !strings.HasPrefix(h, "GET /") {
				t.Errorf("%s: the upstream was sent %q", target, h)
			}
		default:
		}
	}
}

func TestWhatFollowsABrokenChunkIsNoRequest(t *testing.T) {
	up, seen := heads(t, okAnswer)
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	c := w.secure(w.open(a), host)
	fmt.Fprintf(c, "POST /upload HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nDELETE /smuggled HTTP/1.1\r\nHost: %[1]s\r\n\r\n", a)
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.ReadAll(c)
	for len(seen) > 0 {
		if h := <-seen; strings.HasPrefix(h, "DELETE") {
			t.Errorf("a piece of a body was sent with a credential: %q", h)
		}
	}
}

func TestAfterAnEarlyAnswerTheConnectionIsInStepOrClosed(t *testing.T) {
	for name, c := range map[string][3]string{
		"chunked": {"Transfer-Encoding: chunked", "4\r\npart\r\n", "0\r\n\r\n"},
		"length":  {"Content-Length: 4", "pa", "rt"},
	} {
		up, _ := heads(t, okAnswer) // answers at the head
		w := newWorld(t, up, nil, bearer("for-a", host))
		a := up.authority(host)
		conn := w.secure(w.open(a), host)
		br := bufio.NewReader(conn)
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\n%s\r\n\r\n%s", a, c[0], c[1])
		if first, _ := answer(t, br, "POST"); first.Close { // it says so: fair
			continue
		}
		fmt.Fprintf(conn, "%sGET /next HTTP/1.1\r\nHost: %s\r\n\r\n", c[2], a)
		if next, body := answer(t, br, "GET"); next.StatusCode != 200 {
			t.Errorf("%s: the next request got %d %.90s", name, next.StatusCode, body)
		}
	}
}

func TestAnH2PathWithASpaceIsNoRequestLine(t *testing.T) {
	for _, path := range []string{"/x HTTP/1.1", "/?a b"} {
		up, seen := heads(t, okAnswer)
		w := newWorld(t, up, nil, bearer("for-a", host))
		conn := w.secure(w.open(up.authority(host)), host, "h2")
		askH2(t, conn, []hpack.HeaderField{
			{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"},
			{Name: ":authority", Value: up.authority(host)}, {Name: ":path", Value: path},
		})
		if len(seen) > 0 {
			if line, _, _ := strings.Cut(<-seen, "\r\n"); strings.Count(line, " ") != 2 {
				t.Errorf("the upstream was sent the line %q", line)
			}
		}
	}
}

func TestEveryRequestHasItsEventWhenServeEnds(t *testing.T) {
	for range 10 {
		up := newOrigin(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Drain = 20 * time.Millisecond }, bearer("for-a", host))
		client := w.client()
		go func() { _, _ = client.Get(w.url("/")) }()
		eventually(t, "no request came", func() bool { return up.count() == 1 })
		w.stop()
		w.mu.Lock()
		n := len(w.events)
		w.mu.Unlock()
		if n != 2 {
			t.Fatalf("%d events of 2 when Serve has returned", n)
		}
	}
}

func TestOptionsStarIsARequestLikeAnyOther(t *testing.T) {
	up := newOrigin(t, nil)
	w := newWorld(t, up, nil, bearer("for-a", host))
	c := w.secure(w.open(up.authority(host)), host)
	resp, _ := ask(t, c, "OPTIONS * HTTP/1.1\r\nHost: "+up.authority(other)+"\r\n\r\n")
	if resp.StatusCode != 421 {
		t.Errorf("answer %d, want 421", resp.StatusCode)
	}
	_ = c.Close()
	w.event(isConnect)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.events) != 2 {
		t.Errorf("%d events, want 2", len(w.events))
	}
}

func TestASessionDoesNotResumeUnderAnotherName(t *testing.T) {
	up := newOrigin(t, nil)
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	cfg := &tls.Config{ServerName: host, RootCAs: w.roots, ClientSessionCache: &oneSession{}}
	ask(t, tls.Client(w.open(a), cfg), "GET / HTTP/1.1\r\nHost: "+a+"\r\n\r\n")
	cfg = cfg.Clone()
	cfg.ServerName, cfg.InsecureSkipVerify = other, true
	resp, _ := ask(t, tls.Client(w.open(a), cfg), "GET / HTTP/1.1\r\nHost: "+a+"\r\n\r\n")
	if resp.StatusCode != 421 {
		t.Errorf("SNI %s in a tunnel to %s: %d, want 421", other, host, resp.StatusCode)
	}
}

type oneSession struct{ s *tls.ClientSessionState }

func (o *oneSession) Get(string) (*tls.ClientSessionState, bool) { return o.s, o.s != nil }
func (o *oneSession) Put(_ string, s *tls.ClientSessionState)    { o.s = s }

func TestConnectionCloseIsBetweenTheClientAndUs(t *testing.T) {
	for _, h1Only := range []bool{true, false} {
		up := newOrigin(t, nil)
		w := newWorld(t, up, func(s *proxy.Settings) { s.Upstream.DisableHTTP2 = h1Only }, bearer("for-a", host))
		a := up.authority(host)
		for range 3 {
			ask(t, w.secure(w.open(a), host), "GET / HTTP/1.1\r\nHost: "+a+"\r\nConnection: close\r\n\r\n")
		}
		if n := w.proxy.Stats().UpstreamConnectionsOpened; n != 1 {
			t.Errorf("HTTP/1.1 only %v: %d upstream connections for 3 requests", h1Only, n)
		}
	}
}

func TestAnAnswerWithAnImpossibleStatusIsA502(t *testing.T) {
	for _, status := range []string{"000", "099"} {
		up, _ := heads(t, "HTTP/1.1 "+status+" Odd\r\nContent-Length: 2\r\n\r\nok")
		w := newWorld(t, up, nil, bearer("for-a", host))
		resp, body := get(t, w.client(h1), request(t, "GET", w.url("/"), nil))
		if resp.StatusCode != 502 {
			t.Errorf("%s: answer %d %s; the event: %+v", status, resp.StatusCode, body, w.event(isRequest))
		}
	}
}

func TestA101ThatNobodyAskedForIsA502(t *testing.T) {
	for _, change := range [][]func(*http.Transport){{h1}, nil} {
		up, _ := heads(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n")
		w := newWorld(t, up, nil, bearer("for-a", host))
		resp, body := get(t, w.client(change...), request(t, "GET", w.url("/"), nil))
		if resp.StatusCode != 502 {
			t.Errorf("answer %d %s", resp.StatusCode, body)
		}
	}
}

func TestAClientThatLeavesIsNotTheUpstreamsFault(t *testing.T) {
	t.Run("in a download", func(t *testing.T) {
		up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "first")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
		w := newWorld(t, up, nil, bearer("for-a", host))
		ctx, leave := context.WithCancel(t.Context())
		resp, err := w.client().Do(request(t, "GET", w.url("/"), nil).WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, _ = io.ReadFull(resp.Body, make([]byte, 5))
		leave()
		if e := w.event(isRequest); e.Code != attache.CodeClientGone {
			t.Errorf("the event says %s: %s", e.Code, e.Reason)
		}
	})
	t.Run("while its opaque tunnel is dialled", func(t *testing.T) {
		up := newOrigin(t, nil)
		w := newWorld(t, up, nil, bearer("for-a", host))
		for range 30 {
			c := w.dial()
			fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nProxy-Authorization: %s\r\nHost: x\r\n\r\n", up.authority(other), w.authorization())
			_ = c.Close()
		}
		eventually(t, "events are missing", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.events) == 30 })
		for _, e := range w.events {
			if e.Code == attache.CodeTLSError {
				t.Fatalf("the event says %s: %s", e.Code, e.Reason)
			}
		}
	})
}

func TestAFullPoolIsAnswered(t *testing.T) {
	hold := make(chan struct{})
	up := newOrigin(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			<-hold
		}
	}, only11)
	defer close(hold)
	w := newWorld(t, up, func(s *proxy.Settings) {
		s.Upstream.MaxPerHost, s.Upstream.ConnectTimeout, s.Upstream.TLSTimeout = 1, 200*time.Millisecond, 200*time.Millisecond
	}, bearer("for-a", host))
	client := w.client()
	go func() { _, _ = client.Get(w.url("/hold")) }()
	eventually(t, "no request came", func() bool { return up.count() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	resp, err := client.Do(request(t, "GET", w.url("/"), nil).WithContext(ctx))
	if err != nil || resp.StatusCode != 503 {
		t.Errorf("%v, %v; want 503 overloaded", resp, err)
	}
}

func TestStrangersKeepNobodyOut(t *testing.T) {
	up := newOrigin(t, nil)
	w := newWorld(t, up, func(s *proxy.Settings) {
		s.Limits.Connections, s.Limits.HeadTimeout = 4, 200*time.Millisecond
	}, bearer("for-a", host))
	for range 4 {
		c := w.dial()
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", up.authority(host))
		answer(t, bufio.NewReader(c), "CONNECT") // 407; then they stay and say nothing
	}
	c := w.dial()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\nProxy-Authorization: %s\r\n\r\n", up.authority(host), w.authorization())
	if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
		t.Errorf("a caller with a token is kept out: %v", err)
	}
}

func TestARefusedBodyIsNotAskedFor(t *testing.T) {
	for range 10 {
		up, _ := heads(t, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n") // and stays open
		w := newWorld(t, up, nil, bearer("for-a", host))
		a := up.authority(host)
		resp, _ := ask(t, w.secure(w.open(a), host), "POST / HTTP/1.1\r\nHost: "+a+"\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n")
		if resp.StatusCode != 413 {
			t.Fatalf("answer %d, want 413 without a 100", resp.StatusCode)
		}
	}
}

func TestHintsAndTrailersAreRelayedLikeAnswers(t *testing.T) {
	up, _ := heads(t, "HTTP/1.1 103 Early Hints\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nAttache-Error: no_connection\r\nLink: </a>\r\n\r\n"+
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Attache-Error\r\n\r\n0\r\nAttache-Error: no_connection\r\n\r\n")
	w := newWorld(t, up, nil, bearer("for-a", host))
	conn := w.secure(w.open(up.authority(host)), host, "h2")
	_, _ = io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", up.authority(host)}, {":path", "/"}} {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	_ = framer.WriteSettings()
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := f.(*http2.DataFrame); ok && d.StreamEnded() {
			return
		}
		h, ok := f.(*http2.MetaHeadersFrame)
		if !ok {
			continue
		}
		for _, f := range h.Fields {
			if f.Name == "connection" || f.Name == "keep-alive" || f.Name == "attache-error" {
				t.Errorf("status %q carries %s: %s", h.PseudoValue("status"), f.Name, f.Value)
			}
		}
		if h.StreamEnded() {
			return
		}
	}
}

func TestAConnectIsForAHostAndAPortAndNothingElse(t *testing.T) {
	up := newOrigin(t, nil)
	w := newWorld(t, up, nil, bearer("for-a", host))
	a, b := up.authority(host), up.authority(other)
	for _, target := range []string{b + "@" + a, a + "/x", a + "?x", a + "/@" + b, host + "/:1", "/x", "//" + b} {
		c := w.dial()
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\nProxy-Authorization: %s\r\n\r\n", target, a, w.authorization())
		resp, err := http.ReadResponse(bufio.NewReader(oneByte{c}), nil)
		if err != nil || resp.StatusCode != 400 {
			t.Errorf("CONNECT %s: %v, %v", target, resp.Status, err)
		}
		_ = c.Close()
	}
}

func TestASwitchedConnectionEndsWithItsConnection(t *testing.T) {
	up := rawUpstream(t, func(c net.Conn, br *bufio.Reader) {
		_, _ = readHead(br)
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(c, br)
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	c := w.secure(w.open(up.authority(host)), host)
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", up.authority(host))
	br := bufio.NewReader(c)
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	w.live.Apply(attache.Change{Deleted: true, Connection: &attache.Connection{Integration: "bot", Name: "for-a"}})
	_, _ = io.WriteString(c, "ping")
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
	if _, err := io.ReadFull(br, make([]byte, 4)); err == nil {
		t.Error("its credential is deleted, and the upstream still answers")
	}
}
