package client

import (
	"context"
	"net/http"
	"time"

	"attache"
	"attache/secret"
)

// providerTime is what a call may take longer than others where the server asks
// an OAuth provider before it answers.
const providerTime = time.Minute

// patient is the client for such calls.
func (c *Client) patient() *Client {
	patient := *c
	patient.timeout += providerTime
	return &patient
}

// Registration is what an OAuth client has: a registration at a provider.
type Registration struct {
	Name          string            `json:"name"`
	GrantType     attache.GrantType `json:"grant_type"`
	ClientID      string            `json:"client_id"`
	AuthURL       string            `json:"auth_url,omitempty"` // authorization_code; may contain {subdomain}
	TokenURL      string            `json:"token_url,omitempty"`
	DefaultScopes string            `json:"default_scopes,omitempty"` // separated by spaces

	Issuer         string             `json:"issuer,omitempty"` // in a new client: fills in the URLs that are empty
	RefreshURL     string             `json:"refresh_url,omitempty"`
	RevocationURL  string             `json:"revocation_url,omitempty"`
	DeviceURL      string             `json:"device_url,omitempty"`
	ClientAuth     attache.ClientAuth `json:"client_auth,omitempty"`     // empty: basic
	PKCE           *bool              `json:"pkce,omitempty"`            // nil: true
	ScopeSeparator string             `json:"scope_separator,omitempty"` // empty: a space
	AuthParams     map[string]string  `json:"auth_params,omitempty"`
	TokenParams    map[string]string  `json:"token_params,omitempty"`
	TokenHeaders   map[string]string  `json:"token_headers,omitempty"`
	TokenBody      string             `json:"token_body,omitempty"` // "form" or "json"; empty: form
	Audience       string             `json:"audience,omitempty"`
	Resource       string             `json:"resource,omitempty"`
	Keepalive      string             `json:"keepalive,omitempty"` // as time.ParseDuration reads it; empty: 7 days
}

// OAuthClient is an OAuth client as the API shows it: without what it keeps secret.
type OAuthClient struct {
	Registration
	CallbackURL string    `json:"callback_url,omitempty"` // to register at the provider; empty: the server has none
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
}

// NewOAuthClient is the request for an OAuth client.
type NewOAuthClient struct {
	Registration
	ClientSecret secret.Outgoing `json:"client_secret,omitzero"`
	PrivateKey   secret.Outgoing `json:"private_key,omitzero"` // PKCS #8 in PEM, for private_key_jwt
	Certificate  secret.Outgoing `json:"certificate,omitzero"` // certificate chain and key in PEM
}

// OAuthClientUpdate changes what of an OAuth client can change. What is empty
// stays as it is.
type OAuthClientUpdate struct {
	ClientID     string          `json:"client_id,omitempty"`
	ClientSecret secret.Outgoing `json:"client_secret,omitzero"`
	PrivateKey   secret.Outgoing `json:"private_key,omitzero"` // PKCS #8 in PEM
	Certificate  secret.Outgoing `json:"certificate,omitzero"` // certificate chain and key in PEM
}

func oauthClients(integration string, more ...string) []string {
	return append([]string{"integrations", integration, "oauth", "clients"}, more...)
}

// OAuthClients lists an integration's OAuth clients, by name.
func (c *Client) OAuthClients(ctx context.Context, integration string) ([]OAuthClient, error) {
	out, err := call[struct {
		OAuthClients []OAuthClient `json:"oauth_clients"`
	}](ctx, c, http.MethodGet, nil, oauthClients(integration)...)
	return out.OAuthClients, err
}

// OAuthClient shows an OAuth client.
func (c *Client) OAuthClient(ctx context.Context, integration, name string) (OAuthClient, error) {
	return call[OAuthClient](ctx, c, http.MethodGet, nil, oauthClients(integration, name)...)
}

// CreateOAuthClient makes an OAuth client. Where it has an issuer and lacks URLs,
// the server asks the issuer for them.
func (c *Client) CreateOAuthClient(ctx context.Context, integration string, in NewOAuthClient) (OAuthClient, error) {
	return call[OAuthClient](ctx, c.patient(), http.MethodPost, in, oauthClients(integration)...)
}

// UpdateOAuthClient changes the client id and secrets.
func (c *Client) UpdateOAuthClient(ctx context.Context, integration, name string, in OAuthClientUpdate) (OAuthClient, error) {
	return call[OAuthClient](ctx, c, http.MethodPatch, in, oauthClients(integration, name)...)
}

// DeleteOAuthClient deletes an OAuth client. While connections use it the error
// wraps [attache.ErrReferenced] and names them.
func (c *Client) DeleteOAuthClient(ctx context.Context, integration, name string) error {
	return c.remove(ctx, oauthClients(integration, name)...)
}

// OAuthRequest is what a request for a connection of type oauth has beside the
// others.
type OAuthRequest struct {
	OAuthClient     string `json:"oauth_client,omitempty"`        // its name
	PermissionScope string `json:"permission_scope,omitempty"`    // to ask for; empty: the client's default scopes
	Subdomain       string `json:"oauth_url_subdomain,omitempty"` // for {subdomain} in the client's URLs
}

// OAuth is what a connection of type oauth has beside the others: how it stands.
type OAuth struct {
	OAuthClient     string             `json:"oauth_client,omitempty"`
	Subdomain       string             `json:"oauth_url_subdomain,omitempty"`
	RequestedScope  string             `json:"requested_scope,omitempty"`  // empty: the client's default scopes
	PermissionScope string             `json:"permission_scope,omitempty"` // as granted
	State           attache.GrantState `json:"state,omitempty"`
	ErrorCode       string             `json:"error_code,omitempty"` // of the last failure: the provider's, or ours
	Advice          string             `json:"advice,omitempty"`     // what to do about it
	TokenType       string             `json:"token_type,omitempty"`
	TokenExpiry     time.Time          `json:"token_expiry,omitzero"` // zero: unknown
	RefreshedAt     time.Time          `json:"refreshed_at,omitzero"` // when the token was issued
	RetryAt         time.Time          `json:"retry_at,omitzero"`     // of the next try; zero: none is planned
}

// Flow is a way for a person to authorize a connection.
type Flow string

// The flows.
const (
	CodeFlow   Flow = "code"   // with a browser that comes back (RFC 6749, section 4.1)
	DeviceFlow Flow = "device" // with a code that is typed in elsewhere (RFC 8628)
)

// Authorize is the request to begin an authorization.
type Authorize struct {
	Flow Flow `json:"flow"`
	// RedirectURL is where the provider sends the browser back to, with [CodeFlow]:
	// on loopback, as RFC 8252 says, or the server's callback URL, which empty means.
	RedirectURL string `json:"redirect_url,omitempty"`
}

// Authorization is an authorization that waits for a person. Only who began it
// can finish it, except at the server's callback URL.
type Authorization struct {
	State     string    `json:"state"` // names it
	ExpiresAt time.Time `json:"expires_at"`

	AuthorizationURL string `json:"authorization_url,omitempty"` // with [CodeFlow]: where the person goes

	// With [DeviceFlow]:
	UserCode                string `json:"user_code,omitempty"`                 // what the person types in
	VerificationURI         string `json:"verification_uri,omitempty"`          // where
	VerificationURIComplete string `json:"verification_uri_complete,omitempty"` // the same with the code in it
	Interval                int    `json:"interval,omitempty"`                  // seconds to wait before the first poll
}

// Progress is how an authorization with [DeviceFlow] stands.
type Progress struct {
	Done      bool   `json:"done"`
	Interval  int    `json:"interval,omitempty"`   // seconds to wait before the next poll
	ErrorCode string `json:"error_code,omitempty"` // why the provider could not be asked; the next poll may work
}

// Authorize begins the authorization of a connection of type oauth. The grant
// that it has stays in use until there is a new one.
func (c *Client) Authorize(ctx context.Context, integration, name string, in Authorize) (Authorization, error) {
	return call[Authorization](ctx, c.patient(), http.MethodPost, in, at(integration, attache.OAuth, name, "authorize")...)
}

// FinishAuthorization ends an authorization with [CodeFlow]. The answer is what
// came back: the URL that the browser ended at, or the code in it. Whatever the
// outcome, the state is used up. It shows the connection as it is then.
func (c *Client) FinishAuthorization(ctx context.Context, integration, name, state string, answer secret.Text) (Connection, error) {
	in := struct {
		State  string          `json:"state"`
		Answer secret.Outgoing `json:"answer"`
	}{state, secret.Outgoing{Text: answer}}
	return call[Connection](ctx, c.patient(), http.MethodPost, in, at(integration, attache.OAuth, name, "authorize", "finish")...)
}

// PollAuthorization asks whether an authorization with [DeviceFlow] is done. An
// error of the server ends the authorization.
func (c *Client) PollAuthorization(ctx context.Context, integration, name, state string) (Progress, error) {
	in := struct {
		State string `json:"state"`
	}{state}
	return call[Progress](ctx, c.patient(), http.MethodPost, in, at(integration, attache.OAuth, name, "authorize", "poll")...)
}
