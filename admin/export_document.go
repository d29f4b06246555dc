package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"attache"
	"attache/oauth"
	"attache/policy"
	"attache/secret"
)

// What is inside an export: one JSON document, whose fields are those of the API
// where the API has them. docs/connection-export.schema.json is generated from the
// types here.

const (
	exportFormat  = "attache-connection-export"
	exportVersion = 1
)

// ExportDocument is a connection that was exported, with all that it needs
// elsewhere. Its secrets are in the clear, so it leaves the process only encrypted.
type ExportDocument struct {
	Format      string             `json:"format" enum:"attache-connection-export" doc:"What this is."`
	Version     int                `json:"version" enum:"1" doc:"Of this schema. A document of another version is refused."`
	ExportID    string             `json:"export_id" pattern:"^[A-Za-z0-9_-]{16,64}$" doc:"Of a move, which is imported once only. Each repetition of a move that was not confirmed has the same."`
	Mode        oauth.Mode         `json:"mode" enum:"move,copy" doc:"move: where it was exported, nothing is refreshed or sent any more. copy: there it goes on."`
	ExportedAt  time.Time          `json:"exported_at" doc:"When it was exported; of a move, when the connection was given up."`
	OAuthClient ExportedClient     `json:"oauth_client" doc:"The registration at the provider."`
	Connection  ExportedConnection `json:"connection" doc:"The connection, of type oauth."`
	Grant       *ExportedGrant     `json:"grant,omitempty" doc:"What the provider gave. Absent with client_credentials: such a connection gets its own tokens."`
}

// ExportedClient is an OAuth client with what it keeps secret.
type ExportedClient struct {
	OAuthClientFields
	ClientSecret secret.Outgoing `json:"client_secret,omitzero" doc:"As the provider assigned it."`
	PrivateKey   secret.Outgoing `json:"private_key,omitzero" doc:"For private_key_jwt: PKCS #8 in PEM."`
	Certificate  secret.Outgoing `json:"certificate,omitzero" doc:"For TLS client authentication (RFC 8705): the certificate chain and its key in PEM."`
}

// ExportedConnection is a connection of type oauth; its OAuth client is the one
// beside it.
type ExportedConnection struct {
	ConnectionRequest
	PermissionScope string `json:"permission_scope,omitempty" doc:"The scopes to ask for, separated by spaces; absent: the client's default scopes."`
	Subdomain       string `json:"oauth_url_subdomain,omitempty" doc:"What {subdomain} in the client's URLs stands for, one label."`
}

// ExportedGrant is a grant with its tokens.
type ExportedGrant struct {
	AccessToken  secret.Outgoing  `json:"access_token" doc:"A bearer token."`
	RefreshToken secret.Outgoing  `json:"refresh_token,omitzero" doc:"Absent: the provider gave none."`
	Scope        string           `json:"scope,omitempty" maxLength:"255" doc:"The scopes that the provider granted."`
	IssuedAt     time.Time        `json:"issued_at" doc:"When the access token was issued."`
	ExpiresAt    time.Time        `json:"expires_at,omitzero" doc:"When it expires; absent: not known."`
	Rotation     attache.Rotation `json:"rotation,omitempty" enum:"yes,no" doc:"Whether the provider replaces the refresh token at each use; absent: not known."`
}

// writeDocument writes an export down.
func (a *API) writeDocument(e oauth.Export) (secret.Text, error) {
	c, p := e.Connection, e.Client.Provider
	fields := a.showOAuthClient(e.Client).OAuthClientFields
	fields.ClientAuth = p.ClientAuth // or the one of the other side, which says nothing here, would seem to differ
	d := ExportDocument{
		Format: exportFormat, Version: exportVersion, ExportID: e.ID, Mode: e.Mode, ExportedAt: e.At,
		OAuthClient: ExportedClient{
			fields, secret.Outgoing{Text: e.Client.ClientSecret}, secret.Outgoing{Text: p.PrivateKey}, secret.Outgoing{Text: p.Certificate},
		},
		Connection: ExportedConnection{
			ConnectionRequest: ConnectionRequest{c.Name, string(c.AllowedDomain), c.AllowedPorts, c.StripCookies},
			PermissionScope:   c.Scope, Subdomain: c.Subdomain,
		},
	}
	if g := c.Grant; g != nil {
		d.Grant = &ExportedGrant{
			AccessToken: secret.Outgoing{Text: g.AccessToken}, RefreshToken: secret.Outgoing{Text: g.RefreshToken},
			Scope: g.Scope, IssuedAt: g.IssuedAt, ExpiresAt: g.ExpiresAt, Rotation: g.Rotation,
		}
	}
	text, err := json.MarshalIndent(d, "", "  ")
	return secret.New(string(text)), err
}

var (
	errNoExport = &attache.FieldError{
		Field: "file", Rule: "does not hold an export of a connection", Remedy: "give what attache connection export wrote",
	}
	exportID = regexp.MustCompile(`^[A-Za-z0-9_-]{16,64}$`)
)

// readDocument is the export that is written down in text, in canonical form and
// within all rules that do not need the store. Its errors name fields of the
// document, and never a value.
func readDocument(text string) (oauth.Export, error) {
	var none oauth.Export
	var head struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal([]byte(text), &head); err != nil || head.Format != exportFormat {
		return none, errNoExport
	}
	if head.Version != exportVersion {
		return none, &attache.FieldError{
			Field: "version", Rule: fmt.Sprintf("is %d, and this attache reads %d", head.Version, exportVersion),
			Remedy: "use the same version of attache on both machines",
		}
	}
	var d struct {
		ExportDocument
		OAuthClient json.RawMessage `json:"oauth_client"`
		Connection  json.RawMessage `json:"connection"`
		Grant       json.RawMessage `json:"grant"`
	}
	if err := decode([]byte(text), &d); err != nil {
		if len(fieldErrors(err)) == 0 {
			return none, errNoExport
		}
		return none, err
	}
	var client ExportedClient
	var connection ExportedConnection
	var grant ExportedGrant
	wrong := []error{d.check(), section("oauth_client", d.OAuthClient, &client), section("connection", d.Connection, &connection)}
	if d.Grant != nil {
		d.ExportDocument.Grant = &grant
		wrong = append(wrong, section("grant", d.Grant, &grant))
	}
	if err := errors.Join(wrong...); err != nil {
		return none, err
	}
	d.ExportDocument.OAuthClient, d.ExportDocument.Connection = client, connection
	return d.export()
}

// check looks at what stands outside the sections.
func (d *ExportDocument) check() error {
	var wrong []error
	if !exportID.MatchString(d.ExportID) {
		wrong = append(wrong, &attache.FieldError{Field: "export_id", Rule: "is not 16 to 64 letters, digits, _ and -"})
	}
	if d.Mode != oauth.ModeMove && d.Mode != oauth.ModeCopy {
		wrong = append(wrong, &attache.FieldError{Field: "mode", Rule: "must be move or copy"})
	}
	return errors.Join(wrong...)
}

// export is what the document says.
func (d *ExportDocument) export() (oauth.Export, error) {
	client, err := OAuthClientRequest{
		d.OAuthClient.OAuthClientFields,
		OAuthClientSecrets{d.OAuthClient.ClientSecret.Text, d.OAuthClient.PrivateKey.Text, d.OAuthClient.Certificate.Text},
	}.asked()
	wrong := []error{within("oauth_client", errors.Join(err, policy.CheckOAuthClient(&client)))}

	c := d.Connection.connection(attache.OAuth, attache.Credential{})
	c.OAuthClient, c.Scope, c.Subdomain = client.Name, d.Connection.PermissionScope, d.Connection.Subdomain
	wrong = append(wrong, within("connection", errors.Join(policy.CheckConnection(&c), policy.CheckSubdomain(&c, &client))))

	switch needed := client.GrantType == attache.AuthorizationCode; {
	case needed != (d.Grant != nil):
		wrong = append(wrong, &attache.FieldError{Field: "grant", Rule: "goes with grant_type authorization_code, and with no other"})
	case needed:
		c.Grant = d.Grant.grant()
		wrong = append(wrong, within("grant", oauth.CheckGrant(c.Grant)))
	}
	return oauth.Export{ID: d.ExportID, Mode: d.Mode, At: d.ExportedAt, Client: client, Connection: c}, errors.Join(wrong...)
}

func (g *ExportedGrant) grant() *attache.Grant {
	return &attache.Grant{
		State: attache.GrantActive, AccessToken: g.AccessToken.Text, RefreshToken: g.RefreshToken.Text, TokenType: "Bearer",
		Scope: g.Scope, IssuedAt: g.IssuedAt, ExpiresAt: g.ExpiresAt, Generation: 1, Rotation: g.Rotation,
	}
}

// section decodes a part of the document into the struct that v points to.
func section(name string, raw json.RawMessage, v any) error {
	err := decode(raw, v)
	if err != nil && len(fieldErrors(err)) == 0 {
		return &attache.FieldError{Field: name, Rule: "is missing, or no object"}
	}
	return within(name, err)
}

// within names the fields of an error as those of a section.
func within(name string, err error) error {
	var wrong []error
	for _, e := range fieldErrors(err) {
		wrong = append(wrong, &attache.FieldError{Field: name + "." + e.Field, Rule: e.Rule, Remedy: e.Remedy})
	}
	return errors.Join(wrong...)
}
