package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"attache"
	"attache/proxy"
)

// spelled is a field that shows which path a request has gone: the relay leaves its
// name as it is, net/http does not.
const spelled = "x-sPELLED: 1\r\n"

// counting answers each request with the length of its body, and tells which spelling
// it has come in.
func counting(t testing.TB) (*origin, chan bool) {
	relayed := make(chan bool, 100)
	return rawUpstream(t, func(c net.Conn, br *bufio.Reader) {
		for {
			head, err := readHead(br)
			if err != nil {
				return
			}
			r, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(head), br)))
			if err != nil {
				t.Error(err)
				return
			}
			n, _ := io.Copy(io.Discard, r.Body)
			relayed <- strings.Contains(head, strings.TrimSpace(spelled))
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%d", len(fmt.Sprint(n)), n)
		}
	}), relayed
}

// What is not for the relay is for the inner server, and what comes after it is
// the relay's again.
func TestATunnelComesBackFromTheInnerServer(t *testing.T) {
	if !hasFastPath() {
		return
	}
	big := strings.Repeat("x", 100<<10)
	for name, c := range map[string]struct {
		head, body string
		status     int
		closes     bool // the tunnel
		stays      bool // with the inner server
	}{
		"a large body":                         {"POST / HTTP/1.1\r\n" + spelled + fmt.Sprintf("Content-Length: %d\r\n", len(big)), big, 200, false, false},
		"chunks":                               {"POST / HTTP/1.1\r\n" + spelled + "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", 200, false, false},
		"chunks with extensions and a trailer": {"POST / HTTP/1.1\r\n" + spelled + "Transfer-Encoding: chunked\r\n", "5;a=b\r\nhello\r\n00\r\nX: y\r\n\r\n", 200, false, false},
		"large chunks":                         {"POST / HTTP/1.1\r\n" + spelled + "Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(big), big), 200, false, false},
		"the wish for a 100, and no waiting":   {"POST / HTTP/1.1\r\n" + spelled + "Expect: 100-continue\r\nContent-Length: 5\r\n", "hello", 200, false, false},
		"a denial":                             {"TRACE / HTTP/1.1\r\n", "", 403, false, false},
		"another host":                         {"GET / HTTP/1.1\r\nHost: elsewhere.example\r\n", "", 421, false, false},
		"broken chunks":                        {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", "5\r\nhelloX\r\n", 400, true, false},
		"an odd head":                          {"GET / HTTP/1.1\r\n" + spelled + "TE: trailers\r\n", "", 200, false, true},
	} {
		for _, cut := range []int{0, 1, 40} {
			t.Run(fmt.Sprintf("%s, cut %d bytes before its end", name, cut), func(t *testing.T) {
				up, relayed := counting(t)
				w := newWorld(t, up, nil, bearer("for-a", host))
				a := up.authority(host)
				conn := w.secure(w.open(a), host)
				br := bufio.NewReader(conn)
				head := c.head
				if !strings.Contains(head, "Host:") {
					head += "Host: " + a + "\r\n"
				}
				sent := head + "\r\n" + c.body
				get := "GET / HTTP/1.1\r\n" + spelled + "Host: " + a + "\r\n\r\n"
				first := len(sent) - min(cut, len(sent))
				_, _ = io.WriteString(conn, sent[:first])
				if 0 < cut && cut <= len(c.body) && strings.Contains(head, "Expect") {
					if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 100 {
						t.Fatalf("answer %+v, %v", resp, err)
					}
				}
				_, _ = io.WriteString(conn, sent[first:])
				resp, err := http.ReadResponse(br, &http.Request{Method: "POST"})
				if err == nil && resp.StatusCode == 100 { // nobody has waited for it
					resp, err = http.ReadResponse(br, &http.Request{Method: "POST"})
				}
				if err != nil || resp.StatusCode != c.status {
					t.Fatalf("answer %+v, %v", resp, err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				if c.status == 200 && <-relayed {
					t.Error("the relay has had it")
				}
				if resp.Close != c.closes {
					t.Errorf("it closes the tunnel: %v", resp.Close)
				}
				if resp.Close {
					return
				}
				for range 2 {
					_, _ = io.WriteString(conn, get)
					if resp, body := answer(t, br, "GET"); resp.StatusCode != 200 || body != "0" {
						t.Fatalf("the next answer is %d %q", resp.StatusCode, body)
					}
					if <-relayed == c.stays {
						t.Errorf("the relay has had the next one: %v", !c.stays)
					}
				}
			})
		}
	}
}

// What a client sends behind such a request waits for the relay.
func TestWhatFollowsAVisitIsNotLost(t *testing.T) {
	if !hasFastPath() {
		return
	}
	up, relayed := counting(t)
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	conn := w.secure(w.open(a), host)
	var sent strings.Builder
	sizes := []int{0, 70_000, 3, 0, 40_000, 40_001, 0, 33_000, 5}
	for i, n := range sizes {
		fmt.Fprintf(&sent, "POST / HTTP/1.1\r\n%sHost: %s\r\n", spelled, a)
		if body := strings.Repeat("x", n); i%2 == 0 {
			fmt.Fprintf(&sent, "Content-Length: %d\r\n\r\n%s", n, body)
		} else {
			fmt.Fprintf(&sent, "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", max(n, 1), body+strings.Repeat("x", max(n, 1)-n))
			sent.WriteString("0\r\n\r\n")
		}
	}
	go func() { _, _ = io.WriteString(conn, sent.String()) }()
	br := bufio.NewReader(conn)
	for i, n := range sizes {
		if i%2 == 1 {
			n = max(n, 1)
		}
		resp, body := answer(t, br, "POST")
		if resp.StatusCode != 200 || body != fmt.Sprint(n) {
			t.Fatalf("request %d: %d %q, want %d", i, resp.StatusCode, body, n)
		}
		if got, want := <-relayed, i%2 == 0 && n < 32_000; got != want {
			t.Errorf("request %d was relayed: %v, want %v", i, got, want)
		}
	}
}

// A client that leaves during a visit is noticed, and the tunnel ends.
func TestAClientMayLeaveDuringAVisit(t *testing.T) {
	for name, more := range map[string]string{"with nothing more": "", "in the middle of the next request": "GET / HT"} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan struct{})
			up := rawUpstream(t, func(c net.Conn, br *bufio.Reader) {
				if _, err := readHead(br); err != nil {
					return
				}
				close(asked)
				_, _ = io.Copy(io.Discard, br)
			})
			w := newWorld(t, up, func(s *proxy.Settings) { s.Upstream.ResponseTimeout = 2 * time.Second }, bearer("for-a", host))
			a := up.authority(host)
			conn := w.secure(w.open(a), host)
			fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n%s", a, more)
			<-asked
			_ = conn.Close()
			e := w.event(isRequest)
			// Who has said something more is not listened to; net/http may, or may not.
			noticed := e.Code == attache.CodeClientGone
			if !noticed && e.Code != attache.CodeResponseTimeout || noticed != (more == "") && (more == "" || hasFastPath()) || e.BytesIn != 5 {
				t.Errorf("event %+v", e)
			}
			w.event(isConnect) // the tunnel has ended
		})
	}
}

// When the proxy ends, it waits for a visit as for any request, and closes the
// tunnel after it.
func TestServeGivesVisitsTimeToEnd(t *testing.T) {
	asked, goOn := make(chan struct{}), make(chan struct{})
	up := rawUpstream(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := readHead(br); err != nil {
			return
		}
		close(asked)
		<-goOn
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		_, _ = io.Copy(io.Discard, br)
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	conn := w.secure(w.open(a), host)
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", a)
	<-asked
	go w.stop()
	eventually(t, "the tunnel is not told", w.proxy.IsDraining)
	close(goOn)
	br := bufio.NewReader(conn)
	if resp, body := answer(t, br, "POST"); resp.StatusCode != 200 || body != "ok" || !resp.Close {
		t.Errorf("answer %d %q, which closes: %v", resp.StatusCode, body, resp.Close)
	}
	if _, err := br.ReadByte(); err != io.EOF {
		t.Errorf("then the tunnel is not closed: %v", err)
	}
	w.stop()
}

// A request that nobody takes any more when the proxy ends does not keep it.
func TestServeDoesNotWaitForAVisitThatCannotBegin(t *testing.T) {
	up, _ := counting(t)
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Drain = 100 * time.Millisecond }, bearer("for-a", host))
	a := up.authority(host)
	conn := w.secure(w.open(a), host)
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 10\r\n\r\nhello", a)
	w.stop()
	w.event(isConnect) // the tunnel has ended
}

// A line end after a POST is not the beginning of a head, which would have to come
// in time.
func TestALineEndAfterAPostIsNoRequest(t *testing.T) {
	up, _ := counting(t)
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.HeadTimeout = 200 * time.Millisecond }, bearer("for-a", host))
	a := up.authority(host)
	conn := w.secure(w.open(a), host)
	br := bufio.NewReader(conn)
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 5\r\n\r\nhello\r\n", a)
	if resp, body := answer(t, br, "POST"); resp.StatusCode != 200 || body != "5" {
		t.Fatalf("answer %d %q", resp.StatusCode, body)
	}
	_ = conn.SetReadDeadline(time.Now().Add(600 * time.Millisecond))
	if _, err := conn.Read(make([]byte, 1)); !os.IsTimeout(err) {
		t.Fatalf("the tunnel does not stay: %v", err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", a)
	if resp, body := answer(t, bufio.NewReader(conn), "GET"); resp.StatusCode != 200 || body != "0" {
		t.Errorf("answer %d %q", resp.StatusCode, body)
	}
}
