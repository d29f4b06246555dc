package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The names of the provider and of the API that takes its tokens. Test servers
// have a certificate for them.
const (
	providerHost = "id.example.com"
	resourceHost = "api.example.com"
)

// provider is an OAuth provider, and an API that takes its newest access token and
// no other. Each secret that it gives away has "canary" in it.
type provider struct {
	url string

	mu        sync.Mutex        // guards what follows
	codes     map[string]string // challenge by code
	given     int               // tokens
	refresh   string            // the one that is good
	access    string            // the one that is good
	confirmed bool              // the device code
	polls     int               // of the device code
	refuse    string            // the error code of token requests; empty: none
	denies    bool              // the person says no
}

// providerKey is where a script's provider is in its values.
type providerKey struct{}

// provide starts the script's provider, which sets PROVIDER to its URL and RESOURCE_PORT
// to the port of both, UPSTREAM_CA to a file with the certificate that has to be
// trusted, and the configuration that leads there; or it changes how it is:
//
//	provider             begin
//	provider denies      people say no from now on; provider allows: they say yes
//	provider confirms    somebody types in the device code
//	provider refuses C   token requests fail with the error code C; without C, they do not
//	provider expires     the newest access token is good no more
//	provider revoked     fails unless the newest refresh token has been revoked
//	provider kept        fails if it has
func provide(ts *testscript.TestScript, _ bool, args []string) {
	p, _ := ts.Value(providerKey{}).(**provider)
	if len(args) == 0 {
		*p = startProvider(ts)
		return
	}
	(*p).mu.Lock()
	defer (*p).mu.Unlock()
	switch args[0] {
	case "denies":
		(*p).denies = true
	case "allows":
		(*p).denies = false
	case "confirms":
		(*p).confirmed = true
	case "refuses":
		(*p).refuse = strings.Join(args[1:], "")
	case "expires":
		(*p).access = ""
	case "revoked":
		if (*p).refresh != "" {
			ts.Fatalf("nobody has revoked it")
		}
	case "kept":
		if (*p).refresh == "" {
			ts.Fatalf("somebody has revoked it")
		}
	default:
		ts.Fatalf("a provider does not know how to be %s", args[0])
	}
}

func startProvider(ts *testscript.TestScript) *provider {
	p := &provider{codes: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc(providerHost+"/.well-known/oauth-authorization-server", p.metadata)
	mux.HandleFunc(providerHost+"/authorize", p.authorize)
	mux.HandleFunc("POST "+providerHost+"/device", p.device)
	mux.HandleFunc("POST "+providerHost+"/token", p.token)
	mux.HandleFunc("POST "+providerHost+"/revoke", p.revoke)
	mux.HandleFunc(resourceHost+"/", p.resource)
	s := httptest.NewTLSServer(mux)
	ts.Defer(s.Close)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	p.url = "https://" + net.JoinHostPort(providerHost, port)
	file := ts.MkAbs("provider.pem")
	ts.Check(os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	for name, value := range map[string]string{
		"PROVIDER": p.url, "RESOURCE_PORT": port, "UPSTREAM_CA": file,
		"ATTACHE_UPSTREAM_CA_FILE": file, "ATTACHE_UPSTREAM_ALLOW_PRIVATE": "127.0.0.0/8",
		"ATTACHE_UPSTREAM_HOSTS": providerHost + "=127.0.0.1," + resourceHost + "=127.0.0.1",
	} {
		ts.Setenv(name, value)
	}
	return p
}

func (p *provider) metadata(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{
		"issuer": p.url, "authorization_endpoint": p.url + "/authorize", "token_endpoint": p.url + "/token",
		"revocation_endpoint": p.url + "/revoke", "device_authorization_endpoint": p.url + "/device",
	})
}

func answer(w http.ResponseWriter, status int, fields map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(fields) // or the client is gone
}

func refuse(w http.ResponseWriter, code string) {
	answer(w, http.StatusBadRequest, map[string]any{"error": code, "error_description": "canary-description"})
}

// authorize is a person who is signed in already and decides at once.
func (p *provider) authorize(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := r.URL.Query()
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || q.Get("client_id") != "my-app" || q.Get("code_challenge_method") != "S256" || !strings.HasSuffix(back.Path, callbackPath) {
		http.Error(w, "this is no authorization request", http.StatusBadRequest)
		return
	}
	answer := url.Values{"state": q["state"], "iss": {p.url}}
	if p.denies {
		answer.Set("error", "access_denied")
	} else {
		code := fmt.Sprintf("canary-code-%d", len(p.codes)+1)
		p.codes[code] = q.Get("code_challenge")
		answer.Set("code", code)
	}
	back.RawQuery = answer.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

func (p *provider) device(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{
		"device_code": "canary-device-code", "user_code": "WDJB-MJHT", "verification_uri": p.url + "/activate",
		"verification_uri_complete": p.url + "/activate?user_code=WDJB-MJHT", "expires_in": 60, "interval": 1,
	})
}

func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	user, password, _ := r.BasicAuth()
	switch {
	case p.refuse != "":
		refuse(w, p.refuse)
		return
	case user != "my-app" || password != "canary-secret":
		refuse(w, "invalid_client")
		return
	}
	switch r.PostFormValue("grant_type") {
	case "authorization_code":
		challenge := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		code := r.PostFormValue("code")
		if p.codes[code] != base64.RawURLEncoding.EncodeToString(challenge[:]) {
			refuse(w, "invalid_grant")
			return
		}
		p.codes[code] = "" // spent
	case "refresh_token":
		if r.PostFormValue("refresh_token") != p.refresh {
			refuse(w, "invalid_grant")
			return
		}
	case "urn:ietf:params:oauth:grant-type:device_code":
		p.polls++
		switch {
		case p.polls == 1:
			refuse(w, "slow_down")
			return
		case !p.confirmed:
			refuse(w, "authorization_pending")
			return
		}
	}
	p.given++
	p.access, p.refresh = fmt.Sprintf("canary-access-%d", p.given), fmt.Sprintf("canary-refresh-%d", p.given)
	answer(w, http.StatusOK, map[string]any{
		"access_token": p.access, "refresh_token": p.refresh, "token_type": "bearer", "expires_in": 3600, "scope": "read",
	})
}

func (p *provider) revoke(_ http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.PostFormValue("token") == p.refresh {
		p.refresh, p.access = "", ""
	}
}

func (p *provider) resource(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.access == "" || r.Header.Get("Authorization") != "Bearer "+p.access {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// browse is a person's browser: it goes to a URL and where that sends it, and
// writes where it ended and what it shows there to standard output, or to the
// file that PAGE names.
func browse() {
	out := os.Stdout
	if file := os.Getenv("PAGE"); file != "" {
		f, err := os.Create(file)
		exitOn(err)
		out = f
	}
	ca, err := os.ReadFile(os.Getenv("UPSTREAM_CA"))
	exitOn(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			_, port, _ := net.SplitHostPort(address)
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
		},
	}}
	// A page that does not load leaves its address in the bar.
	ended := os.Args[1]
	c.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		ended = r.URL.String()
		return nil
	}
	resp, err := c.Get(ended)
	_, _ = fmt.Fprintln(out, ended)
	if err == nil {
		_, err = io.Copy(out, resp.Body)
	}
	if err != nil {
		_, _ = fmt.Fprintln(out, "This site can't be reached")
	}
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
