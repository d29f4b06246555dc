package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
)

func TestEarlyHintsArrive(t *testing.T) {
	hinting := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("X-Final", "yes")
		w.WriteHeader(200)
	}
	either := func(*httptest.Server) {}
	for name, c := range map[string]struct {
		client   func(*http.Transport)
		upstream func(*httptest.Server)
	}{
		"h1":               {h1, either},
		"h2":               {func(*http.Transport) {}, either},
		"h1 from h2 alone": {h1, h2Alone},
		"h2 from h2 alone": {func(*http.Transport) {}, h2Alone},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, newOrigin(t, hinting, c.upstream), nil, bearer("for-a", host))
			var hinted string
			trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				hinted = fmt.Sprint(code, " ", h.Get("Link"))
				return nil
			}}
			r := request(t, "GET", w.url("/"), nil)
			resp, _ := get(t, w.client(c.client), r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
			if hinted != "103 </style.css>; rel=preload" || resp.Header.Get("X-Final") != "yes" {
				t.Errorf("hinted %q, then %v", hinted, resp.Header)
			}
		})
	}
}

// The 100 is passed on when the body is first read, and hints when they come, which may
// be at the same moment: neither may get into the other.
func TestHintsMayFollowTheContinue(t *testing.T) {
	const hint = "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"
	const hints = 3
	up := rawUpstream(t, func(c net.Conn, br *bufio.Reader) {
		for {
			if _, err := readHead(br); err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			_, _ = io.WriteString(c, strings.Repeat(hint, hints))
			if _, err := io.ReadFull(br, make([]byte, len("hello"))); err != nil {
				return
			}
			_, _ = io.WriteString(c, okAnswer)
		}
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	conn := w.secure(w.open(a), host)
	br := bufio.NewReader(conn)
	for range 50 {
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", a)
		seen := map[int]int{}
		for range 1 + hints {
			resp, _ := answer(t, br, "POST")
			seen[resp.StatusCode]++
			if resp.StatusCode == 103 && resp.Header.Get("Link") == "" {
				t.Errorf("a hint without its field: %v", resp.Header)
			}
		}
		_, _ = io.WriteString(conn, "hello")
		if resp, body := answer(t, br, "POST"); resp.StatusCode != 200 || body != "ok" || seen[100] != 1 || seen[103] != hints {
			t.Fatalf("answer %d %q after %v", resp.StatusCode, body, seen)
		}
	}
}

// A client may say that Expect is for the next hop alone: the upstream is not told then,
// and the client gets its 100, and hints beside it.
func TestHintsBesideAContinueOfOurOwn(t *testing.T) {
	const hint = "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"
	up := rawUpstream(t, func(c net.Conn, br *bufio.Reader) {
		for {
			if h, err := readHead(br); err != nil || strings.Contains(h, "Expect") {
				return
			}
			_, _ = io.WriteString(c, strings.Repeat(hint, 3))
			if _, err := io.ReadFull(br, make([]byte, len("hello"))); err != nil {
				return
			}
			_, _ = io.WriteString(c, okAnswer)
		}
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	for range 50 {
		conn := w.secure(w.open(a), host)
		br := bufio.NewReader(conn)
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 5\r\nConnection: Expect\r\nExpect: 100-continue\r\n\r\nhello", a)
		resp, body := answer(t, br, "POST")
		for resp.StatusCode < 200 {
			resp, body = answer(t, br, "POST")
		}
		if resp.StatusCode != 200 || body != "ok" {
			t.Fatalf("answer %d %q", resp.StatusCode, body)
		}
		_ = conn.Close()
	}
}

// An answer that is not the final one has no body, and so no length (RFC 9110, section 8.6).
func TestAHintHasNoLength(t *testing.T) {
	for name, odd := range map[string]string{"plain": "", "odd": "X: y\r\n z\r\n"} {
		up, _ := heads(t, "HTTP/1.1 103 Early Hints\r\nContent-Length: 4\r\nLink: </a>\r\n"+odd+"\r\n"+okAnswer)
		w := newWorld(t, up, nil, bearer("for-a", host))
		conn := w.secure(w.open(up.authority(host)), host)
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", up.authority(host))
		head, err := readHead(bufio.NewReader(conn))
		if err != nil || !strings.HasPrefix(head, "HTTP/1.1 103") || strings.Contains(head, "Content-Length") {
			t.Errorf("%s: read %q, %v", name, head, err)
		}
	}
}
