package admin_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"attache"
	"attache/admin"
	"attache/client"
)

const publicURL = "https://attache.example.com"

// behind puts a reverse proxy with TLS before the server, which is where
// publicURL leads, and returns a browser that goes there.
func (s *server) behind(rewrite func(*httputil.ProxyRequest)) *browser {
	s.t.Helper()
	to, err := url.Parse(s.url)
	must(s.t, err)
	front := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to) // which sets Host to that of the server
		rewrite(r)
	}})
	s.t.Cleanup(front.Close)
	roots := x509.NewCertPool()
	roots.AddCert(front.Certificate())
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, front.Listener.Addr().String())
		},
	}
	s.t.Cleanup(transport.CloseIdleConnections)
	jar, err := cookiejar.New(nil)
	must(s.t, err)
	return &browser{s.t, publicURL, &http.Client{Jar: jar, Transport: transport}}
}

func TestTheUIWorksBehindAReverseProxyAtItsPublicURL(t *testing.T) {
	for sentence, rewrite := range map[string]func(*httputil.ProxyRequest){
		"that says which host was asked for": func(r *httputil.ProxyRequest) { r.Out.Host = r.In.Host },
		"that says its own":                  func(*httputil.ProxyRequest) {},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := startOAuthWith(t, func(o *admin.Options) { o.PublicURL = publicURL })
			b := s.behind(rewrite)
			got := b.signIn(s.token(attache.RoleViewer))
			if got.status != http.StatusOK || got.title() != "Overview" || !strings.Contains(got.body, publicURL+"/oauth/callback") {
				t.Fatalf("a sign-in leads to %d %s", got.status, got.body)
			}
			if at, _ := url.Parse("http://attache.example.com"); len(b.http.Jar.Cookies(at)) > 0 {
				t.Error("the cookie would be sent without TLS")
			}
			ask := url.Values{"integration": {"bot"}, "url": {"https://api.example.com/"}}
			for browser, fetch := range map[string]string{"a browser": "same-origin", "an old browser": ""} {
				if got := b.do("POST", "/explain", ask, "Sec-Fetch-Site: "+fetch); got.status != http.StatusOK || got.title() != "Explain" {
					t.Errorf("the form of %s is answered with %d %s", browser, got.status, got.body)
				}
			}
			got = b.do("POST", "/explain", ask, "Sec-Fetch-Site: cross-site", "Origin: https://attacker.example")
			if got.status != http.StatusForbidden {
				t.Errorf("a form of another site is answered with %d", got.status)
			}

			begun, err := s.client().Authorize(t.Context(), "bot", "tickets", client.Authorize{Flow: client.CodeFlow})
			must(t, err)
			back, err := url.Parse(s.provider.consent(begun.AuthorizationURL))
			must(t, err)
			if where := back.Scheme + "://" + back.Host; where != publicURL {
				t.Errorf("the provider sends the browser to %s", where)
			}
			// Nobody is signed in there, and it is the provider's page that leads there.
			got = s.behind(rewrite).do("GET", back.RequestURI(), nil, "Sec-Fetch-Site: cross-site")
			if got.status != http.StatusOK || got.title() != "Authorized" {
				t.Errorf("the callback answers %d %s", got.status, got.body)
			}
			if state := s.shown().State; state != attache.GrantActive {
				t.Errorf("the connection is %s", state)
			}
		})
	}
}

func TestOnlyThePublicURLIsLetIn(t *testing.T) {
	s := startWith(t, func(_ *server, o *admin.Options) { o.PublicURL = publicURL })
	for host, want := range map[string]int{
		"attache.example.com": http.StatusSeeOther, "Attache.example.com:8443": http.StatusSeeOther,
		"admin.example.com": http.StatusSeeOther, "attache.example.com.attacker.example": http.StatusMisdirectedRequest,
	} {
		if got := s.raw("GET", "/", "", "Host: "+host); got.status != want {
			t.Errorf("%s is answered with %d, want %d", host, got.status, want)
		}
	}
}

func TestAPublicURLHasNoPath(t *testing.T) {
	for _, bad := range []string{"attache.example.com", publicURL + "/", publicURL + "/admin", "https://%zz"} {
		if _, err := admin.New(admin.Options{PublicURL: bad}); err == nil || !strings.HasPrefix(err.Error(), "public URL: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
