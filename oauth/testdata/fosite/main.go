// Fosite is an authorization server on loopback, made with the library of that
// name, with one page where people sign in. Its settings are one line of JSON on
// stdin, and it ends when stdin does. It says where it is on a line that begins
// with "issuer".
package main

import (
	"bufio"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v3"
	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/storage"
	"golang.org/x/crypto/bcrypt"
)

type settings struct {
	Certificate string // PEM
	Key         string // PEM
	Life        int    // of access tokens, in seconds
	Clients     []client
}

// client is the metadata of RFC 7591.
type client struct {
	ID            string              `json:"client_id"`
	Secret        string              `json:"client_secret"`
	Auth          string              `json:"token_endpoint_auth_method"`
	Algorithm     string              `json:"token_endpoint_auth_signing_alg"`
	Keys          *jose.JSONWebKeySet `json:"jwks"`
	RedirectURIs  []string            `json:"redirect_uris"`
	GrantTypes    []string            `json:"grant_types"`
	ResponseTypes []string            `json:"response_types"`
	Scope         string              `json:"scope"`
}

func main() {
	input := bufio.NewReader(os.Stdin)
	line, err := input.ReadBytes('\n')
	if err != nil {
		log.Fatal(err)
	}
	var s settings
	if err := json.Unmarshal(line, &s); err != nil {
		log.Fatal(err)
	}
	go func() {
		if err := serve(s); err != nil {
			log.Fatal(err)
		}
	}()
	if _, err := io.Copy(io.Discard, input); err != nil {
		log.Fatal(err)
	}
}

func serve(s settings) error {
	certificate, err := tls.X509KeyPair([]byte(s.Certificate), []byte(s.Key))
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	issuer := "https://" + listener.Addr().String()
	handler, err := newServer(issuer, s)
	if err != nil {
		return err
	}
	fmt.Println("issuer", issuer)
	server := &http.Server{Handler: handler, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}}
	return server.ServeTLS(listener, "", "")
}

type server struct {
	issuer   string
	provider fosite.OAuth2Provider
}

func newServer(issuer string, s settings) (http.Handler, error) {
	store := storage.NewMemoryStore()
	for _, c := range s.Clients {
		hash, err := bcrypt.GenerateFromPassword([]byte(c.Secret), bcrypt.MinCost)
		if err != nil {
			return nil, err
		}
		store.Clients[c.ID] = &fosite.DefaultOpenIDConnectClient{
			DefaultClient: &fosite.DefaultClient{
				ID:            c.ID,
				Secret:        hash,
				RedirectURIs:  c.RedirectURIs,
				GrantTypes:    c.GrantTypes,
				ResponseTypes: c.ResponseTypes,
				Scopes:        strings.Fields(c.Scope),
				Public:        c.Auth == "none",
			},
			JSONWebKeys:                       c.Keys,
			TokenEndpointAuthMethod:           c.Auth,
			TokenEndpointAuthSigningAlgorithm: c.Algorithm,
		}
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	config := &fosite.Config{
		AccessTokenLifespan: time.Duration(s.Life) * time.Second,
		GlobalSecret:        key,
		EnforcePKCE:         true,
		TokenURL:            issuer + "/token",
	}
	o := &server{issuer, compose.Compose(config, store, compose.NewOAuth2HMACStrategy(config),
		compose.OAuth2AuthorizeExplicitFactory,
		compose.OAuth2ClientCredentialsGrantFactory,
		compose.OAuth2RefreshTokenGrantFactory,
		compose.OAuth2TokenIntrospectionFactory,
		compose.OAuth2TokenRevocationFactory,
		compose.OAuth2PKCEFactory,
	)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", o.metadata)
	mux.HandleFunc("/authorize", o.authorize)
	mux.HandleFunc("POST /token", o.token)
	mux.HandleFunc("POST /introspect", o.introspect)
	mux.HandleFunc("POST /revoke", o.revoke)
	return mux, nil
}

func (o *server) metadata(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"issuer":                                o.issuer,
		"authorization_endpoint":                o.issuer + "/authorize",
		"token_endpoint":                        o.issuer + "/token",
		"revocation_endpoint":                   o.issuer + "/revoke",
		"response_types_supported":              []string{"code"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post", "private_key_jwt", "none"},
	})
}

var page = template.Must(template.New("").Parse(`<!DOCTYPE html>
<title>Sign in</title>
<p>{{.Client}} asks for: {{.Scopes}}
<form method="post" action="{{.Here}}">
	<input type="text" name="login" required> <input type="password" name="password" required>
	<button type="submit">Sign in and allow</button>
</form>
<a href="{{.Here}}&amp;cancel=yes">Cancel</a>
`))

// authorize shows the page, and takes what is posted from it. Everybody who gives
// a name and a password is let in.
func (o *server) authorize(w http.ResponseWriter, r *http.Request) {
	request, err := o.provider.NewAuthorizeRequest(r.Context(), r)
	switch {
	case err != nil:
		o.provider.WriteAuthorizeError(r.Context(), w, request, err)
		return
	case r.FormValue("cancel") != "":
		o.provider.WriteAuthorizeError(r.Context(), w, request, fosite.ErrAccessDenied)
		return
	case r.PostFormValue("login") == "" || r.PostFormValue("password") == "":
		_ = page.Execute(w, map[string]string{
			"Client": request.GetClient().GetID(),
			"Scopes": strings.Join(request.GetRequestedScopes(), ", "),
			"Here":   "?" + r.URL.RawQuery,
		})
		return
	}
	for _, scope := range request.GetRequestedScopes() {
		request.GrantScope(scope)
	}
	answer, err := o.provider.NewAuthorizeResponse(r.Context(), request, &fosite.DefaultSession{Subject: r.PostFormValue("login")})
	if err != nil {
		o.provider.WriteAuthorizeError(r.Context(), w, request, err)
		return
	}
	o.provider.WriteAuthorizeResponse(r.Context(), w, request, answer)
}

func (o *server) token(w http.ResponseWriter, r *http.Request) {
	request, err := o.provider.NewAccessRequest(r.Context(), r, new(fosite.DefaultSession))
	if err != nil {
		o.provider.WriteAccessError(r.Context(), w, request, err)
		return
	}
	if request.GetGrantTypes().ExactOne("client_credentials") {
		for _, scope := range request.GetRequestedScopes() {
			request.GrantScope(scope)
		}
	}
	answer, err := o.provider.NewAccessResponse(r.Context(), request)
	if err != nil {
		o.provider.WriteAccessError(r.Context(), w, request, err)
		return
	}
	o.provider.WriteAccessResponse(r.Context(), w, request, answer)
}

func (o *server) introspect(w http.ResponseWriter, r *http.Request) {
	answer, err := o.provider.NewIntrospectionRequest(r.Context(), r, new(fosite.DefaultSession))
	if err != nil {
		o.provider.WriteIntrospectionError(r.Context(), w, err)
		return
	}
	o.provider.WriteIntrospectionResponse(r.Context(), w, answer)
}

func (o *server) revoke(w http.ResponseWriter, r *http.Request) {
	o.provider.WriteRevocationResponse(r.Context(), w, o.provider.NewRevocationRequest(r.Context(), r))
}
