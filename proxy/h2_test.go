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
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"attache"
	"attache/proxy"
	"attache/secret"
)

// On one connection, plain requests go out over HTTP/1.1, and the others over what
// the origin speaks.
func TestOneHTTP2ConnectionHasBothPaths(t *testing.T) {
	if !hasFastPath() {
		return
	}
	up := newOrigin(t, echo)
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2()
	for i := range 10 {
		plain, body := uint32(4*i+1), uint32(4*i+3)
		p.ask(plain, plainH2(a, "/plain", "x", fmt.Sprint(i/2)))
		p.post(body, plainH2(a, "/body", "y", fmt.Sprint(i/3)), "data")
		if s := p.wait(body); s.status() != 200 || s.data.String() != "HTTP/2.0 /body data" {
			t.Errorf("stream %d: %d %q", body, s.status(), s.data.String())
		}
		if s := p.wait(plain); s.status() != 200 || s.data.String() != "HTTP/1.1 /plain " {
			t.Errorf("stream %d: %d %q", plain, s.status(), s.data.String())
		}
	}
	_ = p.conn.Close()
	w.event(isConnect)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.events) != 21 {
		t.Errorf("%d events, want 21", len(w.events))
	}
	for _, e := range w.events {
		if isRequest(e) && (e.Protocol != "HTTP/2.0" || e.Status != 200 || e.Connection != "for-a" || e.Client != "127.0.0.1") {
			t.Errorf("event %+v", e)
		}
	}
}

// A client that takes a request back is believed, and goes on with the others.
func TestAStreamMayBeCalledOff(t *testing.T) {
	gone := make(chan struct{})
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/held":
			<-r.Context().Done()
			gone <- struct{}{}
		case "/begun":
			_, _ = w.Write([]byte("x"))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			gone <- struct{}{}
		}
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2()
	p.ask(1, plainH2(a, "/held"))
	eventually(t, "the request does not arrive", func() bool { return up.count() == 1 })
	p.ask(3, plainH2(a, "/begun"))
	for p.stream(3).data.Len() == 0 && p.read() {
	}
	for _, id := range []uint32{1, 3} {
		_ = p.WriteRSTStream(id, http2.ErrCodeCancel)
		select {
		case <-gone:
		case <-time.After(10 * time.Second):
			t.Fatalf("stream %d: the upstream is not told", id)
		}
		_ = p.WriteWindowUpdate(id, 100) // it may have been on its way
		_ = p.WritePriority(id, http2.PriorityParam{Weight: 3})
		_ = p.WriteRSTStream(id, http2.ErrCodeCancel)
	}
	for _, path := range []string{"/held", "/begun"} {
		if e := w.event(func(e attache.Event) bool { return e.Path == path }); e.Code != attache.CodeClientGone {
			t.Errorf("event %+v", e)
		}
	}
	p.ask(5, plainH2(a, "/"))
	if s := p.wait(5); s.status() != 200 {
		t.Errorf("the next request: %+v, %v", s, p.ended)
	}
}

// A stream that is reset while its token is refreshed leaves no deadline on the
// connection that goes back to the pool.
func TestHTTP2ACancelledStreamLeavesTheUpstreamConnectionAsItWas(t *testing.T) {
	var n atomic.Int32
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if n.Add(1) == 1 {
			_, _ = io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
			return
		}
		sized(c, 2)
	})
	for _, protocol := range []string{"h2", "http/1.1"} {
		t.Run(protocol, func(t *testing.T) {
			n.Store(0)
			w := newWorld(t, up, nil, oauthConnection())
			refreshing := make(chan struct{}, 1)
			w.fresh = func(ctx context.Context, _ *attache.Connection, used uint64) (attache.Grant, error) {
				if used != 0 {
					refreshing <- struct{}{}
					<-ctx.Done()
					return attache.Grant{}, ctx.Err()
				}
				return attache.Grant{State: attache.GrantActive, Generation: 1, AccessToken: secret.New(canary)}, nil
			}
			a := up.authority(host)
			p := w.h2()
			if protocol == "h2" {
				p.ask(1, plainH2(a, "/1"))
				<-refreshing
				_ = p.WriteRSTStream(1, http2.ErrCodeCancel)
			} else {
				conn := w.secure(w.open(a), host)
				fmt.Fprintf(conn, "GET /1 HTTP/1.1\r\nHost: %s\r\n\r\n", a)
				<-refreshing
				_ = conn.Close()
			}
			w.event(isRequest)
			p.ask(3, plainH2(a, "/2"))
			if s := p.wait(3); s.status() != 200 {
				t.Errorf("the next request is answered %d %s", s.status(), s.data.String())
			}
		})
	}
}

// Limits.Streams is for the whole connection.
func TestHTTP2StreamsAreLimited(t *testing.T) {
	asked, release := make(chan struct{}, 10), make(chan struct{})
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.URL.Path == "/held" {
			asked <- struct{}{}
			<-release
		}
		sized(c, 2)
	})
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Streams = 2 }, bearer("for-a", host))
	defer close(release)
	p := w.h2()
	for id := uint32(1); id < 5; id += 2 {
		p.ask(id, plainH2(up.authority(host), "/held"))
		<-asked
	}
	p.ask(5, plainH2(up.authority(host), "/more"))
	_ = p.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if s := p.wait(5); !s.cut {
		t.Errorf("two streams are allowed, and the third is answered %d: %v", s.status(), p.ended)
	}
}

// A client is told by whom it is answered, also where the upstream would not shake
// hands over HTTP/1.1, and the event says what the client speaks.
func TestHTTP2ADetoursProblemIsMarkedAsOurs(t *testing.T) {
	up := newOrigin(t, nil, func(s *httptest.Server) {
		s.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, errors.New("no") }
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	p := w.h2()
	for i, id := range []uint32{1, 3} {
		p.ask(id, plainH2(up.authority(host), "/"+strconv.Itoa(i)))
		s := p.wait(id)
		marked := false
		for _, f := range slices.Concat(s.heads...) {
			marked = marked || f.Name == "attache-error"
		}
		if s.status() != 502 || !marked {
			t.Errorf("request %d: answer %d %v", i, s.status(), s.heads)
		}
		e := w.event(func(e attache.Event) bool { return isRequest(e) && e.Path == "/"+strconv.Itoa(i) })
		if e.Protocol != "HTTP/2.0" {
			t.Errorf("request %d: the event says %s", i, e.Protocol)
		}
	}
}

// A stream that is reset before its request is sent costs nobody else a connection.
func TestHTTP2ResetsLeaveTheIdleConnectionsAlone(t *testing.T) {
	const idle, resets = 30, 3
	var opened, held atomic.Int32
	round := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	up := rawUpstream(t, func(c net.Conn, br *bufio.Reader) {
		opened.Add(1)
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if i := strings.IndexByte("01", r.URL.Path[1]); i >= 0 { // each on a connection of its own
				if n := held.Add(1); n%idle == 0 {
					close(round[i])
				}
				<-round[i]
			}
			sized(c, 2)
		}
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2()
	id, events := uint32(1), 0
	all := func(path string) {
		first := id
		for ; id < first+2*idle; id += 2 {
			p.ask(id, plainH2(a, path))
		}
		for i := first; i < id; i += 2 {
			if s := p.wait(i); s.status() != 200 {
				t.Fatalf("answer %d: %v", s.status(), p.ended)
			}
		}
		events += idle
		eventually(t, "requests go on", func() bool { return len(w.requestEvents()) >= events })
	}
	all("/0")
	for range resets {
		var both strings.Builder // in one record
		f := http2.NewFramer(&both, nil)
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.encode(plainH2(a, "/reset")), EndStream: true, EndHeaders: true})
		_ = f.WriteRSTStream(id, http2.ErrCodeCancel)
		_, _ = io.WriteString(p.conn, both.String())
		id += 2
		events++
		if hasFastPath() { // net/http may drop one that it has not begun
			eventually(t, "a stream that was reset goes on", func() bool { return len(w.requestEvents()) >= events })
		}
	}
	all("/1")
	if n := opened.Load(); hasFastPath() && n > idle+resets {
		t.Errorf("after %d resets, %d upstream connections had to be opened anew", resets, n-idle)
	}
}

// What a client says of streams that have ended is no error, whichever side had them.
func TestHTTP2FramesForStreamsThatHaveEnded(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) { sized(c, 2) })
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2()
	for i := range uint32(6) {
		id := 2*i + 1
		if i%3 == 1 {
			p.postTo(id, a, "/")
		} else {
			p.ask(id, plainH2(a, "/"))
		}
		if s := p.wait(id); s.status() != 200 || s.data.Len() != 2 {
			t.Fatalf("stream %d: answer %d: %v", id, s.status(), p.ended)
		}
		for before := uint32(1); before <= id; before += 2 {
			_ = p.WriteWindowUpdate(before, 7)
			_ = p.WritePriority(before, http2.PriorityParam{StreamDep: 0, Weight: 1})
			_ = p.WriteRSTStream(before, http2.ErrCodeCancel)
		}
	}
	_ = p.WritePing(false, [8]byte{1})
	if !p.until(3*time.Second, func(f http2.Frame) bool { return f.Header().Type == http2.FramePing }) || p.code != 0 {
		t.Errorf("the connection ended with %v and %v", p.code, p.ended)
	}
}

// An ordinary client that asks much at a time, and loses interest in some of it, gets
// whole answers.
func TestHTTP2AStormOfRequests(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Path[1:])
		sized(c, n)
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	client := w.client()
	var all sync.WaitGroup
	var asked atomic.Int32
	for worker := range 12 {
		all.Go(func() {
			for i := range 25 {
				n := 1 + (worker*7919+i*104729)%60_000
				ctx, cancel := context.WithCancel(t.Context())
				var body io.Reader
				method := "GET"
				if (worker+i)%4 == 0 {
					method, body = "POST", strings.NewReader("body")
				}
				r, _ := http.NewRequestWithContext(ctx, method, w.url("/"+strconv.Itoa(n)), body)
				if (worker+i)%5 == 0 {
					go cancel()
				}
				resp, err := client.Do(r)
				if err == nil {
					asked.Add(1)
					got, failed := io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
					if err = failed; err == nil && (resp.StatusCode != 200 || got != int64(n)) {
						t.Errorf("%d with %d bytes of %d", resp.StatusCode, got, n)
					}
				}
				if err != nil && ctx.Err() == nil {
					t.Errorf("%s %d: %v", method, n, err)
				}
				cancel()
			}
		})
	}
	all.Wait()
	eventually(t, "events are missing", func() bool { return len(w.requestEvents()) >= int(asked.Load()) })
}

// A refused token is refreshed on the fast path, too, and the request sent again.
func TestHTTP2ARefusedTokenIsRefreshed(t *testing.T) {
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token(2) {
			w.WriteHeader(401)
		}
		_, _ = io.WriteString(w, "ok")
	})
	g := &grants{now: 1, last: 2}
	w := newWorld(t, up, nil, oauthConnection())
	w.fresh = g.fresh
	p := w.h2()
	for id := uint32(1); id < 5; id += 2 {
		p.ask(id, plainH2(up.authority(host), "/"))
		if s := p.wait(id); s.status() != 200 || s.data.String() != "ok" {
			t.Errorf("answer %d %q", s.status(), s.data.String())
		}
	}
	if up.count() != 3 {
		t.Errorf("the upstream was asked %d times", up.count())
	}
}

// An origin that speaks HTTP/2 alone is found out by several streams at a time.
func TestHTTP2DetoursAreWholeAndCountedOnce(t *testing.T) {
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		n, _ := strconv.Atoi(r.URL.Path[1:])
		_, _ = io.WriteString(w, strings.Repeat("x", n))
		w.Header().Set("X-Sum", "y")
	}, h2Alone)
	w := newWorld(t, up, nil, bearer("for-a", host))
	p := w.h2()
	for round := range uint32(2) {
		for i := range uint32(8) {
			p.ask(16*round+2*i+1, plainH2(up.authority(host), "/"+strconv.Itoa(int(20_000*i)), "authorization", "mine"))
		}
		for i := range uint32(8) {
			s := p.wait(16*round + 2*i + 1)
			if s.status() != 200 || s.data.Len() != int(20_000*i) || s.cut {
				t.Errorf("round %d, stream %d: answer %d with %d bytes: %v", round, i, s.status(), s.data.Len(), p.ended)
			}
			if last := s.heads[len(s.heads)-1]; i > 0 && (last[0].Name != "x-sum" || len(last) != 1) {
				t.Errorf("round %d, stream %d: trailer %v", round, i, last)
			}
		}
	}
	_ = p.conn.Close()
	w.event(isConnect)
	if all := w.requestEvents(); len(all) != 16 || up.count() != 16 {
		t.Errorf("%d events of %d requests", len(all), up.count())
	}
	if v := up.last().Header["Authorization"]; len(v) != 1 || v[0] != "Bearer "+canary {
		t.Errorf("the upstream saw Authorization %q", v)
	}
}

// Streams that were refused, and of which the client says no more, are forgotten.
func TestHTTP2RefusedStreamsAreForgotten(t *testing.T) {
	asked, release := make(chan struct{}, 10), make(chan struct{}, 10)
	up := speaker(t, func(c net.Conn, r *http.Request) {
		asked <- struct{}{}
		<-release
		sized(c, 2)
	})
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Streams = 2 }, bearer("for-a", host))
	defer close(release)
	a := up.authority(host)
	p := w.h2()
	_ = p.conn.SetReadDeadline(time.Now().Add(8 * time.Second))
	id := uint32(1)
	for round := range 5 {
		for range 2 {
			p.ask(id, plainH2(a, "/"))
			<-asked
			id += 2
		}
		// refused, and so the client sends no body
		_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.encode(h2Fields(a, []string{":method", "POST", ":path", "/"})), EndHeaders: true})
		if s := p.wait(id); s.reset != http2.ErrCodeRefusedStream && s.reset != http2.ErrCodeProtocol {
			t.Fatalf("round %d: one stream too many is answered %+v: %v, %v", round, s, p.code, p.ended)
		}
		release <- struct{}{}
		release <- struct{}{}
		for i := id - 4; i < id; i += 2 {
			if s := p.wait(i); s.status() != 200 {
				t.Fatalf("round %d: answer %d: %v, %v", round, s.status(), p.code, p.ended)
			}
		}
		id += 2
	}
}

// A stream that its client has reset counts no more (RFC 9113, section 5.1.2).
func TestHTTP2AResetStreamLeavesItsPlace(t *testing.T) {
	asked := make(chan struct{}, 100)
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			asked <- struct{}{}
			<-r.Context().Done()
		}
	})
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Streams = 1 }, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2()
	_ = p.conn.SetReadDeadline(time.Now().Add(8 * time.Second))
	for id := uint32(1); id < 40; id += 4 {
		p.ask(id, plainH2(a, "/held"))
		<-asked
		var both strings.Builder // in one record
		f := http2.NewFramer(&both, nil)
		_ = f.WriteRSTStream(id, http2.ErrCodeCancel)
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id + 2, BlockFragment: p.encode(plainH2(a, "/")), EndStream: true, EndHeaders: true})
		_, _ = io.WriteString(p.conn, both.String())
		if s := p.wait(id + 2); s.status() != 200 {
			t.Fatalf("the one stream that there is is answered %d, reset %v: %v", s.status(), s.reset, p.ended)
		}
		eventually(t, "the stream that was reset goes on", func() bool { return len(w.requestEvents()) == int(id+3)/2 })
	}
}

// The first frame that the server sends is its settings (RFC 9113, section 3.4).
func TestHTTP2NothingComesBeforeTheSettings(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) { sized(c, 2) })
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Streams = 1 }, bearer("for-a", host))
	a := up.authority(host)
	limit := time.After(8 * time.Second)
	for i := range 300 {
		select {
		case <-limit:
			return
		default:
		}
		conn := w.secure(w.open(a), host, "h2")
		var all strings.Builder // in one record
		all.WriteString(http2.ClientPreface)
		f := http2.NewFramer(&all, nil)
		_ = f.WriteSettings()
		e := newBlocks()
		for id := uint32(1); id < 20; id += 2 {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: e.encode(h2Fields(a, []string{":method", "POST", ":path", "/"})), EndHeaders: true})
		}
		_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
		_, _ = io.WriteString(conn, all.String())
		first, err := http2.NewFramer(nil, conn).ReadFrame()
		_ = conn.Close()
		if err != nil {
			t.Fatal(err)
		}
		if first.Header().Type != http2.FrameSettings {
			t.Fatalf("connection %d: the first frame is %v", i, first.Header())
		}
	}
}
