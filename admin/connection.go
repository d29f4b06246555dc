package admin

import (
	"time"

	"attache"
	"attache/secret"
)

// The wire types of connections. A credential's fields are the same going in and
// coming out: they decode what was sent, and encode as [redacted].

// APIKeyCredential is the credential of an api_key connection.
type APIKeyCredential struct {
	APIKey secret.Text `json:"api_key" doc:"The key, sent byte for byte; [redacted] in answers." format:"password"`
}

// BasicAuthCredential is the credential of a basic_auth connection.
type BasicAuthCredential struct {
	Username secret.Text `json:"username,omitzero" doc:"Without a colon; [redacted] in answers." format:"password"`
	Password secret.Text `json:"password,omitzero" doc:"[redacted] in answers." format:"password"`
}

// BearerTokenCredential is the credential of a bearer_token connection.
type BearerTokenCredential struct {
	Token secret.Text `json:"token" doc:"The token, without the word Bearer; [redacted] in answers." format:"password"`
}

func (c APIKeyCredential) credential() attache.Credential {
	return attache.Credential{APIKey: c.APIKey}
}

func (c BasicAuthCredential) credential() attache.Credential {
	return attache.Credential{Username: c.Username, Password: c.Password}
}

func (c BearerTokenCredential) credential() attache.Credential {
	return attache.Credential{Token: c.Token}
}

// ConnectionRequest is what every request for a new connection has.
type ConnectionRequest struct {
	Name          string   `json:"name" doc:"3 to 64 characters of A-Z a-z 0-9 _ -, unique within the integration." example:"tickets"`
	AllowedDomain string   `json:"allowed_domain" doc:"A host name, or *. and a domain: that domain and everything below it." example:"api.example.com"`
	AllowedPorts  []uint16 `json:"allowed_ports,omitempty" nullable:"false" doc:"Ports that the credential may be sent to; absent: 443." example:"[443]"`
	StripCookies  bool     `json:"strip_cookies,omitempty" doc:"Remove the client's cookies from each request that gets the credential."`
}

func (r ConnectionRequest) connection(t attache.ConnectionType, c attache.Credential) attache.Connection {
	return attache.Connection{
		Name: r.Name, Type: t, AllowedDomain: attache.AllowedDomain(r.AllowedDomain), AllowedPorts: r.AllowedPorts,
		StripCookies: r.StripCookies, Credential: c,
	}
}

// APIKeyRequest makes an api_key connection.
type APIKeyRequest struct {
	ConnectionRequest
	HeaderName string `json:"header_name" doc:"The header that carries the key." example:"X-Api-Key"`
	APIKeyCredential
}

// BasicAuthRequest makes a basic_auth connection.
type BasicAuthRequest struct {
	ConnectionRequest
	BasicAuthCredential
}

// BearerTokenRequest makes a bearer_token connection.
type BearerTokenRequest struct {
	ConnectionRequest
	BearerTokenCredential
}

func (r APIKeyRequest) asked() attache.Connection {
	c := r.connection(attache.APIKey, r.credential())
	c.HeaderName = attache.HeaderName(r.HeaderName)
	return c
}

func (r BasicAuthRequest) asked() attache.Connection {
	return r.connection(attache.BasicAuth, r.credential())
}

func (r BearerTokenRequest) asked() attache.Connection {
	return r.connection(attache.BearerToken, r.credential())
}

// Fixed is embedded in the requests that replace a credential, for a better
// answer to those that would change more.
type Fixed struct{}

func (Fixed) refusal(name string) *attache.FieldError {
	switch name {
	case "name", "type", "allowed_domain", "allowed_ports", "header_name", "strip_cookies":
		return neverChanges(name, "connection")
	}
	return nil
}

// APIKeyReplacement replaces the credential of an api_key connection.
type APIKeyReplacement struct {
	Fixed
	APIKeyCredential
}

// BasicAuthReplacement replaces the credential of a basic_auth connection, both
// fields of it.
type BasicAuthReplacement struct {
	Fixed
	BasicAuthCredential
}

// BearerTokenReplacement replaces the credential of a bearer_token connection.
type BearerTokenReplacement struct {
	Fixed
	BearerTokenCredential
}

// ConnectionFields are what every connection has on the wire.
type ConnectionFields struct {
	Name          string                 `json:"name" doc:"Unique within the integration." example:"tickets"`
	Type          attache.ConnectionType `json:"type" enum:"api_key,basic_auth,bearer_token,oauth" doc:"What it stores and which header carries it."`
	AllowedDomain attache.AllowedDomain  `json:"allowed_domain" doc:"Where the credential may be sent." example:"api.example.com"`
	AllowedPorts  []uint16               `json:"allowed_ports" nullable:"false" doc:"The ports that it may be sent to." example:"[443]"`
	StripCookies  bool                   `json:"strip_cookies,omitempty" doc:"Whether the client's cookies are removed."`
	CreatedAt     time.Time              `json:"created_at" doc:"When it was created."`
	UpdatedAt     time.Time              `json:"updated_at" doc:"When the credential was last replaced."`
}

func (f ConnectionFields) kind() attache.ConnectionType { return f.Type }

// APIKeyConnection is an api_key connection on the wire.
type APIKeyConnection struct {
	ConnectionFields
	HeaderName attache.HeaderName `json:"header_name" doc:"The header that carries the key." example:"X-Api-Key"`
	APIKeyCredential
}

// BasicAuthConnection is a basic_auth connection on the wire.
type BasicAuthConnection struct {
	ConnectionFields
	BasicAuthCredential
}

// BearerTokenConnection is a bearer_token connection on the wire.
type BearerTokenConnection struct {
	ConnectionFields
	BearerTokenCredential
}

func showFields(c attache.Connection) ConnectionFields {
	return ConnectionFields{c.Name, c.Type, c.AllowedDomain, c.AllowedPorts, c.StripCookies, c.CreatedAt, c.UpdatedAt}
}

func showAPIKey(c attache.Connection) APIKeyConnection {
	return APIKeyConnection{showFields(c), c.HeaderName, APIKeyCredential{c.Credential.APIKey}}
}

func showBasicAuth(c attache.Connection) BasicAuthConnection {
	return BasicAuthConnection{showFields(c), BasicAuthCredential{c.Credential.Username, c.Credential.Password}}
}

func showBearerToken(c attache.Connection) BearerTokenConnection {
	return BearerTokenConnection{showFields(c), BearerTokenCredential{c.Credential.Token}}
}
