package proxy_test

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"attache"
	"attache/secret"
)

func portString(p uint16) string { return strconv.Itoa(int(p)) }

// get sends a request and returns the answer with its body read.
func get(t testing.TB, c *http.Client, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := c.Do(r)
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

func request(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEachTypeIsInjectedAndNothingElseOfTheClients(t *testing.T) {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("üser:"+canary))
	types := map[string]struct {
		connection    attache.Connection
		header, value string
	}{
		"an API key goes into the header it names": {
			attache.Connection{Type: attache.APIKey, HeaderName: "X-Custom-Key", Credential: attache.Credential{APIKey: secret.New(canary)}},
			"X-Custom-Key", canary,
		},
		"an API key may go into Authorization as it is": {
			attache.Connection{Type: attache.APIKey, HeaderName: "Authorization", Credential: attache.Credential{APIKey: secret.New("Token " + canary)}},
			"Authorization", "Token " + canary,
		},
		"basic auth is UTF-8": {
			attache.Connection{Type: attache.BasicAuth, Credential: attache.Credential{Username: secret.New("üser"), Password: secret.New(canary)}},
			"Authorization", basic,
		},
		"a bearer token": {
			attache.Connection{Type: attache.BearerToken, Credential: attache.Credential{Token: secret.New(canary)}},
			"Authorization", "Bearer " + canary,
		},
	}
	for name, c := range types {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
			t.Run(name+" over "+protocol, func(t *testing.T) {
				up := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
				c.connection.Name, c.connection.AllowedDomain = "conn", host
				keyed := attache.Connection{ // elsewhere, but its header is stripped here too
					Name: "keyed", Type: attache.APIKey, AllowedDomain: other, HeaderName: "X-Custom-Key",
					Credential: attache.Credential{APIKey: secret.New(canary)},
				}
				w := newWorld(t, up, nil, c.connection, keyed)
				client := w.client()
				if protocol == "HTTP/1.1" {
					client = w.client(h1)
				}
				r := request(t, "GET", w.url("/v1/things?key=q"), nil)
				for _, k := range []string{"Authorization", "X-Api-Key", "X_Api_Key", "x-custom_key", "Api-Key", "X-Auth-Token", "Private-Token", "Proxy-Authorization", "Attache-Connection2"} {
					r.Header[k] = []string{"the client's own"}
				}
				r.Header.Set("Attache-Connection", "conn")
				r.Header.Set("Cookie", "a=b")
				r.Header.Set("X-Harmless", "stays")
				resp, body := get(t, client, r)
				if resp.StatusCode != 200 || body != "hello" || resp.Proto != protocol {
					t.Fatalf("answer %d %q over %s", resp.StatusCode, body, resp.Proto)
				}
				got := up.last()
				if v := got.Header[c.header]; len(v) != 1 || v[0] != c.value {
					t.Errorf("the upstream saw %s %q, want %q", c.header, v, c.value)
				}
				for k, v := range got.Header {
					if strings.Contains(strings.Join(v, ""), "the client's own") {
						t.Errorf("the client's %s reached the upstream", k)
					}
				}
				if got.Header.Get("X-Harmless") != "stays" || got.Header.Get("Cookie") != "a=b" {
					t.Errorf("harmless fields are gone: %v", got.Header)
				}
				for _, k := range []string{"X-Forwarded-For", "Via", "Forwarded", "Accept-Encoding", "Attache-Connection"} {
					if got.Header[k] != nil {
						t.Errorf("%s was added: %q", k, got.Header[k])
					}
				}
				if got.Host != up.authority(host) || got.URL.RawQuery != "key=q" {
					t.Errorf("the upstream saw %s %s", got.Host, got.URL)
				}
				e := w.event(isRequest)
				if e.Connection != "conn" || e.Integration != "bot" || e.Decision != attache.Inject || e.Status != 200 ||
					e.Path != "/v1/things" || e.Method != "GET" || e.BytesOut != 5 || e.Duration <= 0 || e.Tunnel == "" ||
					e.Target != "https://"+up.authority(host) {
					t.Errorf("event %+v", e)
				}
			})
		}
	}
}

// Invariant 1.
func TestACredentialGoesOnlyWhereItsConnectionAllowsAndForItsOwner(t *testing.T) {
	up, elsewhere := newOrigin(t, nil), newOrigin(t, nil)
	w := newWorld(t, up, nil, bearer("for-a", host))
	opaque := func(tr *http.Transport) { tr.TLSClientConfig.RootCAs = testRoots(t) }
	t.Run("not to another port", func(t *testing.T) {
		get(t, w.client(opaque), request(t, "GET", "https://"+elsewhere.authority(host)+"/", nil))
		if v := elsewhere.last().Header["Authorization"]; v != nil {
			t.Errorf("the other port saw %q", v)
		}
	})
	t.Run("not below or beside an exact host", func(t *testing.T) {
		get(t, w.client(opaque), request(t, "GET", "https://"+up.authority(other)+"/", nil))
		if v := up.last().Header["Authorization"]; v != nil {
			t.Errorf("another host saw %q", v)
		}
	})
	t.Run("not for another integration", func(t *testing.T) {
		token, _ := w.addToken("team", time.Time{})
		u := w.proxyURL()
		u.User = url.UserPassword("team", token)
		client := w.client(opaque, func(tr *http.Transport) { tr.Proxy = http.ProxyURL(u) })
		get(t, client, request(t, "GET", w.url("/"), nil))
		if v := up.last().Header["Authorization"]; v != nil {
			t.Errorf("another integration's request carried %q", v)
		}
	})
}

// Invariant 6.
func TestWithoutACredentialNothingIsSent(t *testing.T) {
	up := newOrigin(t, nil)
	w := newWorld(t, up, nil, attache.Connection{Name: "pending", Type: attache.OAuth, OAuthClient: "client", AllowedDomain: host})
	resp, body := get(t, w.client(), request(t, "GET", w.url("/"), nil))
	if resp.StatusCode != 503 || resp.Header.Get("Attache-Error") != string(attache.CodeCredentialUnavailable) || up.count() != 0 {
		t.Errorf("answer %d %s after %d requests", resp.StatusCode, body, up.count())
	}
	if e := w.event(isRequest); e.Decision != attache.Deny || e.Code != attache.CodeCredentialUnavailable {
		t.Errorf("event %+v", e)
	}
}

func TestCookiesGoWhereTheConnectionSaysSo(t *testing.T) {
	up := newOrigin(t, nil)
	c := bearer("for-a", host)
	c.StripCookies = true
	w := newWorld(t, up, nil, c)
	r := request(t, "GET", w.url("/"), nil)
	r.Header.Set("Cookie", "session=mine")
	get(t, w.client(), r)
	if v := up.last().Header["Cookie"]; v != nil {
		t.Errorf("the upstream saw %q", v)
	}
}

func TestTheUserAgentIsTheClients(t *testing.T) {
	up := newOrigin(t, nil)
	w := newWorld(t, up, nil, bearer("for-a", host))
	for _, agent := range []string{"bot/1.0", ""} {
		r := request(t, "GET", w.url("/"), nil)
		r.Header["User-Agent"] = []string{agent} // empty: the client sends none
		get(t, w.client(h1), r)
		if got := up.last().Header.Get("User-Agent"); got != agent {
			t.Errorf("User-Agent %q arrived as %q", agent, got)
		}
	}
}
