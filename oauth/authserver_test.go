package oauth_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"attache/certs"
	"attache/secret"
)

const (
	// shortLife is how long access tokens are valid, so that they are due in half
	// of it.
	shortLife = 4 * time.Second
	// patience is how long anything that must happen may take, on a busy machine.
	patience = 30 * time.Second
)

// authServer is an authorization server that others wrote: a process of its own,
// on loopback, over TLS.
type authServer struct {
	issuer  string
	roots   *x509.CertPool
	browser *http.Client
	key     *ecdsa.PrivateKey // of the client that signs assertions
}

// The clients that are registered at each server.
const (
	webClient     = "web"    // signs people in, and has a secret
	nativeClient  = "native" // signs people in, and has none
	webSecret     = "s:e/c r+e%t&" + canary
	machineSecret = "machine-" + canary
)

// registered is a client as a server wants to know it (RFC 7591, section 2).
type registered struct {
	ID            string   `json:"client_id"`
	Secret        string   `json:"client_secret,omitempty"`
	Auth          string   `json:"token_endpoint_auth_method"`
	Algorithm     string   `json:"token_endpoint_auth_signing_alg,omitempty"`
	Keys          *keySet  `json:"jwks,omitempty"`
	RedirectURIs  []string `json:"redirect_uris"`
	GrantTypes    []string `json:"grant_types"`
	ResponseTypes []string `json:"response_types"`
	Scope         string   `json:"scope"`
}

// keySet is one public key (RFC 7517).
type keySet struct {
	Keys [1]webKey `json:"keys"`
}

type webKey struct {
	Type  string `json:"kty"`
	Use   string `json:"use"`
	Curve string `json:"crv"`
	X     string `json:"x"`
	Y     string `json:"y"`
}

func newKeySet(t *testing.T, key *ecdsa.PublicKey) *keySet {
	t.Helper()
	point, err := key.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return &keySet{[1]webKey{{"EC", "sig", "P-256", encode(point[1:33]), encode(point[33:])}}}
}

// registrations are people's clients, and one for each way in which a machine
// authenticates itself, named like it.
func registrations(t *testing.T, key *ecdsa.PrivateKey, devices bool) []registered {
	t.Helper()
	grants := []string{"authorization_code", "refresh_token"}
	if devices {
		grants = append(grants, "urn:ietf:params:oauth:grant-type:device_code")
	}
	people := registered{RedirectURIs: []string{landing}, GrantTypes: grants, ResponseTypes: []string{"code"}, Scope: "offline_access read"}
	web, native := people, people
	web.ID, web.Secret, web.Auth = webClient, webSecret, "client_secret_basic"
	native.ID, native.Auth = nativeClient, "none"
	all := []registered{web, native}
	for _, auth := range []string{"client_secret_basic", "client_secret_post", "private_key_jwt"} {
		r := registered{
			ID: auth, Secret: machineSecret, Auth: auth,
			RedirectURIs: []string{}, GrantTypes: []string{"client_credentials"}, ResponseTypes: []string{}, Scope: "read",
		}
		if auth == "private_key_jwt" {
			r.Secret, r.Algorithm, r.Keys = "", "ES256", newKeySet(t, &key.PublicKey)
		}
		all = append(all, r)
	}
	return all
}

// startOIDCProvider starts the npm package oidc-provider.
func startOIDCProvider(t *testing.T) *authServer {
	t.Helper()
	node, err := filepath.Glob("testdata/oidc-provider/node_modules/node-*/bin/node")
	if err != nil || len(node) != 1 {
		t.Fatalf("Node 24 is missing, of the npm packages in testdata/oidc-provider: make test installs it (Debian's package npm): %v", err)
	}
	return startAuthServer(t, true, node[0], "testdata/oidc-provider/server.js")
}

// startFosite starts a server on the Go module github.com/ory/fosite.
func startFosite(t *testing.T) *authServer {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "fosite")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-C", "testdata/fosite", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("testdata/fosite does not build: make test downloads what it needs: %v\n%s", err, out)
	}
	return startAuthServer(t, false, binary)
}

// startAuthServer starts a program that takes its settings from stdin and ends
// with it. devices says whether it gives device codes.
func startAuthServer(t *testing.T, devices bool, program string, args ...string) *authServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	roots, certificate, tlsKey := loopbackCertificate(t)
	settings, err := json.Marshal(struct {
		Certificate string       `json:"certificate"`
		Key         string       `json:"key"`
		Life        int          `json:"life"`
		Clients     []registered `json:"clients"`
	}{certificate, tlsKey, int(shortLife.Seconds()), registrations(t, key, devices)})
	if err != nil {
		t.Fatal(err)
	}
	var said transcript
	server := exec.Command(program, args...)
	server.Stdout, server.Stderr = &said, &said
	stdin, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait() // how a killed process ended says nothing
		if t.Failed() {
			t.Logf("%s said:\n%s", program, said.String())
		}
	})
	if _, err := fmt.Fprintf(stdin, "%s\n", settings); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
	s := &authServer{roots: roots, key: key, browser: &http.Client{Transport: transport, Timeout: patience}}
	announced := regexp.MustCompile(`(?m)^issuer (\S+)$`)
	eventually(t, "the server says where it is", func() bool {
		if found := announced.FindStringSubmatch(said.String()); found != nil {
			s.issuer = found[1]
		}
		return s.issuer != ""
	})
	return s
}

// loopbackCertificate makes a certificate for 127.0.0.1, in PEM with its key.
func loopbackCertificate(t *testing.T) (roots *x509.CertPool, certificate, key string) {
	t.Helper()
	authority, err := certs.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	minter := certs.NewMinter(certs.MinterOptions{})
	minter.Use(authority)
	leaf, err := minter.Leaf(t.Context(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(authority.Certificate())
	certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Certificate[0]}))
	return roots, certificate, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// accepts asks the server whether a token is good (RFC 7662), as the API that the
// token is for would.
func (s *authServer) accepts(t *testing.T, token secret.Text) bool {
	t.Helper()
	var answer struct {
		Active bool `json:"active"`
	}
	r := s.request(t, s.issuer+"/introspect", url.Values{"token": {token.Expose()}})
	r.SetBasicAuth(webClient, url.QueryEscape(webSecret))
	if status := s.ask(t, r, &answer); status != http.StatusOK {
		t.Fatalf("the server does not say whether a token is good: %d", status)
	}
	return answer.Active
}

// request is a post to the server by hand.
func (s *authServer) request(t *testing.T, to string, form url.Values) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, to, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

func (s *authServer) ask(t *testing.T, r *http.Request, answer any) (status int) {
	t.Helper()
	resp, err := s.browser.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, answer); err != nil {
		t.Fatalf("%s: %v\n%s", resp.Status, err, body)
	}
	return resp.StatusCode
}

// transcript is what a program has written so far.
type transcript struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (s *transcript) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// eventually waits until what is awaited has happened.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("it does not happen that %s", what)
		}
	}
}
