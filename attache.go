// Package attache is the domain: who calls (integrations and their access
// tokens), what they may use (connections), what was decided about a request
// and what became of it (targets, decisions, events), and the error codes that
// the outside sees.
//
// Every other package speaks in these types. There is no I/O here and no rule:
// rules about names and domains are in package policy, which is also the only
// place that makes an [AllowedDomain] or a [HeaderName] from what somebody typed.
package attache

import (
	"errors"
	"time"

	"attache/secret"
)

// Errors that callers branch on. Wrap them with what was looked for:
// fmt.Errorf("connection %q: %w", name, ErrNotFound).
var (
	// ErrNotFound: nothing has that name. The API answers 404.
	ErrNotFound = errors.New("not found")
	// ErrExists: the name is taken. The API answers 409.
	ErrExists = errors.New("already exists")
	// ErrReferenced: something else needs it. The API answers 409.
	ErrReferenced = errors.New("still used")
	// ErrReplayed: it was done once and must not be done again. The API answers 409.
	ErrReplayed = errors.New("imported before")
)

// FieldError says what is wrong with one value that somebody gave us: which
// field, which rule it breaks, and what to do. It never holds the value, which
// may be a secret. The API answers 422 with it.
type FieldError struct {
	Field  string // as named in the API and the config file, "allowed_domain"
	Rule   string // the rule, as a clause: "is a wildcard over a public suffix"
	Remedy string // what to do: "name a domain below it, such as *.example.com"
}

// Error joins the three: "allowed_domain is a wildcard …: name a domain …".
func (e *FieldError) Error() string {
	if e.Remedy == "" {
		return e.Field + " " + e.Rule
	}
	return e.Field + " " + e.Rule + ": " + e.Remedy
}

// Integration is who calls: a bot, a script, a team. It owns connections and
// access tokens; they go when it goes.
type Integration struct {
	Name      string
	CreatedAt time.Time
}

// ConnectionType says what a connection stores and which header carries it.
type ConnectionType string

// The types of connections.
const (
	APIKey      ConnectionType = "api_key"
	BasicAuth   ConnectionType = "basic_auth"
	BearerToken ConnectionType = "bearer_token"
	OAuth       ConnectionType = "oauth"
)

// AllowedDomain is a host name, or "*." and a host name, in canonical form:
// lower case, A-labels, no trailing dot. policy.ParseAllowedDomain makes one.
type AllowedDomain string

// HeaderName is a header that an API key may be sent in, as the administrator
// spelled it. policy.ParseHeaderName makes one.
type HeaderName string

// Connection is a named credential and the domain where it may be used. Its
// integration, name, type, allowed domain, ports and header never change.
type Connection struct {
	Integration   string
	Name          string
	Type          ConnectionType
	AllowedDomain AllowedDomain
	AllowedPorts  []uint16   // ascending, at least one
	HeaderName    HeaderName // with APIKey; empty otherwise
	StripCookies  bool       // remove the client's Cookie header too
	OAuthClient   string     // with OAuth: name of the integration's client that gets the tokens
	Subdomain     string     // with OAuth: what {subdomain} in the client's URLs stands for
	Scope         string     // with OAuth: asked for; empty: the client's default scopes
	Grant         *Grant     // with OAuth: what the provider gave; nil before it was authorized
	Credential    Credential
	CreatedAt     time.Time
	UpdatedAt     time.Time // when the credential was last replaced
}

// Credential is what a connection keeps secret. Which fields are set follows
// from the connection's type.
type Credential struct {
	APIKey   secret.Text // api_key
	Username secret.Text // basic_auth
	Password secret.Text // basic_auth
	Token    secret.Text // bearer_token
}

// Header is the field that carries the connection's credential upstream. The
// value is empty when there is no credential to send, and then nothing may be
// sent at all.
func (c *Connection) Header() (name string, value secret.Text) {
	switch c.Type {
	case APIKey:
		return string(c.HeaderName), c.Credential.APIKey
	case BasicAuth:
		if c.Credential.Username.IsZero() && c.Credential.Password.IsZero() {
			return "Authorization", secret.Text{}
		}
		return "Authorization", secret.BasicAuth(c.Credential.Username, c.Credential.Password)
	default:
		token := c.Credential.Token
		if c.Type == OAuth && c.Grant != nil {
			token = c.Grant.AccessToken
		}
		if token.IsZero() {
			return "Authorization", secret.Text{}
		}
		return "Authorization", secret.Concat(secret.New("Bearer "), token)
	}
}

// Change is one thing that was committed to the store, for those who keep a
// view of it. Exactly one of the pointers is set. With Deleted, only the fields
// that identify the thing are sure to be there: integration and name of a
// connection or an OAuth client, integration, ID and hash of an access token. A
// deleted integration takes everything it owns with it, without a Change for each.
type Change struct {
	Deleted     bool
	Integration *Integration
	AccessToken *AccessToken
	OAuthClient *OAuthClient
	Connection  *Connection
}
