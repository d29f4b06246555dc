package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"attache"
	"attache/proxy"
	"attache/secret"
)

// A stream may pause for longer than one write may take.
func TestAnAnswerMayPause(t *testing.T) {
	for name, ordinary := range map[string]bool{"on the ordinary path": true, "on the way round": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
				for range 2 {
					_, _ = io.WriteString(w, "x\n")
					_ = http.NewResponseController(w).Flush()
					<-time.After(1500 * time.Millisecond)
				}
			}, h2Alone)
			w := newWorld(t, up, func(s *proxy.Settings) {
				s.Ordinary, s.Limits.WriteTimeout = ordinary, 600*time.Millisecond
			}, bearer("for-a", host))
			if resp, body := get(t, w.client(), request(t, "GET", w.url("/"), nil)); resp.StatusCode != 200 || body != "x\nx\n" {
				t.Errorf("answer %d %q", resp.StatusCode, body)
			}
			if e := w.event(isRequest); e.Code != "" {
				t.Errorf("event %+v", e)
			}
		})
	}
}

// After a 101 either side may have said all before the other.
func TestAHalfCloseAfterASwitchIsPassedOn(t *testing.T) {
	up := rawUpstream(t, func(c net.Conn, br *bufio.Reader) {
		_, _ = readHead(br)
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		all, _ := io.ReadAll(br)
		_, _ = fmt.Fprintf(c, "got %d", len(all))
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	conn := w.secure(w.open(up.authority(host)), host)
	br := bufio.NewReader(conn)
	fmt.Fprintf(conn, "POST /attach HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", up.authority(host))
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	_, _ = io.WriteString(conn, "stdin")
	_ = conn.CloseWrite()
	if rest, err := io.ReadAll(br); string(rest) != "got 5" {
		t.Errorf("read %q, %v", rest, err)
	}
}

// What has switched over a plain connection ends with the proxy, too.
func TestAPlainSwitchedConnectionEndsWithServe(t *testing.T) {
	up := clearUpstreamOn(t, loopback(t), func(c net.Conn, br *bufio.Reader) {
		_, _ = readHead(br)
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = c.SetDeadline(time.Time{}) // or the peer would end it
		_, _ = io.Copy(c, br)
	})
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Drain = 300 * time.Millisecond })
	conn, a := w.dial(), up.authority(other)
	fmt.Fprintf(conn, "GET http://%s/ws HTTP/1.1\r\nHost: %[1]s\r\nProxy-Authorization: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", a, w.authorization())
	if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	ended := make(chan struct{})
	go func() {
		w.stop()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(8 * time.Second):
		t.Error("Serve does not end")
		_ = conn.Close()
	}
}

// An upstream that speaks HTTP/2 may contradict itself about the length, where one that
// speaks HTTP/1.1 would be caught at it.
func TestLengthsOverHTTP2AreNotPassedOnTwice(t *testing.T) {
	for _, lengths := range [][]string{{"3", "5"}, {"5", "3"}, {"5", "5"}, {"x"}, {"5, 5"}} {
		up := h2Upstream(t, func(fr *http2.Framer, stream uint32) {
			fields := []string{":status", "200"}
			for _, l := range lengths {
				fields = append(fields, "content-length", l)
			}
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: newBlocks().encode(pairs(fields...)), EndHeaders: true})
			_ = fr.WriteData(stream, true, []byte("hello"))
		})
		w := newWorld(t, up, func(s *proxy.Settings) { s.Ordinary = true }, bearer("for-a", host))
		w.proxy.LearnNoOrigin()
		conn := w.secure(w.open(up.authority(host)), host)
		br := bufio.NewReader(conn)
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", up.authority(host))
		if resp, body := answer(t, br, "GET"); resp.Header["Content-Length"] != nil || body != "hello" {
			t.Errorf("%q: answer %d %q with the lengths %q", lengths, resp.StatusCode, body, resp.Header["Content-Length"])
		}
	}
}

// h2Upstream is one that speaks HTTP/2, grants no room for bodies, and answers in its own
// way.
func h2Upstream(t *testing.T, answer func(fr *http2.Framer, stream uint32)) *origin {
	ln := tls.NewListener(loopback(t), &tls.Config{NextProtos: []string{"h2"}, Certificates: []tls.Certificate{issue(t, time.Now().Add(time.Hour), host)}})
	return clearUpstreamOn(t, ln, func(c net.Conn, br *bufio.Reader) {
		_, _ = io.ReadFull(br, make([]byte, len(http2.ClientPreface)))
		fr := http2.NewFramer(c, br)
		_ = fr.WriteSettings()
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					_ = fr.WriteSettingsAck()
				}
			case *http2.HeadersFrame:
				answer(fr, f.StreamID)
			}
		}
	})
}

// The path of a whole URL is passed on byte for byte, as one without a host is.
func TestThePathOfAWholeURLIsPassedOnByteForByte(t *testing.T) {
	up, plain := newOrigin(t, nil), newPlainOrigin(t)
	w := newWorld(t, up, nil, bearer("for-a", host))
	behind := newWorld(t, up, func(s *proxy.Settings) {
		s.Upstream.Parent = secret.New(w.proxyURL().String())
		s.Upstream.AllowPrivate, s.Upstream.Hosts = nil, nil
	}, bearer("for-a", host))
	a, b := up.authority(host), plain.authority(other)
	for _, path := range []string{"/a", "/a|b", "/a%2fb|c", "/a%2fb|c?d|e", "", "?f"} {
		want := path
		if !strings.HasPrefix(path, "/") {
			want = "/" + path
		}
		ask(t, w.secure(w.open(a), host), fmt.Sprintf("GET https://%s%s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", a, path))
		if got := up.last().RequestURI; got != want {
			t.Errorf("in a tunnel: %s arrived as %s", path, got)
		}
		for name, w := range map[string]*world{"": w, "through a parent: ": behind} {
			resp, body := ask(t, w.dial(), fmt.Sprintf("GET http://%s%s HTTP/1.1\r\nHost: %[1]s\r\nProxy-Authorization: %[3]s\r\n\r\n", b, path, w.authorization()))
			if resp.StatusCode != 200 {
				t.Fatalf("%s%s: answer %d %q", name, path, resp.StatusCode, body)
			}
			if got := plain.last().RequestURI; got != want {
				t.Errorf("%s%s arrived as %s", name, path, got)
			}
		}
	}
}

// A parent proxy that does not answer is not one that is busy.
func TestAParentThatDoesNotAnswerIsTold(t *testing.T) {
	ln := loopback(t)
	up := newOrigin(t, nil)
	parent := clearUpstreamOn(t, ln, func(c net.Conn, br *bufio.Reader) { _, _ = io.Copy(io.Discard, br) })
	w := newWorld(t, up, func(s *proxy.Settings) {
		s.Upstream.Parent = secret.New("http://127.0.0.1:" + portString(parent.port))
		s.Upstream.ConnectTimeout, s.Upstream.TLSTimeout = 300*time.Millisecond, 300*time.Millisecond
	}, bearer("for-a", host))
	if resp, body := get(t, w.client(h1), request(t, "GET", w.url("/"), nil)); resp.StatusCode != 504 || resp.Header.Get("Attache-Error") != "connection_timeout" {
		t.Errorf("answer %d %q", resp.StatusCode, body)
	}
}

// An upstream that speaks HTTP/2 and grants no room for a body is given up, like one that
// does not answer; and what ends the upload is not its client, which waits.
func TestAnUploadThatTheUpstreamDoesNotTakeEnds(t *testing.T) {
	for name, c := range map[string]struct {
		reset            time.Duration
		response, silent time.Duration
		status           int
		code             attache.Code
	}{
		"silent":    {0, 300 * time.Millisecond, 700 * time.Millisecond, 504, attache.CodeResponseTimeout},
		"a refusal": {time.Second, 10 * time.Second, 300 * time.Millisecond, 502, attache.CodeProtocolError},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up := h2Upstream(t, func(fr *http2.Framer, stream uint32) {
				if c.reset > 0 {
					<-time.After(c.reset)
					_ = fr.WriteRSTStream(stream, http2.ErrCodeInternal)
				}
			})
			w := newWorld(t, up, func(s *proxy.Settings) {
				s.Upstream.ResponseTimeout, s.Limits.IdleTimeout = c.response, c.silent
			}, bearer("for-a", host))
			r := request(t, "POST", w.url("/"), strings.NewReader(strings.Repeat("x", 300_000)))
			resp, body := get(t, w.client(h1), r)
			if resp.StatusCode != c.status || resp.Header.Get("Attache-Error") != string(c.code) {
				t.Errorf("answer %d %q", resp.StatusCode, body)
			}
		})
	}
}

// An upstream that takes no more of an upload, and goes on with its answer, is not given
// up.
func TestAnAnswerGoesOnBesideAnUploadThatIsNotTaken(t *testing.T) {
	const pieces = 10
	up := h2Upstream(t, func(fr *http2.Framer, stream uint32) {
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: newBlocks().encode(pairs(":status", "200")), EndHeaders: true})
		for i := range pieces {
			<-time.After(150 * time.Millisecond)
			_ = fr.WriteData(stream, i == pieces-1, []byte("x"))
		}
	})
	w := newWorld(t, up, func(s *proxy.Settings) {
		s.Upstream.ResponseTimeout, s.Limits.IdleTimeout = 200*time.Millisecond, 300*time.Millisecond
	}, bearer("for-a", host))
	r := request(t, "POST", w.url("/"), strings.NewReader(strings.Repeat("x", 300_000)))
	if resp, body := get(t, w.client(h1), r); resp.StatusCode != 200 || body != strings.Repeat("x", pieces) {
		t.Errorf("answer %d %q", resp.StatusCode, body)
	}
}

// The head of a long answer does not wait for the first of its body.
func TestTheHeadOfALongAnswerIsPassedOnAtOnce(t *testing.T) {
	seen := make(chan struct{})
	up := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		_ = http.NewResponseController(w).Flush()
		<-seen
		_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	for name, client := range map[string]*http.Client{"h1": w.client(h1), "h2": w.client()} {
		resp, err := client.Do(request(t, "GET", w.url("/"), nil))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		seen <- struct{}{}
		if body, err := io.ReadAll(resp.Body); len(body) != 100_000 {
			t.Errorf("%s: %d bytes, %v", name, len(body), err)
		}
		_ = resp.Body.Close()
	}
	close(seen)
}
