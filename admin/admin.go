// Package admin is the REST API and the web UI: integrations, their access
// tokens, connections and OAuth clients, the authorization of connections, admin
// tokens, the CA, what would happen to a request, what happened to requests, and
// the state of the server.
//
// An [API] asks every request for an admin token, and the UI for a session that
// was begun with one. The one way around it is a visible word, [API.Trusted], for
// a listener that only the administrator can reach: a Unix socket with mode 0600,
// or the process itself. Beside them only a browser that comes back from an OAuth
// provider is let in, by the state that it brings.
//
// Secrets come in and never go out. A request's secret fields decode into
// [secret.Text], which every encoder redacts; an error names fields and rules
// and never repeats what was sent. The two exceptions are the answers that make
// an access token or an admin token, which hold it once. A connection that is
// exported leaves encrypted, for whom the administrator says.
package admin

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"attache"
	"attache/policy"
)

// IntegrationStore keeps the integrations.
type IntegrationStore interface {
	CreateIntegration(ctx context.Context, in attache.Integration) error
	Integrations(ctx context.Context) ([]attache.Integration, error)
	DeleteIntegration(ctx context.Context, name string) error
}

// AccessTokenStore keeps what clients present to the proxy.
type AccessTokenStore interface {
	CreateAccessToken(ctx context.Context, t attache.AccessToken) error
	AccessTokens(ctx context.Context, integration string) ([]attache.AccessToken, error)
	DeleteAccessToken(ctx context.Context, integration, id string) error
}

// AdminTokenStore keeps what administrators present to this API.
type AdminTokenStore interface {
	CreateAdminToken(ctx context.Context, t attache.AdminToken) error
	AdminTokens(ctx context.Context) ([]attache.AdminToken, error)
	AdminToken(ctx context.Context, hash attache.TokenHash) (attache.AdminToken, error)
	DeleteAdminToken(ctx context.Context, id string) error
}

// ConnectionStore keeps connections.
type ConnectionStore interface {
	CreateConnection(ctx context.Context, c attache.Connection) error
	Connection(ctx context.Context, integration, name string) (attache.Connection, error)
	// Connections is a page of an integration's connections, by name, from the
	// first name after the given one, and whether there are more.
	Connections(ctx context.Context, integration, after string, limit int) ([]attache.Connection, bool, error)
	UpdateConnection(ctx context.Context, integration, name string, change func(*attache.Connection) error) error
	// DeleteConnection returns what it deleted.
	DeleteConnection(ctx context.Context, integration, name string) (attache.Connection, error)
}

// OAuthClientStore keeps registrations at OAuth providers.
type OAuthClientStore interface {
	CreateOAuthClient(ctx context.Context, c attache.OAuthClient) error
	OAuthClients(ctx context.Context, integration string) ([]attache.OAuthClient, error)
	OAuthClient(ctx context.Context, integration, name string) (attache.OAuthClient, error)
	UpdateOAuthClient(ctx context.Context, integration, name string, change func(*attache.OAuthClient) error) error
	// DeleteOAuthClient fails with [attache.ErrReferenced], and the names of those
	// connections, while connections use the client.
	DeleteOAuthClient(ctx context.Context, integration, name string) error
}

// Store is all that the API keeps and changes. Its errors wrap
// [attache.ErrNotFound], [attache.ErrExists] and [attache.ErrReferenced].
type Store interface {
	IntegrationStore
	AccessTokenStore
	AdminTokenStore
	ConnectionStore
	OAuthClientStore
}

// Authority is the CA that clients trust.
type Authority interface {
	// Certificates are those that clients should trust, the signing one first.
	Certificates(ctx context.Context) ([]*x509.Certificate, error)
	// Rotate makes a new signing certificate; the one before stays trusted.
	Rotate(ctx context.Context) error
	// Drop forgets a certificate, named by the SHA-256 of its DER form, that does
	// not sign; [attache.ErrNotFound] where there is none.
	Drop(ctx context.Context, fingerprint [sha256.Size]byte) error
}

// Instance is what the running server says of itself.
type Instance struct {
	Version   string    // of the program
	StartedAt time.Time // of the process; uptime is counted from it
	DataDir   string
	// Addresses, host:port, as the listeners have them; empty where none listens.
	ProxyAddress   string
	AdminAddress   string
	MetricsAddress string
	ProxyTLS       bool // clients reach the proxy through TLS
}

// Options are what an [API] works on and with. Store, Events, Authority, Index and
// Logger are needed.
type Options struct {
	Store     Store
	Events    EventSource // made by EventsFrom
	Authority Authority
	// Index is the policy in force, which explanations are made from.
	Index *policy.Live
	// Unmatched is what the proxy does with a CONNECT that no connection covers:
	// attache.Tunnel, which empty means too, or attache.Deny.
	Unmatched attache.Action
	Instance  Instance
	OAuth     OAuthOptions
	// PublicURL is where browsers reach the API through a reverse proxy, scheme, host
	// and port, such as https://attache.example.com: its host is one of Hosts, and
	// pages from there are the UI's own, whatever Host the reverse proxy sends. Empty:
	// there is none.
	PublicURL string
	// Hosts are names that the Host header may have on a loopback listener,
	// beside localhost and IP addresses: those under which a reverse proxy on the
	// same machine is reached. Without a port; case does not matter.
	Hosts []string
	// Done ends the event streams when it is closed, as the server begins to shut
	// down. Nil: they end with their clients.
	Done <-chan struct{}
	// Later does what an answer does not wait for; the task's context ends before the
	// server does. It must not block. Nil: answers wait, for some seconds.
	Later func(task func(context.Context))
	// Logger gets one record for each change and for each failed authentication,
	// and the causes of 500s.
	Logger *slog.Logger
}

// API serves the REST API, below /api, and the web UI. It is an [http.Handler]
// that asks for an admin token. It is safe for concurrent use. Timeouts and
// header limits are the server's; event streams replace its write timeout by
// their own.
type API struct {
	Options
	mux      *http.ServeMux
	document func() ([]byte, error) // OpenAPI, in YAML
	cross    *http.CrossOriginProtection
	attempts *rate.Limiter // failed ones
	streams  chan struct{} // one element for each open event stream
	ui       *ui

	stretching chan struct{} // one element while a passphrase is stretched
}

const (
	attemptsPerSecond = 1
	attemptsAtOnce    = 20
	maxStreams        = 64
)

// New makes the API. It refuses a host that no Host header could match, and a
// public URL that no page could come from.
func New(o Options) (*API, error) {
	for _, h := range o.Hosts {
		if h == "" || strings.ContainsAny(h, ":/ ") {
			return nil, fmt.Errorf("allowed host %q: give a name alone, without scheme, port or path", h)
		}
	}
	a := &API{
		Options:  o,
		mux:      http.NewServeMux(),
		cross:    http.NewCrossOriginProtection(),
		attempts: rate.NewLimiter(attemptsPerSecond, attemptsAtOnce),
		streams:  make(chan struct{}, maxStreams),

		stretching: make(chan struct{}, 1),
	}
	if err := a.trustPublicURL(); err != nil {
		return nil, err
	}
	a.routes()
	var err error
	if a.ui, err = newUI(a); err != nil {
		return nil, err
	}
	return a, nil
}

// ServeHTTP answers a request of the API that has an admin token, and serves the
// web UI, which has a sign-in of its own.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	if !forAPI(r) {
		a.ui.serve(w, r)
		return
	}
	if f := a.checkOrigin(r); f != nil {
		f.write(w)
		return
	}
	c, f := a.authenticate(r)
	if f != nil {
		f.log(r.Context(), a.Logger)
		f.write(w)
		return
	}
	a.serve(w, r, c)
}

// Trusted is the same API without a token, for whoever reaches it may do
// everything. It is for a Unix socket that only its owner can open, and for
// calls inside the process.
func (a *API) Trusted() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header())
		a.serve(w, r, local)
	})
}

// forAPI reports whether r is for the API rather than for the UI.
func forAPI(r *http.Request) bool {
	return strings.HasPrefix(path.Clean(r.URL.Path)+"/", "/api/")
}

// OpenAPI is the API's description, OpenAPI 3.1 in YAML.
func (a *API) OpenAPI() ([]byte, error) { return a.document() }
