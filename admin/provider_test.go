package admin_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"attache"
	"attache/admin"
	"attache/client"
	"attache/oauth"
)

const (
	issuer      = "https://example.com/login"
	callbackURL = "https://attache.example.com/oauth/callback"
)

// provider is an authorization server at https://example.com, over TLS. Each of
// its tokens, and what it says of an error, has the middle of the canary in it.
type provider struct {
	t      testing.TB
	server *httptest.Server

	mu      sync.Mutex // guards what follows
	count   int        // tokens made
	codes   map[string]url.Values
	script  []http.HandlerFunc // for the next requests of the token and device URLs, one each
	revoked []string           // tokens
	outage  bool
	revoke  http.HandlerFunc // what it does when it is told; nil: it takes note
}

func newProvider(t testing.TB) *provider {
	p := &provider{t: t, codes: map[string]url.Values{}}
	p.server = httptest.NewUnstartedServer(p)
	p.server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	p.server.StartTLS()
	t.Cleanup(p.server.Close)
	return p
}

// endpoint reaches the provider, and nobody else.
func (p *provider) endpoint() *oauth.Endpoint {
	roots := x509.NewCertPool()
	roots.AddCert(p.server.Certificate())
	return oauth.NewEndpoint(oauth.EndpointOptions{
		Roots: roots,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, p.server.Listener.Addr().String())
		},
	})
}

// next scripts the answers to the next requests for a token.
func (p *provider) next(h ...http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.script = append(p.script, h...)
}

func (p *provider) fails(outage bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outage = outage
}

func (p *provider) revokes(h http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.revoke = h
}

func (p *provider) revocations() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.revoked)
}

// consent is what a browser with a willing person makes of an authorization URL:
// the URL that it is sent back to.
func (p *provider) consent(authorizationURL string) string {
	p.t.Helper()
	u, err := url.Parse(authorizationURL)
	must(p.t, err)
	asked := u.Query()
	if u.Host != "example.com" || asked.Get("response_type") != "code" || asked.Get("client_id") != "the-client" ||
		asked.Get("code_challenge_method") != "S256" {
		p.t.Fatalf("the authorization URL is %s", authorizationURL)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	code := fmt.Sprintf("code-7b1f-%d", p.count)
	p.codes[code] = asked
	back := url.Values{"code": {code}, "state": {asked.Get("state")}, "iss": {issuer}}
	return asked.Get("redirect_uri") + "?" + back.Encode()
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	must(p.t, r.ParseForm())
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.outage {
		says(503, map[string]any{"error": "temporarily_unavailable", "error_description": "7b1f"})(w, r)
		return
	}
	if asks := r.URL.Path == "/token" || r.URL.Path == "/device"; asks && len(p.script) > 0 {
		p.script[0](w, r)
		p.script = p.script[1:]
		return
	}
	switch r.URL.Path {
	case "/.well-known/oauth-authorization-server/login":
		says(200, map[string]any{
			"issuer": issuer, "authorization_endpoint": "https://example.com/authorize", "token_endpoint": "https://example.com/token",
			"revocation_endpoint": "https://example.com/revoke", "device_authorization_endpoint": "https://example.com/device",
		})(w, r)
	case "/device":
		says(200, map[string]any{
			"device_code": "device-7b1f", "user_code": "WDJB-MJHT", "verification_uri": "https://example.com/go",
			"verification_uri_complete": "https://example.com/go?code=WDJB-MJHT", "expires_in": 600, "interval": 1,
		})(w, r)
	case "/revoke":
		if p.revoke != nil {
			p.revoke(w, r)
			return
		}
		p.revoked = append(p.revoked, r.PostFormValue("token"))
	case "/token":
		p.token(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	if r.PostFormValue("grant_type") == "authorization_code" {
		asked, ok := p.codes[r.PostFormValue("code")]
		delete(p.codes, r.PostFormValue("code"))
		proof := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		if !ok || asked.Get("redirect_uri") != r.PostFormValue("redirect_uri") ||
			asked.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(proof[:]) {
			says(400, map[string]any{"error": "invalid_grant", "error_description": "7b1f"})(w, r)
			return
		}
	}
	p.count++
	says(200, map[string]any{
		"access_token": fmt.Sprintf("access-7b1f-%d", p.count), "refresh_token": fmt.Sprintf("refresh-7b1f-%d", p.count),
		"token_type": "Bearer", "expires_in": 3600, "scope": "read",
	})(w, r)
}

func says(status int, body map[string]any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}
}

// refuses is a token endpoint that says no.
func refuses(code string) http.HandlerFunc {
	return says(400, map[string]any{"error": code, "error_description": "because of 7b1f"})
}

// oauthServer is a server that keeps grants alive at a provider. Its integration
// "bot" has the OAuth client "crm", which knows everything, and the connection
// "tickets" that uses it.
type oauthServer struct {
	*server
	provider *provider
}

func startOAuth(t testing.TB) *oauthServer {
	t.Helper()
	return startOAuthWith(t, func(*admin.Options) {})
}

func startOAuthWith(t testing.TB, change func(*admin.Options)) *oauthServer {
	t.Helper()
	p := newProvider(t)
	s := &oauthServer{provider: p}
	s.server = startWith(t, func(s *server, o *admin.Options) {
		endpoint := p.endpoint()
		keeper := oauth.NewKeeper(endpoint, s.store, oauth.KeeperOptions{})
		cancel, err := s.store.Subscribe(t.Context(), keeper.Changed)
		must(t, err)
		t.Cleanup(cancel)
		ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
		ended := make(chan error)
		go func() { ended <- keeper.Run(ctx) }()
		t.Cleanup(func() {
			stop()
			must(t, <-ended)
		})
		o.OAuth = admin.OAuthOptions{Flows: oauth.NewFlows(keeper), Keeper: keeper, Endpoint: endpoint, CallbackURL: callbackURL}
		change(o)
	})
	c := s.client()
	_, err := c.CreateIntegration(t.Context(), "bot")
	must(t, err)
	_, err = c.CreateOAuthClient(t.Context(), "bot", crm())
	must(t, err)
	_, err = c.CreateConnection(t.Context(), "bot", attache.OAuth, tickets())
	must(t, err)
	return s
}

// crm is the request for an OAuth client at the provider.
func crm() client.NewOAuthClient {
	return client.NewOAuthClient{
		Registration: client.Registration{
			Name: "crm", GrantType: attache.AuthorizationCode, ClientID: "the-client", DefaultScopes: "read write", Issuer: issuer,
		},
		ClientSecret: outgoing("secret-7b1f"),
	}
}

// tickets is the request for a connection that uses it.
func tickets() client.NewConnection {
	return client.NewConnection{Name: "tickets", AllowedDomain: "api.example.com", OAuthRequest: client.OAuthRequest{OAuthClient: "crm"}}
}

// begin begins an authorization that ends on loopback.
func (s *oauthServer) begin(c *client.Client) client.Authorization {
	s.t.Helper()
	begun, err := c.Authorize(s.t.Context(), "bot", "tickets", client.Authorize{Flow: client.CodeFlow, RedirectURL: "http://127.0.0.1:49152/back"})
	must(s.t, err)
	return begun
}

// shown is the connection "tickets".
func (s *oauthServer) shown() client.Connection {
	s.t.Helper()
	c, err := s.client().Connection(s.t.Context(), "bot", attache.OAuth, "tickets")
	must(s.t, err)
	return c
}

// eventually waits until something holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(10 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("it never came to this: " + what)
		}
	}
}
