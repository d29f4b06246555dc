package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"attache"
	"attache/proxy"
)

// dial opens a raw connection to the proxy, with a deadline for all of it.
func (w *world) dial() net.Conn {
	w.t.Helper()
	c, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(15 * time.Second))
	return c
}

func (w *world) authorization() string { return authorization("bot", w.token) }

func authorization(integration, token string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(integration+":"+token))
}

// open sends a CONNECT and expects a tunnel.
func (w *world) open(target string) net.Conn {
	w.t.Helper()
	return w.openAs("bot", w.token, target)
}

func (w *world) openAs(integration, token, target string) net.Conn {
	w.t.Helper()
	c := w.dial()
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\nProxy-Authorization: %s\r\n\r\n", target, target, authorization(integration, token))
	resp, err := http.ReadResponse(bufio.NewReaderSize(oneByte{c}, 16), nil)
	if err != nil || resp.StatusCode != 200 {
		w.t.Fatalf("CONNECT %s: %v, %v", target, resp, err)
	}
	return c
}

// oneByte keeps a bufio.Reader from reading ahead into the tunnel.
type oneByte struct{ io.Reader }

func (o oneByte) Read(b []byte) (int, error) { return o.Reader.Read(b[:1]) }

// secure shakes hands inside a tunnel.
func (w *world) secure(c net.Conn, sni string, protocols ...string) *tls.Conn {
	w.t.Helper()
	s := tls.Client(c, &tls.Config{ServerName: sni, RootCAs: w.roots, NextProtos: protocols})
	if err := s.Handshake(); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// ask sends raw bytes and reads one answer.
func ask(t testing.TB, c net.Conn, raw string) (*http.Response, string) {
	t.Helper()
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	return answer(t, bufio.NewReader(c), "GET")
}

func answer(t testing.TB, br *bufio.Reader, method string) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// Invariant 2: whatever the client says inside a tunnel to a, nothing is sent to
// b, and a's credential least of all.
func TestNothingInsideATunnelChangesItsTarget(t *testing.T) {
	up := newOrigin(t, nil)
	a, b := up.authority(host), up.authority(other)
	cases := map[string]struct {
		sni, request string
		status       int
	}{
		"another Host":                        {host, "GET / HTTP/1.1\r\nHost: " + b + "\r\n\r\n", 421},
		"another port in Host":                {host, "GET / HTTP/1.1\r\nHost: " + host + ":1\r\n\r\n", 421},
		"no port in Host, on an odd port":     {host, "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n", 421},
		"another SNI":                         {other, "GET / HTTP/1.1\r\nHost: " + b + "\r\n\r\n", 421},
		"another SNI, with the tunnel's Host": {other, "GET / HTTP/1.1\r\nHost: " + a + "\r\n\r\n", 421},
		"another absolute URL":                {host, "GET https://" + b + "/ HTTP/1.1\r\nHost: " + a + "\r\n\r\n", 421},
		"an absolute URL over http":           {host, "GET http://" + a + "/ HTTP/1.1\r\nHost: " + a + "\r\n\r\n", 421},
		"user information in a URL":           {host, "GET https://" + a + "@" + b + "/ HTTP/1.1\r\nHost: " + a + "\r\n\r\n", 421},
		"user information in Host":            {host, "GET / HTTP/1.1\r\nHost: " + a + "@" + b + "\r\n\r\n", 400}, // net/http's own answer
		"a nested CONNECT":                    {host, "CONNECT " + b + " HTTP/1.1\r\nHost: " + b + "\r\n\r\n", 405},
		"a nested CONNECT to itself":          {host, "CONNECT " + a + " HTTP/1.1\r\nHost: " + a + "\r\n\r\n", 405},
		"a look-alike below the host":         {host, "GET / HTTP/1.1\r\nHost: " + host + ".evil.test:" + portString(up.port) + "\r\n\r\n", 421},
		"two Hosts":                           {host, "GET / HTTP/1.1\r\nHost: " + a + "\r\nHost: " + b + "\r\n\r\n", 400},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, up, nil, bearer("for-a", host), bearer("for-b", other))
			before := up.count()
			conn := w.secure(w.open(a), c.sni)
			resp, body := ask(t, conn, c.request)
			if resp.StatusCode != c.status {
				t.Errorf("answer %d %s, want %d", resp.StatusCode, body, c.status)
			}
			if up.count() != before {
				t.Errorf("a request reached the upstream: %+v", up.last())
			}
			if c.status == 421 && resp.Header.Get("Attache-Error") != string(attache.CodeAuthorityMismatch) {
				t.Errorf("header %v", resp.Header)
			}
		})
	}
}

func TestTheTargetMayBeWrittenInOtherWays(t *testing.T) {
	up := newOrigin(t, nil)
	a := up.authority(host)
	cases := map[string]string{
		"as it is":                       "GET /x HTTP/1.1\r\nHost: " + a + "\r\n\r\n",
		"in capitals":                    "GET /x HTTP/1.1\r\nHost: " + strings.ToUpper(a) + "\r\n\r\n",
		"with a trailing dot":            "GET /x HTTP/1.1\r\nHost: " + host + ".:" + portString(up.port) + "\r\n\r\n",
		"in an absolute URL":             "GET https://" + a + "/x HTTP/1.1\r\nHost: " + a + "\r\n\r\n",
		"in an absolute URL with a user": "GET https://user:password@" + a + "/x HTTP/1.1\r\nHost: " + a + "\r\n\r\n",
		"not at all, in HTTP/1.0":        "GET /x HTTP/1.0\r\n\r\n",
	}
	for name, raw := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, up, nil, bearer("for-a", host))
			resp, body := ask(t, w.secure(w.open(a), host), raw)
			if resp.StatusCode != 200 {
				t.Fatalf("answer %d %s", resp.StatusCode, body)
			}
			got := up.last()
			if got.Host != a || got.URL.Path != "/x" || got.Header.Get("Authorization") != "Bearer "+canary {
				t.Errorf("the upstream saw %s %s %v", got.Host, got.URL, got.Header)
			}
		})
	}
}

func TestAnotherAuthorityOverHTTP2IsRefused(t *testing.T) {
	up := newOrigin(t, nil)
	w := newWorld(t, up, nil, bearer("for-a", host), bearer("for-b", other))
	for name, fields := range map[string][]hpack.HeaderField{
		"another :authority": {
			{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"},
			{Name: ":authority", Value: up.authority(other)}, {Name: ":path", Value: "/"},
		},
		"CONNECT": {{Name: ":method", Value: "CONNECT"}, {Name: ":authority", Value: up.authority(other)}},
	} {
		t.Run(name, func(t *testing.T) {
			conn := w.secure(w.open(up.authority(host)), host, "h2")
			status := askH2(t, conn, fields)
			want := "421"
			if name == "CONNECT" {
				want = "405"
			}
			if status != want {
				t.Errorf("status %s, want %s", status, want)
			}
			if up.count() > 0 {
				t.Error("a request reached the upstream")
			}
		})
	}
}

// askH2 sends one request without a body over a fresh h2 connection and returns
// the answer's status.
func askH2(t testing.TB, conn net.Conn, fields []hpack.HeaderField) string {
	t.Helper()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range fields {
		_ = enc.WriteField(f)
	}
	_ = framer.WriteSettings()
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if h, ok := f.(*http2.MetaHeadersFrame); ok {
			return h.PseudoValue("status")
		}
	}
}

func TestPlainHTTPGetsNoCredential(t *testing.T) {
	plain := newPlainOrigin(t)
	up := newOrigin(t, nil)
	w := newWorld(t, up, nil, bearer("for-a", host))
	client := w.client()
	t.Run("a covered host is refused", func(t *testing.T) {
		resp, body := get(t, client, request(t, "GET", "http://"+plain.authority(host)+"/", nil))
		if resp.StatusCode != 403 || !strings.Contains(body, "plaintext_refused") {
			t.Errorf("answer %d %s", resp.StatusCode, body)
		}
		if plain.count() != 0 {
			t.Error("the request was sent")
		}
	})
	t.Run("a covered host is refused inside a tunnel too", func(t *testing.T) {
		c := w.open(plain.authority(host)) // a port that the connection does not allow
		resp, body := ask(t, c, "GET / HTTP/1.1\r\nHost: "+plain.authority(host)+"\r\n\r\n")
		if resp.StatusCode != 403 || !strings.Contains(body, "plaintext_refused") {
			t.Errorf("answer %d %s", resp.StatusCode, body)
		}
		c = w.open(up.authority(host)) // one that it does
		resp, body = ask(t, c, "GET / HTTP/1.1\r\nHost: "+up.authority(host)+"\r\n\r\n")
		if resp.StatusCode != 403 || !strings.Contains(body, "plaintext_refused") {
			t.Errorf("answer %d %s", resp.StatusCode, body)
		}
	})
	t.Run("another host is forwarded as it is", func(t *testing.T) {
		r := request(t, "GET", "http://"+plain.authority(other)+"/a%2Fb|c", nil)
		r.Header.Set("Authorization", "mine")
		r.Header.Set("Attache-Connection", "")
		resp, _ := get(t, client, r)
		got := plain.last()
		if resp.StatusCode != 200 || got.Header.Get("Authorization") != "mine" || got.Header.Get("Proxy-Authorization") != "" {
			t.Errorf("answer %d, the upstream saw %v", resp.StatusCode, got.Header)
		}
		if e := w.event(func(e attache.Event) bool { return e.Decision == attache.Forward }); e.Status != 200 || e.Connection != "" {
			t.Errorf("event %+v", e)
		}
	})
	t.Run("TRACE is refused", func(t *testing.T) {
		resp, body := get(t, client, request(t, "TRACE", w.url("/"), nil))
		if resp.StatusCode != 403 || !strings.Contains(body, "trace_refused") || up.count() != 0 {
			t.Errorf("answer %d %s", resp.StatusCode, body)
		}
	})
}

func TestUncoveredHosts(t *testing.T) {
	up := newOrigin(t, nil)
	t.Run("are tunnelled without being decrypted", func(t *testing.T) {
		w := newWorld(t, up, nil, bearer("for-a", host))
		client := w.client(func(tr *http.Transport) { tr.TLSClientConfig.RootCAs = testRoots(t) }) // trusts the origin, not us
		r := request(t, "GET", "https://"+up.authority(other)+"/", nil)
		r.Header.Set("Authorization", "mine")
		resp, _ := get(t, client, r)
		if resp.StatusCode != 200 || up.last().Header.Get("Authorization") != "mine" {
			t.Errorf("answer %d", resp.StatusCode)
		}
		client.CloseIdleConnections()
		e := w.event(isConnect)
		if e.Decision != attache.Tunnel || e.Status != 200 || e.BytesIn == 0 || e.BytesOut == 0 || e.Target != up.authority(other) {
			t.Errorf("event %+v", e)
		}
	})
	t.Run("are denied inside the tunnel where that is configured", func(t *testing.T) {
		w := newWorld(t, up, func(s *proxy.Settings) { s.Unmatched = attache.Deny }, bearer("for-a", host))
		resp, body := get(t, w.client(), request(t, "GET", "https://"+up.authority(other)+"/", nil))
		if resp.StatusCode != 403 || !strings.Contains(body, "no_connection") || resp.Header.Get("Content-Type") != "application/problem+json" ||
			resp.Header.Get("Proxy-Status") != "attache; error=http_request_denied" {
			t.Errorf("answer %d %s %v", resp.StatusCode, body, resp.Header)
		}
	})
}
