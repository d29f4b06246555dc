package proxy_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"attache"
	"attache/certs"
	"attache/proxy"
)

func TestAWrongAccessTokenGetsA407AndAnotherTry(t *testing.T) {
	up := newOrigin(t, nil)
	w := newWorld(t, up, nil, bearer("for-a", host))
	expired, _ := w.addToken("bot", time.Now().Add(-time.Second))
	elsewhere, _ := w.addToken("team", time.Time{})
	basic := func(user, password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	cases := map[string]struct{ header, code string }{
		"none":                              {"", "access_token_missing"},
		"not base64":                        {"Basic ???", "access_token_invalid"},
		"another scheme":                    {"Digest x", "access_token_invalid"},
		"a mistyped token":                  {basic("bot", w.token[:len(w.token)-1]+"!"), "access_token_invalid"},
		"an unknown token":                  {basic("bot", unknownToken()), "access_token_invalid"},
		"an expired token":                  {basic("bot", expired), "access_token_invalid"},
		"another integration's token":       {basic("bot", elsewhere), "access_token_invalid"},
		"the right token without a user":    {basic("", w.token), "access_token_invalid"},
		"an unknown token as Bearer":        {"Bearer " + unknownToken(), "access_token_invalid"},
		"a token in another's user name":    {basic(w.token, ""), "access_token_invalid"},
		"two fields, of which one is right": {w.authorization() + "\r\nProxy-Authorization: " + w.authorization(), "access_token_invalid"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			conn := w.dial()
			br := bufio.NewReader(conn)
			field := ""
			if c.header != "" {
				field = "Proxy-Authorization: " + c.header + "\r\n"
			}
			fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n%s\r\n", up.authority(host), field)
			resp, body := answer(t, br, "CONNECT")
			if resp.StatusCode != 407 || resp.Header.Get("Proxy-Authenticate") != `Basic realm="attache"` || resp.ContentLength <= 0 || resp.Close {
				t.Fatalf("answer %d %v", resp.StatusCode, resp.Header)
			}
			var problem attache.Problem
			if err := json.Unmarshal([]byte(body), &problem); err != nil || string(problem.Code) != c.code || !strings.Contains(problem.Detail, "http://INTEGRATION:ACCESS_TOKEN@HOST:PORT") {
				t.Errorf("body %s, %v", body, err)
			}
			// git and Java answer on the same connection.
			fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\nProxy-Authorization: %s\r\n\r\n", up.authority(host), w.authorization())
			if resp, err := http.ReadResponse(br, &http.Request{Method: "CONNECT"}); err != nil || resp.StatusCode != 200 {
				t.Errorf("then %v, %v", resp, err)
			}
		})
	}
	for _, header := range []string{"bearer " + w.token, "BASIC " + strings.TrimPrefix(w.authorization(), "Basic ")} {
		conn := w.dial()
		fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\nProxy-Authorization: %s\r\n\r\n", up.authority(host), header)
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != 200 {
			t.Errorf("%.6s…: %v, %v", header, resp, err)
		}
	}
}

func unknownToken() string {
	_, token, _ := attache.NewToken(attache.AccessTokenPrefix)
	return token.Expose()
}

func TestNamingAConnection(t *testing.T) {
	up := newOrigin(t, nil)
	w := newWorld(t, up, nil, bearer("first", host), bearer("second", host), bearer("elsewhere", other))
	user := func(name string) func(*http.Transport) {
		u := w.proxyURL()
		u.User = url.UserPassword(name, w.token)
		return func(tr *http.Transport) { tr.Proxy = http.ProxyURL(u) }
	}
	cases := map[string]struct {
		user, header string
		status       int
		code, used   string
	}{
		"no name is ambiguous":                {"bot", "", 403, "ambiguous_connection", ""},
		"the user name names it":              {"bot.first", "", 200, "", "first"},
		"the header names it":                 {"bot", "second", 200, "", "second"},
		"the header is nearer than the user":  {"bot.first", "second", 200, "", "second"},
		"an unknown name is no fallback":      {"bot", "nobody", 403, "unknown_connection", ""},
		"an unknown user name is no fallback": {"bot.nobody", "", 403, "unknown_connection", ""},
		"another host's name is no fallback":  {"bot", "elsewhere", 403, "connection_mismatch", ""},
		"another host's user name neither":    {"bot.elsewhere", "", 403, "connection_mismatch", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			before := up.count()
			r := request(t, "GET", w.url("/"+strings.ReplaceAll(name, " ", "-")), nil)
			if c.header != "" {
				r.Header.Set("Attache-Connection", c.header)
			}
			resp, body := get(t, w.client(user(c.user)), r)
			if resp.StatusCode != c.status || resp.Header.Get("Attache-Error") != c.code {
				t.Fatalf("answer %d %s", resp.StatusCode, body)
			}
			if c.status == 403 && up.count() != before {
				t.Error("the request was sent")
			}
			e := w.event(func(e attache.Event) bool { return e.Path == r.URL.Path })
			if e.Connection != c.used || string(e.Code) != c.code {
				t.Errorf("event %+v", e)
			}
		})
	}
}

// Each way in which an upstream can fail is told to the client and the event.
func TestAnUpstreamThatFailsIsExplained(t *testing.T) {
	stranger, err := certs.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	untrusted := newOrigin(t, nil, func(s *httptest.Server) {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{issueBy(t, stranger, time.Now().Add(time.Hour), host)}}
	})
	expired := newOrigin(t, nil, func(s *httptest.Server) {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{issue(t, time.Now().Add(-time.Hour), host)}}
	})
	misnamed := newOrigin(t, nil, func(s *httptest.Server) {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{issue(t, time.Now().Add(time.Hour), "somebody.else.test")}}
	})
	demanding := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(407) })
	slow := newOrigin(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })

	cases := map[string]struct {
		port     uint16
		host     string
		status   int
		code     attache.Code
		contains string
	}{
		"a host that does not resolve":              {443, "nowhere.invalid", 502, attache.CodeDNSError, "does not resolve"},
		"nothing listens":                           {closedPort(t), host, 502, attache.CodeConnectionRefused, "refused the connection"},
		"an expired certificate":                    {expired.port, host, 502, attache.CodeCertificateError, "has expired"},
		"another name's certificate":                {misnamed.port, host, 502, attache.CodeCertificateError, "is for another name"},
		"an untrusted certificate":                  {untrusted.port, host, 502, attache.CodeCertificateError, "upstream.ca_file"},
		"no TLS":                                    {newPlainOrigin(t).port, host, 502, attache.CodeTLSError, "does not speak TLS"},
		"not HTTP":                                  {rawOrigin(t, "SSH-2.0-x\r\n\r\n"), host, 502, attache.CodeProtocolError, "not an HTTP response"},
		"closed without an answer":                  {rawOrigin(t, ""), host, 502, attache.CodeConnectionTerminated, "closed the connection"},
		"an answer that asks for proxy credentials": {demanding.port, host, 502, attache.CodeUpstreamProxyAuth, "answered 407"},
		"no answer in time":                         {slow.port, host, 504, attache.CodeResponseTimeout, "did not answer in time"},
		"no handshake in time":                      {silentPort(t), host, 504, attache.CodeConnectionTimeout, "did not answer in time"},
		"a private address":                         {443, "private.example.test", 403, attache.CodeDestinationRefused, "--allow-private"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			domain := host
			if c.host != host {
				domain = c.host
			}
			connection := bearer("for-it", domain)
			connection.AllowedPorts = []uint16{c.port}
			w := newWorld(t, slow, func(s *proxy.Settings) {
				s.Upstream.ResponseTimeout = time.Second
				s.Upstream.TLSTimeout = time.Second
				s.Upstream.Hosts["private.example.test"] = netip.MustParseAddr("192.168.7.7")
			}, connection)
			resp, body := get(t, w.client(), request(t, "GET", "https://"+net.JoinHostPort(c.host, portString(c.port))+"/", nil))
			if resp.StatusCode != c.status || resp.Header.Get("Attache-Error") != string(c.code) || !strings.Contains(body, c.contains) ||
				!strings.HasPrefix(resp.Header.Get("Proxy-Status"), "attache; error=") {
				t.Errorf("answer %d %v %s", resp.StatusCode, resp.Header, body)
			}
			for _, secret := range []string{"127.0.0.1", "192.168.", canary} {
				if strings.Contains(body, secret) {
					t.Errorf("the answer shows %s: %s", secret, body)
				}
			}
			if e := w.event(isRequest); e.Code != c.code || e.Status != c.status || !strings.Contains(e.Reason, c.contains) {
				t.Errorf("event %+v", e)
			}
		})
	}
}

// closedPort is one where nothing listens.
func closedPort(t testing.TB) uint16 {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return portOf(t, ln.Addr())
}

// silentPort accepts connections and says nothing.
func silentPort(t testing.TB) uint16 {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return portOf(t, ln.Addr())
}

// rawOrigin speaks TLS, reads a head, says what it is given, and closes.
func rawOrigin(t testing.TB, says string) uint16 {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{issue(t, time.Now().Add(time.Hour), host)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = io.WriteString(c, says)
			}
			_ = c.Close()
		}
	}()
	return portOf(t, ln.Addr())
}

func TestTheAddressGuard(t *testing.T) {
	up := newOrigin(t, nil)
	for _, address := range []string{
		"127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "198.18.0.1", "224.0.0.1", "255.255.255.255",
		"::1", "::", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "fe80::1", "fc00::1", "ff02::1",
	} {
		t.Run(address, func(t *testing.T) {
			w := newWorld(t, up, func(s *proxy.Settings) {
				s.Upstream.AllowPrivate = nil
				s.Upstream.Hosts[host] = netip.MustParseAddr(address)
				s.Upstream.ConnectTimeout = 2 * time.Second
			}, bearer("for-a", host))
			resp, body := get(t, w.client(), request(t, "GET", w.url("/"), nil))
			if resp.StatusCode != 403 || resp.Header.Get("Attache-Error") != string(attache.CodeDestinationRefused) {
				t.Errorf("answer %d %s", resp.StatusCode, body)
			}
			// The same for an address given as it is, in an opaque tunnel.
			literal := net.JoinHostPort(address, "443")
			conn := w.open(literal)
			s := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
			if err := s.Handshake(); err != nil {
				t.Fatal(err)
			}
			resp, body = ask(t, s, "GET / HTTP/1.1\r\nHost: "+literal+"\r\n\r\n")
			if resp.StatusCode != 403 || resp.Header.Get("Attache-Error") != string(attache.CodeDestinationRefused) {
				t.Errorf("literal: answer %d %s", resp.StatusCode, body)
			}
		})
	}
}

func TestTheProxyDoesNotCallItself(t *testing.T) {
	up := newOrigin(t, nil)
	for name, own := range map[string]string{"on its own address": "", "listening everywhere": "0.0.0.0", "listening everywhere on IPv6": "::"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, up, func(s *proxy.Settings) {
				if own != "" {
					s.Upstream.Own[0] = netip.AddrPortFrom(netip.MustParseAddr(own), s.Upstream.Own[0].Port())
				}
			})
			conn := w.open(w.addr) // although 127.0.0.0/8 is allowed
			s := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
			if err := s.Handshake(); err != nil {
				t.Fatal(err)
			}
			resp, body := ask(t, s, "GET / HTTP/1.1\r\nHost: "+w.addr+"\r\n\r\n")
			if resp.StatusCode != 403 || resp.Header.Get("Attache-Error") != string(attache.CodeProxyLoop) {
				t.Errorf("answer %d %s", resp.StatusCode, body)
			}
		})
	}
}

// Invariant 7.
func TestRevocationAndDeletionReachOpenTunnels(t *testing.T) {
	up := newOrigin(t, nil)
	t.Run("a revoked token ends an intercepted tunnel", func(t *testing.T) {
		w := newWorld(t, up, nil, bearer("for-a", host))
		client := w.client(h1)
		get(t, client, request(t, "GET", w.url("/"), nil))
		before := up.count()
		w.live.Apply(attache.Change{Deleted: true, AccessToken: &attache.AccessToken{Integration: "bot", Hash: w.hash}})
		resp, body := get(t, client, request(t, "GET", w.url("/"), nil))
		if resp.StatusCode != 407 || !resp.Close || !strings.Contains(body, "access_token_invalid") || up.count() != before {
			t.Errorf("answer %d %s", resp.StatusCode, body)
		}
	})
	t.Run("a revoked token ends an opaque tunnel", func(t *testing.T) {
		w := newWorld(t, up, nil, bearer("for-a", host))
		conn := tls.Client(w.open(up.authority(other)), &tls.Config{ServerName: other, RootCAs: testRoots(t)})
		raw := "GET / HTTP/1.1\r\nHost: " + up.authority(other) + "\r\n\r\n"
		if resp, _ := ask(t, conn, raw); resp.StatusCode != 200 {
			t.Fatal(resp.Status)
		}
		before := up.count()
		w.live.Apply(attache.Change{Deleted: true, AccessToken: &attache.AccessToken{Integration: "bot", Hash: w.hash}})
		_, _ = io.WriteString(conn, raw)
		if _, err := conn.Read(make([]byte, 1)); err == nil || up.count() != before {
			t.Error("the tunnel went on")
		}
	})
	t.Run("a deleted connection is not used again", func(t *testing.T) {
		w := newWorld(t, up, nil, bearer("for-a", host))
		client := w.client()
		get(t, client, request(t, "GET", w.url("/"), nil))
		before := up.count()
		w.live.Apply(attache.Change{Deleted: true, Connection: &attache.Connection{Integration: "bot", Name: "for-a"}})
		resp, body := get(t, client, request(t, "GET", w.url("/"), nil))
		if resp.StatusCode != 403 || !strings.Contains(body, "no_connection") || up.count() != before {
			t.Errorf("answer %d %s", resp.StatusCode, body)
		}
	})
}

func TestAClientThatDistrustsTheCAIsNoted(t *testing.T) {
	up := newOrigin(t, nil)
	w := newWorld(t, up, nil, bearer("for-a", host))
	_, err := w.client(func(tr *http.Transport) { tr.TLSClientConfig.RootCAs = testRoots(t) }).Do(request(t, "GET", w.url("/"), nil))
	if err == nil {
		t.Fatal("the client trusted us")
	}
	if e := w.event(isConnect); e.Code != attache.CodeClientTLS || !strings.Contains(e.Reason, "attache ca path") {
		t.Errorf("event %+v", e)
	}
}

func TestRequestsThatAreNotForAProxy(t *testing.T) {
	up := newOrigin(t, nil)
	w := newWorld(t, up, nil, bearer("for-a", host))
	for name, c := range map[string]struct {
		raw    string
		status int
		says   string
	}{
		"a path":               {"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 400, "This is a proxy"},
		"an https URL":         {"GET https://" + up.authority(host) + "/ HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + w.authorization() + "\r\n\r\n", 400, "send CONNECT"},
		"CONNECT to no port 0": {"CONNECT x.example.test:0 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + w.authorization() + "\r\n\r\n", 400, "bad_target"},
		"CONNECT to an odd IP": {"CONNECT 0x7f.1:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + w.authorization() + "\r\n\r\n", 400, "bad_target"},
		"a head of 192 KB":     {"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 192<<10) + "\r\n\r\n", 431, ""},
	} {
		t.Run(name, func(t *testing.T) {
			resp, body := ask(t, w.dial(), c.raw)
			if resp.StatusCode != c.status || !strings.Contains(body, c.says) {
				t.Errorf("answer %d %s", resp.StatusCode, body)
			}
		})
	}
}

// Where a connection covers the host on other ports alone, a tunnel is open before it is
// known whether it carries clear HTTP. What goes wrong then is said inside.
func TestAnotherPortThatCannotBeReachedIsToldInside(t *testing.T) {
	up := newOrigin(t, nil)
	ln := loopback(t)
	dead := portOf(t, ln.Addr())
	_ = ln.Close()
	w := newWorld(t, up, nil, bearer("for-a", host))
	url := "https://" + net.JoinHostPort(host, portString(dead)) + "/"
	for name, client := range map[string]*http.Client{"h1": w.client(h1), "h2": w.client()} {
		resp, body := get(t, client, request(t, "GET", url, nil))
		if resp.StatusCode != 502 || resp.Header.Get("Attache-Error") != "connection_refused" {
			t.Errorf("%s: answer %d %q", name, resp.StatusCode, body)
		}
		client.CloseIdleConnections()
	}
	if e := w.event(isConnect); e.Code != attache.CodeConnectionRefused {
		t.Errorf("event %+v", e)
	}
}
