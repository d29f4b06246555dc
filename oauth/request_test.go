package oauth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"attache"
	"attache/oauth"
	"attache/secret"
)

var good = says(200, `{"access_token":"a"}`)

// sends makes one call and returns what the provider saw.
func sends(t *testing.T, c attache.OAuthClient, call func(*oauth.Client) error) (r request) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.provider.next(good)
		if err := call(w.client(c)); err != nil {
			t.Error(err)
		}
		pass(time.Minute)
		if seen := w.provider.seen(); len(seen) == 1 {
			r = seen[0]
		} else {
			t.Errorf("%d requests", len(seen))
		}
	})
	return r
}

func refresh(c *oauth.Client) error {
	_, err := c.Refresh(context.Background(), secret.New("r"))
	return err
}

func TestEveryGrantSendsItsParameters(t *testing.T) {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("the-client:secret-"+canary))
	provider := func(change func(*attache.Provider)) attache.OAuthClient {
		return client(func(c *attache.OAuthClient) { change(&c.Provider) })
	}
	ctx := context.Background()
	for sentence, c := range map[string]struct {
		client attache.OAuthClient
		call   func(*oauth.Client) error
		want   request
	}{
		"a refresh": {client(), refresh, request{path: "/token",
			header: http.Header{"Authorization": {basic}, "Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}},
			form:   url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"r"}}}},
		"a code with its verifier": {client(), func(c *oauth.Client) error {
			_, err := c.Exchange(ctx, secret.New("c"), "http://127.0.0.1:1/callback", secret.New("v"))
			return err
		}, request{path: "/token", header: http.Header{"Authorization": {basic}},
			form: url.Values{"grant_type": {"authorization_code"}, "code": {"c"}, "redirect_uri": {"http://127.0.0.1:1/callback"}, "code_verifier": {"v"}}}},
		"client credentials with the default scopes": {client(credentials), func(c *oauth.Client) error {
			_, err := c.Credentials(ctx, "")
			return err
		}, request{path: "/token", header: http.Header{"Authorization": {basic}},
			form: url.Values{"grant_type": {"client_credentials"}, "scope": {"read write"}}}},
		"scopes with the provider's separator": {client(credentials, func(c *attache.OAuthClient) { c.Provider.ScopeSeparator = "," }), func(c *oauth.Client) error {
			_, err := c.Credentials(ctx, " a  b ")
			return err
		}, request{path: "/token", form: url.Values{"grant_type": {"client_credentials"}, "scope": {"a,b"}}}},
		"the secret in the body": {provider(func(p *attache.Provider) { p.ClientAuth = attache.ClientAuthPost }), refresh, request{path: "/token",
			header: http.Header{"Authorization": nil},
			form:   url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"r"}, "client_id": {"the-client"}, "client_secret": {"secret-" + canary}}}},
		"no secret at all": {client(func(c *attache.OAuthClient) { c.ClientSecret = secret.Text{} }), refresh, request{path: "/token",
			header: http.Header{"Authorization": nil},
			form:   url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"r"}, "client_id": {"the-client"}}}},
		"an id and a secret that need encoding": {client(func(c *attache.OAuthClient) { c.ClientID, c.ClientSecret = "a:b", secret.New("c%d é") }), refresh, request{path: "/token",
			header: http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("a%3Ab:c%25d+%C3%A9"))}},
			form:   url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"r"}}}},
		"JSON": {provider(func(p *attache.Provider) { p.JSONBody = true }), refresh, request{path: "/token",
			header: http.Header{"Content-Type": {"application/json"}},
			form:   url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"r"}}}},
		"more parameters and headers": {provider(func(p *attache.Provider) {
			p.TokenParams, p.TokenHeaders = map[string]string{"tenant": "1"}, map[string]string{"X-Version": "2", "User-Agent": "else"}
			p.Audience, p.Resource = "aud", "https://example.com/api"
		}), refresh, request{path: "/token", header: http.Header{"X-Version": {"2"}, "User-Agent": {"else"}},
			form: url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"r"}, "tenant": {"1"}, "audience": {"aud"}, "resource": {"https://example.com/api"}}}},
		"a refresh URL of its own": {provider(func(p *attache.Provider) { p.RefreshURL = "https://example.com/refresh?v=1" }), refresh,
			request{path: "/refresh", form: url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"r"}}}},
		"a subdomain": {client(func(c *attache.OAuthClient) { c.TokenURL = "https://{subdomain}.example.com/{subdomain}/token" }), refresh,
			request{path: "/acme/token", form: url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"r"}}}},
		"a revocation": {provider(func(p *attache.Provider) { p.RevocationURL = "https://example.com/revoke" }), func(c *oauth.Client) error { return c.Revoke(ctx, secret.New("x")) },
			request{path: "/revoke", header: http.Header{"Authorization": {basic}}, form: url.Values{"token": {"x"}}}},
		"a poll for a device": {client(), func(c *oauth.Client) error { _, err := c.PollDevice(ctx, secret.New("d")); return err },
			request{path: "/token", form: url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {"d"}}}},
	} {
		t.Run(sentence, func(t *testing.T) {
			got := sends(t, c.client, c.call)
			if diff := cmp.Diff(c.want.form, got.form); diff != "" || got.path != c.want.path {
				t.Errorf("path %s, parameters (-want +got):\n%s", got.path, diff)
			}
			for name, want := range c.want.header {
				if diff := cmp.Diff(want, got.header[name]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
		})
	}
}

func TestAPrivateKeyProvesTheClient(t *testing.T) {
	elliptical, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rivest, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for algorithm, c := range map[string]struct {
		key    crypto.Signer
		verify func(input, signature []byte) bool
	}{
		"ES256": {elliptical, func(input, s []byte) bool {
			d := sha256.Sum256(input)
			return len(s) == 64 && ecdsa.Verify(&elliptical.PublicKey, d[:], new(big.Int).SetBytes(s[:32]), new(big.Int).SetBytes(s[32:]))
		}},
		"RS256": {rivest, func(input, s []byte) bool {
			d := sha256.Sum256(input)
			return rsa.VerifyPKCS1v15(&rivest.PublicKey, crypto.SHA256, d[:], s) == nil
		}},
		"EdDSA": {edwards, func(input, s []byte) bool { return ed25519.Verify(public, input, s) }},
	} {
		t.Run(algorithm, func(t *testing.T) {
			key, err := secret.FromPrivateKey(c.key)
			if err != nil {
				t.Fatal(err)
			}
			got := sends(t, client(func(c *attache.OAuthClient) {
				c.ClientSecret = secret.Text{}
				c.Provider.ClientAuth, c.Provider.PrivateKey = attache.ClientAuthPrivateKeyJWT, key
			}), refresh)
			if got.form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" || got.header.Get("Authorization") != "" {
				t.Errorf("the request is %v", got.form)
			}
			parts := strings.Split(got.form.Get("client_assertion"), ".")
			if len(parts) != 3 {
				t.Fatalf("%d parts", len(parts))
			}
			signature, _ := base64.RawURLEncoding.DecodeString(parts[2])
			if !c.verify([]byte(parts[0]+"."+parts[1]), signature) {
				t.Error("the signature does not verify")
			}
			var header, claims map[string]any
			decode(t, parts[0], &header)
			decode(t, parts[1], &claims)
			if id, _ := claims["jti"].(string); len(id) < 22 {
				t.Errorf("the id is %q", id)
			}
			delete(claims, "jti")
			begin := float64(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Unix())
			want := map[string]any{"iss": "the-client", "sub": "the-client", "aud": "https://example.com/token", "iat": begin, "exp": begin + 60}
			if diff := cmp.Diff(want, claims); diff != "" || header["alg"] != algorithm {
				t.Errorf("header %v, claims (-want +got):\n%s", header, diff)
			}
		})
	}
}

func decode(t *testing.T, part string, to any) {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err == nil {
		err = json.Unmarshal(b, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestACertificateProvesTheClient(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the-client"}, NotAfter: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := secret.FromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	chain := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) + private.Expose()
	got := sends(t, client(credentials, func(c *attache.OAuthClient) {
		c.ClientSecret, c.Provider.Certificate = secret.Text{}, secret.New(chain)
	}), func(c *oauth.Client) error { _, err := c.Credentials(context.Background(), ""); return err })
	if len(got.peers) != 1 || got.peers[0].Subject.CommonName != "the-client" || got.form.Get("client_id") != "the-client" {
		t.Errorf("the certificates are %v, the parameters %v", got.peers, got.form)
	}
}

func TestNothingIsSentWhereItMustNotBe(t *testing.T) {
	for sentence, c := range map[string]struct {
		options func(*world) oauth.EndpointOptions
		code    string
		unsent  bool
	}{
		"a certificate that nobody vouches for": {func(w *world) oauth.EndpointOptions {
			return oauth.EndpointOptions{DialContext: w.provider.listener.dial, Roots: x509.NewCertPool()}
		}, oauth.CodeTLS, true},
		"an address that is refused": {func(w *world) oauth.EndpointOptions {
			return oauth.EndpointOptions{Roots: w.provider.roots(), DialContext: func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: errors.New("the address is private")}
			}}
		}, oauth.CodeNetwork, true},
		"a name that does not resolve": {func(w *world) oauth.EndpointOptions {
			return oauth.EndpointOptions{Roots: w.provider.roots(), DialContext: func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "example.com", IsNotFound: true}}
			}}
		}, oauth.CodeDNS, true},
		"an address that never answers": {func(w *world) oauth.EndpointOptions {
			return oauth.EndpointOptions{Roots: w.provider.roots(), DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}}
		}, oauth.CodeTimeout, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.endpoint = oauth.NewEndpoint(c.options(w))
				begun := time.Now()
				var failed *oauth.Error
				err := refresh(w.client(client()))
				if !errors.As(err, &failed) || failed.Code != c.code || failed.Unsent != c.unsent || failed.Kind != oauth.TryLater {
					t.Errorf("%#v", err)
				}
				if took := time.Since(begun); took > 30*time.Second {
					t.Errorf("it took %v", took)
				}
				pass(time.Minute)
				if n := len(w.provider.seen()); n != 0 {
					t.Errorf("%d requests", n)
				}
			})
		})
	}
}

func TestTheAuthorizationURL(t *testing.T) {
	w := newDirectWorld(t, nil)
	c := client(func(c *attache.OAuthClient) {
		c.AuthURL = "https://{subdomain}.example.com/authorize?v=2"
		c.Provider.AuthParams = map[string]string{"access_type": "offline"}
		c.Provider.Audience, c.Provider.ScopeSeparator = "aud", ","
	})
	u, err := url.Parse(w.client(c).AuthorizationURL("", "https://attache.example/oauth/callback", "s", secret.New("verifier")))
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"v": {"2"}, "response_type": {"code"}, "client_id": {"the-client"}, "redirect_uri": {"https://attache.example/oauth/callback"},
		"state": {"s"}, "scope": {"read,write"}, "audience": {"aud"}, "access_type": {"offline"},
		"code_challenge_method": {"S256"}, "code_challenge": {"iMnq5o6zALKXGivsnlom_0F5_WYda32GHkxlV7mq7hQ"},
	}
	if diff := cmp.Diff(want, u.Query()); diff != "" || u.Host != "acme.example.com" || u.Path != "/authorize" {
		t.Errorf("%s; the query (-want +got):\n%s", u, diff)
	}
}
