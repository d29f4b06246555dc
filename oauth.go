package attache

import (
	"time"

	"attache/secret"
)

// GrantType is how tokens are got from a provider (RFC 6749, section 1.3).
type GrantType string

// The grant types of OAuth clients.
const (
	AuthorizationCode GrantType = "authorization_code"
	ClientCredentials GrantType = "client_credentials"
)

// ClientAuth is how a client proves itself at the token endpoint.
type ClientAuth string

// The ways of client authentication.
const (
	ClientAuthBasic         ClientAuth = "basic"           // RFC 6749, section 2.3.1, in the header
	ClientAuthPost          ClientAuth = "post"            // RFC 6749, section 2.3.1, in the body
	ClientAuthNone          ClientAuth = "none"            // a public client
	ClientAuthPrivateKeyJWT ClientAuth = "private_key_jwt" // RFC 7523, section 2.2
)

// OAuthClient is our registration at a provider. After creation only the client id
// changes, and what the client proves itself with: the client secret, and the
// provider's PrivateKey and Certificate. URLs may contain {subdomain}.
type OAuthClient struct {
	Integration   string
	Name          string
	GrantType     GrantType
	ClientID      string
	ClientSecret  secret.Text
	AuthURL       string // authorization_code only
	TokenURL      string
	DefaultScopes string // separated by spaces
	Provider      Provider
	CreatedAt     time.Time
	UpdatedAt     time.Time
}

// Provider is how one provider differs from RFC 6749. The zero Provider does not.
type Provider struct {
	Issuer         string            // for discovery, and checked in answers (RFC 9207)
	RefreshURL     string            // where refresh tokens are spent; empty: the token URL
	RevocationURL  string            // RFC 7009; empty: none
	DeviceURL      string            // RFC 8628; empty: none
	ClientAuth     ClientAuth        // empty: basic, or none without a client secret
	PrivateKey     secret.Text       // PKCS #8 PEM, for private_key_jwt
	NoPKCE         bool              // the provider fails on PKCE (RFC 7636)
	ScopeSeparator string            // empty: a space
	AuthParams     map[string]string // added to the authorization URL
	TokenParams    map[string]string // added to token requests
	TokenHeaders   map[string]string // added to token requests
	JSONBody       bool              // token requests are JSON, not a form
	Audience       string
	Resource       string        // RFC 8707
	Certificate    secret.Text   // PEM certificate chain and key, for TLS client authentication (RFC 8705)
	Keepalive      time.Duration // an idle grant is refreshed at least so often; zero: 7 days
}

// GrantState is where in its life an OAuth connection's grant is.
type GrantState string

// The states.
const (
	GrantPending     GrantState = "pending"               // nobody has authorized it yet
	GrantActive      GrantState = "active"                // the access token may be used
	GrantRefreshing  GrantState = "refreshing"            // a refresh is under way; what is still valid may be used
	GrantRetrying    GrantState = "retrying"              // the last refresh failed in a way that may pass
	GrantConfigError GrantState = "config_error"          // the provider refuses our client; an edit is needed
	GrantNeedsReauth GrantState = "needs_reauthorization" // the provider refuses the grant; a person is needed
	GrantMoved       GrantState = "moved"                 // it was exported for use elsewhere: nothing is refreshed or sent here
)

// Rotation is what is known of a provider's refresh tokens: whether a use brings
// another one.
type Rotation string

// What can be known.
const (
	RotationUnknown Rotation = ""    // none has been used yet
	Rotates         Rotation = "yes" // a use has brought another one
	DoesNotRotate   Rotation = "no"  // no use has, so far
)

// Grant is what a provider gave an OAuth connection, and how it stands.
type Grant struct {
	State        GrantState
	AccessToken  secret.Text
	RefreshToken secret.Text
	TokenType    string
	Scope        string    // as granted, at most 255 characters
	IssuedAt     time.Time // when the access token was issued
	ExpiresAt    time.Time // of the access token; zero: unknown
	Generation   uint64    // one more with every new access token
	Rotation     Rotation  // of the refresh token
	ErrorCode    string    // the provider's, or ours, of the last failure; never its text
	Failures     int       // in a row
	RetryAt      time.Time // of the next try; zero: none is planned
	// Intent is set before a refresh token is spent, and cleared when it is known
	// what became of it: after a crash, or an answer that was lost, it tells that the
	// token may have been spent.
	Intent *Intent
	// Move is set in the state moved, in which there is no token beside what it holds.
	Move *Move
}

// Intent says which generation's refresh token was about to be spent, and when.
type Intent struct {
	Generation uint64
	At         time.Time
	Recovered  bool // recovery was tried once already
}

// Move is the way of a grant to another machine.
type Move struct {
	ID string // of the export, and of each repetition of it
	At time.Time
	// Held is the grant as it was, for as long as it is not known that the export is
	// where it cannot get lost. Nil: it is.
	Held *Grant
}
