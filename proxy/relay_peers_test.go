package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"attache"
	"attache/proxy"
)

// requestEvents are the events of requests so far.
func (w *world) requestEvents() []attache.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.events), isConnect)
}

// A client may leave at any moment; then the upstream is left too, and the one
// event says who it was.
func TestAClientMayLeaveARelayAtAnyMoment(t *testing.T) {
	for name, c := range map[string]struct {
		says  string          // what the upstream says before the client leaves
		leave func(*tls.Conn) // closes the connection where it is nil
		until func(*tls.Conn) // what the client waits for; nil: that the upstream has the request
		want  func(e attache.Event) bool
	}{
		"before the answer": {
			want: func(e attache.Event) bool { return e.Status == 0 },
		},
		"with half a close, before the answer": {
			leave: func(c *tls.Conn) { _ = c.CloseWrite() },
			want:  func(e attache.Event) bool { return e.Status == 0 },
		},
		"after a hint": {
			says:  "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
			until: func(c *tls.Conn) { _, _ = io.ReadFull(c, make([]byte, 20)) },
			want:  func(e attache.Event) bool { return e.Status == 0 },
		},
		"inside the body": {
			says:  "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
			until: func(c *tls.Conn) { _, _ = io.ReadFull(c, make([]byte, 43)) },
			want:  func(e attache.Event) bool { return e.Status == 200 && e.BytesOut == 5 },
		},
		"inside a body in chunks": {
			says:  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
			until: func(c *tls.Conn) { _, _ = io.ReadFull(c, make([]byte, 47)) },
			want:  func(e attache.Event) bool { return e.Status == 200 && e.BytesOut == 5 },
		},
		"inside an odd answer": {
			says:  "HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 10\r\n\r\nhello",
			until: func(c *tls.Conn) { _, _ = io.ReadFull(c, make([]byte, 43)) },
			want:  func(e attache.Event) bool { return e.Status == 200 && e.BytesOut == 5 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			asked, left := make(chan struct{}, 1), make(chan struct{})
			up := rawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
				if _, err := readHead(br); err != nil {
					return
				}
				_, _ = io.WriteString(conn, c.says)
				asked <- struct{}{}
				_, _ = io.Copy(io.Discard, br) // until the proxy leaves
				close(left)
			})
			w := newWorld(t, up, nil, bearer("for-a", host))
			a := up.authority(host)
			conn := w.secure(w.open(a), host)
			fmt.Fprintf(conn, "GET /a HTTP/1.1\r\nHost: %s\r\n\r\n", a)
			<-asked
			if c.until != nil {
				c.until(conn)
			}
			if c.leave != nil {
				c.leave(conn)
			} else {
				_ = conn.Close()
			}
			select {
			case <-left:
			case <-time.After(8 * time.Second):
				t.Error("the upstream is still asked")
			}
			w.event(isConnect)
			if all := w.requestEvents(); len(all) != 1 || all[0].Code != attache.CodeClientGone || !c.want(all[0]) {
				t.Errorf("events %+v", all)
			}
		})
	}
}

func TestAClientMayLeaveWhileARelayDials(t *testing.T) {
	if !hasFastPath() && !isPooled() {
		return // net/http goes on dialling, for the next request
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dialled := make(chan net.Conn, 1)
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		if c, err := ln.Accept(); err == nil { // and shakes no hands
			dialled <- c
		}
	}()
	defer func() { ln.Close(); <-accepting }()
	w := newWorld(t, &origin{port: portOf(t, ln.Addr())}, nil, bearer("for-a", host))
	a := w.upstream.authority(host)
	conn := w.secure(w.open(a), host)
	fmt.Fprintf(conn, "GET /a HTTP/1.1\r\nHost: %s\r\n\r\n", a)
	upstream := <-dialled
	defer upstream.Close()
	_ = conn.Close()
	_ = upstream.SetReadDeadline(time.Now().Add(8 * time.Second))
	if _, err := io.Copy(io.Discard, upstream); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Error("it is still dialled")
	}
	w.event(isConnect)
	if all := w.requestEvents(); len(all) != 1 || all[0].Code != attache.CodeClientGone {
		t.Errorf("events %+v", all)
	}
}

// An upstream that dawdles or talks without end is given up, and the next request
// of the tunnel is served.
func TestAnUpstreamThatHasNoEndIsGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		says   func(io.Writer) // and then nothing more
		status int
		code   attache.Code
	}{
		"no answer":        {func(io.Writer) {}, 504, attache.CodeResponseTimeout},
		"half a head":      {func(w io.Writer) { _, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nX: y") }, 504, attache.CodeResponseTimeout},
		"half an odd head": {func(w io.Writer) { _, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nX: y\r\n z\nY: ") }, 504, attache.CodeResponseTimeout},
		"a hint":           {func(w io.Writer) { _, _ = io.WriteString(w, "HTTP/1.1 103 Early Hints\r\n\r\n") }, 504, attache.CodeResponseTimeout},
		"hints without end": {func(w io.Writer) {
			for hint := "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"; ; {
				if _, err := io.WriteString(w, hint); err != nil {
					return
				}
			}
		}, 502, attache.CodeProtocolError},
		"a head without end": {func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\n")
			for {
				if _, err := io.WriteString(w, "X: "+strings.Repeat("y", 1000)+"\r\n"); err != nil {
					return
				}
			}
		}, 502, attache.CodeProtocolError},
		"half a body": {func(w io.Writer) { _, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf") }, 200, attache.CodeConnectionTerminated},
		"half a chunk": {func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf")
		}, 200, attache.CodeConnectionTerminated},
		"a size without end": {func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;")
			for {
				if _, err := io.WriteString(w, strings.Repeat("x", 1000)); err != nil {
					return
				}
			}
		}, 200, attache.CodeConnectionTerminated},
		"trailers without end": {func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n")
			for {
				if _, err := io.WriteString(w, strings.Repeat("X: y\r\n", 100)); err != nil {
					return
				}
			}
		}, 200, attache.CodeConnectionTerminated},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var first atomic.Bool
			up := rawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
				for {
					h, err := readHead(br)
					if err != nil {
						return
					}
					if strings.HasPrefix(h, "GET /next") || first.Swap(true) {
						_, _ = io.WriteString(conn, okAnswer)
						continue
					}
					c.says(conn)
				}
			})
			w := newWorld(t, up, func(s *proxy.Settings) {
				s.Upstream.ResponseTimeout, s.Limits.IdleTimeout = time.Second, time.Second
			}, bearer("for-a", host))
			a := up.authority(host)
			conn := w.secure(w.open(a), host)
			fmt.Fprintf(conn, "GET /a HTTP/1.1\r\nHost: %s\r\n\r\n", a)
			br := bufio.NewReader(conn)
			resp, err := http.ReadResponse(br, nil)
			read := 0
			for err == nil && resp.StatusCode < 200 {
				read++
				resp, err = http.ReadResponse(br, nil)
			}
			if err != nil || resp.StatusCode != c.status {
				t.Fatalf("answer %v, %v after %d hints", resp, err, read)
			}
			failed := resp.StatusCode >= 502
			if _, err := io.Copy(io.Discard, resp.Body); (err == nil) != failed {
				t.Errorf("the body ends with %v", err)
			}
			if e := w.event(func(e attache.Event) bool { return e.Path == "/a" }); c.code != "" && e.Code != c.code || e.Status != resp.StatusCode {
				t.Errorf("event %+v", e)
			}
			if failed {
				fmt.Fprintf(conn, "GET /next HTTP/1.1\r\nHost: %s\r\n\r\n", a)
				if resp, _ := answer(t, br, "GET"); resp.StatusCode != 200 {
					t.Errorf("the next request: %d", resp.StatusCode)
				}
			}
		})
	}
}

// Many requests at once are answered one after the other, on either path.
func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprint(w, r.URL.Path, " ", string(body))
	}, only11)
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	conn := w.secure(w.open(a), host)
	const requests = 300
	var sent strings.Builder
	for i := range requests {
		body := strings.Repeat("x", i*7%1000)
		if i >= requests-20 && i%2 == 0 { // these are for the ordinary path, and with it the rest
			fmt.Fprintf(&sent, "POST /%d HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", i, a, len(body), body)
			continue
		}
		fmt.Fprintf(&sent, "POST /%d HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", i, a, len(body), body)
	}
	go func() { _, _ = io.WriteString(conn, sent.String()) }()
	br := bufio.NewReader(conn)
	for i := range requests {
		want := fmt.Sprint("/", i, " ", strings.Repeat("x", i*7%1000))
		if resp, got := answer(t, br, "POST"); resp.StatusCode != 200 || got != want {
			t.Fatalf("request %d: answer %d %q", i, resp.StatusCode, got)
		}
	}
	_ = conn.Close()
	w.event(isConnect)
	all := w.requestEvents()
	if len(all) != requests {
		t.Fatalf("%d events", len(all))
	}
	for i, e := range all {
		if n := int64(i * 7 % 1000); e.Path != fmt.Sprint("/", i) || e.BytesIn != n || e.BytesOut != int64(len(e.Path))+1+n ||
			e.Status != 200 || e.Code != "" || e.Upstream <= 0 || e.Duration < e.Upstream {
			t.Errorf("event %+v", e)
		}
	}
}

func TestAChangeReachesATunnelBetweenTwoRequests(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world) attache.Change
		status int
		code   string
	}{
		"a revoked token": {func(w *world) attache.Change {
			return attache.Change{Deleted: true, AccessToken: &attache.AccessToken{Integration: "bot", Hash: w.hash}}
		}, 407, "access_token_invalid"},
		"a deleted connection": {func(*world) attache.Change {
			return attache.Change{Deleted: true, Connection: &attache.Connection{Integration: "bot", Name: "for-a"}}
		}, 403, "no_connection"},
		"a deleted integration": {func(*world) attache.Change {
			return attache.Change{Deleted: true, Integration: &attache.Integration{Name: "bot"}}
		}, 407, "access_token_invalid"},
		"a connection that is for another host now": {func(w *world) attache.Change {
			c := bearer("for-a", other)
			c.Integration, c.AllowedPorts = "bot", []uint16{w.upstream.port}
			return attache.Change{Connection: &c}
		}, 403, "no_connection"},
	} {
		t.Run(name, func(t *testing.T) {
			up, seen := heads(t, okAnswer)
			w := newWorld(t, up, nil, bearer("for-a", host))
			get := "GET / HTTP/1.1\r\nHost: " + up.authority(host) + "\r\n\r\n"
			conn := w.secure(w.open(up.authority(host)), host)
			for range 2 {
				if resp, body := ask(t, conn, get); resp.StatusCode != 200 {
					t.Fatal(resp.StatusCode, body)
				}
				<-seen
			}
			w.live.Apply(c.change(w))
			if resp, body := ask(t, conn, get); resp.StatusCode != c.status || resp.Header.Get("Attache-Error") != c.code {
				t.Errorf("answer %d %s", resp.StatusCode, body)
			}
			if len(seen) > 0 {
				t.Errorf("the upstream was sent %q", <-seen)
			}
		})
	}
}

// A token whose time is over when the head of a request is complete is none, though it
// was good when that began.
func TestATokenMayRunOutInsideAHead(t *testing.T) {
	up, seen := heads(t, okAnswer)
	w := newWorld(t, up, nil, bearer("for-a", host))
	conn := w.secure(w.open(up.authority(host)), host)
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: ")
	w.expireToken()
	resp, body := ask(t, conn, up.authority(host)+"\r\n\r\n")
	if resp.StatusCode != 407 || resp.Header.Get("Attache-Error") != "access_token_invalid" || len(seen) > 0 {
		t.Errorf("answer %d %s", resp.StatusCode, body)
	}
}

// The administrator's limit of a head is that of the fast path too.
func TestAHeadOfARelayIsBounded(t *testing.T) {
	long := "X: " + strings.Repeat("y", 20<<10) + "\r\n"
	for name, c := range map[string]struct {
		request, says string
		status        int
	}{
		"a request": {"GET / HTTP/1.1\r\nHost: HOST\r\n" + long + "\r\n", okAnswer, 431},
		"an answer": {"GET / HTTP/1.1\r\nHost: HOST\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + long + "\r\n", 502},
	} {
		up, _ := heads(t, c.says)
		w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.HeadBytes = 8 << 10 }, bearer("for-a", host))
		a := up.authority(host)
		resp, _ := ask(t, w.secure(w.open(a), host), strings.ReplaceAll(c.request, "HOST", a))
		if resp.StatusCode != c.status {
			t.Errorf("%s: answer %d, want %d", name, resp.StatusCode, c.status)
		}
	}
}
