package admin

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"attache"
	"attache/oauth"
	"attache/policy"
	"attache/secret"
)

// OAuthClientFields are what an OAuth client has going in and coming out: what
// every provider asks for, and how this one differs from RFC 6749.
type OAuthClientFields struct {
	Name          string            `json:"name" doc:"3 to 64 characters of A-Z a-z 0-9 _ -, unique within the integration." example:"crm"`
	GrantType     attache.GrantType `json:"grant_type,omitempty" enum:"authorization_code,client_credentials" default:"authorization_code" doc:"How tokens are got."`
	ClientID      string            `json:"client_id" doc:"As the provider assigned it." example:"attache-4711"`
	AuthURL       string            `json:"auth_url,omitempty" doc:"Where a person authorizes; authorization_code only. {subdomain} may stand for one label of its host." example:"https://{subdomain}.example.com/oauth/authorize"`
	TokenURL      string            `json:"token_url,omitempty" doc:"Where tokens are got. {subdomain} may stand for one label of its host." example:"https://{subdomain}.example.com/oauth/token"`
	DefaultScopes string            `json:"default_scopes,omitempty" doc:"Asked for by connections that name none, separated by spaces." example:"read write"`

	Issuer         string             `json:"issuer,omitempty" doc:"Where auth_url or token_url is missing, the issuer is asked (RFC 8414, OpenID Connect), and fills in all that is. Answers that name another issuer are refused (RFC 9207)." example:"https://login.example.com"`
	RefreshURL     string             `json:"refresh_url,omitempty" doc:"Where refresh tokens are spent; absent: the token URL."`
	RevocationURL  string             `json:"revocation_url,omitempty" doc:"Where tokens are revoked (RFC 7009); absent: they are not."`
	DeviceURL      string             `json:"device_url,omitempty" doc:"Where device codes are got (RFC 8628); absent: there are none."`
	ClientAuth     attache.ClientAuth `json:"client_auth,omitempty" enum:"basic,post,none,private_key_jwt" default:"basic" doc:"How the client proves itself at the token URL."`
	PKCE           *bool              `json:"pkce,omitempty" default:"true" doc:"Whether authorizations use PKCE (RFC 7636), S256; authorization_code only."`
	ScopeSeparator string             `json:"scope_separator,omitempty" doc:"What the provider separates scopes with: a space, or one of , + ; |; absent: a space."`
	AuthParams     map[string]string  `json:"auth_params,omitempty" doc:"Parameters that are added to the authorization URL."`
	TokenParams    map[string]string  `json:"token_params,omitempty" doc:"Parameters that are added to token requests."`
	TokenHeaders   map[string]string  `json:"token_headers,omitempty" doc:"Headers that are added to token requests. Answers show them."`
	TokenBody      string             `json:"token_body,omitempty" enum:"form,json" default:"form" doc:"How token requests are encoded."`
	Audience       string             `json:"audience,omitempty" doc:"The audience parameter."`
	Resource       string             `json:"resource,omitempty" doc:"The resource parameter (RFC 8707)."`
	Keepalive      string             `json:"keepalive,omitempty" doc:"How often a grant that nobody uses is refreshed at least, with units from h to ns; absent: 7 days." example:"168h"`
}

// OAuthClientSecrets are what an OAuth client keeps secret.
type OAuthClientSecrets struct {
	ClientSecret secret.Text `json:"client_secret,omitzero" doc:"As the provider assigned it; [redacted] in answers." format:"password"`
	PrivateKey   secret.Text `json:"private_key,omitzero" doc:"For private_key_jwt: PKCS #8 in PEM; [redacted] in answers." format:"password"`
	Certificate  secret.Text `json:"certificate,omitzero" doc:"For TLS client authentication (RFC 8705): the certificate chain and its key in PEM; [redacted] in answers." format:"password"`
}

// OAuthClientRequest makes an OAuth client.
type OAuthClientRequest struct {
	OAuthClientFields
	OAuthClientSecrets
}

// OAuthClient is an OAuth client on the wire.
type OAuthClient struct {
	OAuthClientFields
	OAuthClientSecrets
	CallbackURL string    `json:"callback_url,omitempty" doc:"To register at the provider, where people authorize in a browser that reaches this server; authorization_code only." example:"https://attache.example.com/oauth/callback"`
	CreatedAt   time.Time `json:"created_at" doc:"When it was created."`
	UpdatedAt   time.Time `json:"updated_at" doc:"When its id or a secret was last changed."`
}

// OAuthClientList is every OAuth client of an integration.
type OAuthClientList struct {
	OAuthClients []OAuthClient `json:"oauth_clients" nullable:"false" doc:"By name."`
}

// OAuthClientChange changes what of an OAuth client may change (rule O1): its id,
// and what it proves itself with.
type OAuthClientChange struct {
	ClientID     *string      `json:"client_id,omitempty" doc:"Absent: it stays." example:"attache-4712"`
	ClientSecret *secret.Text `json:"client_secret,omitempty" doc:"Absent: it stays." format:"password"`
	PrivateKey   *secret.Text `json:"private_key,omitempty" doc:"For private_key_jwt: PKCS #8 in PEM. Absent: it stays." format:"password"`
	Certificate  *secret.Text `json:"certificate,omitempty" doc:"In the place of another: the certificate chain and its key in PEM. Absent: it stays." format:"password"`
}

// apply changes c.
func (ask OAuthClientChange) apply(c *attache.OAuthClient) error {
	p := &c.Provider
	if ask.Certificate != nil && ask.Certificate.IsZero() != p.Certificate.IsZero() {
		return &attache.FieldError{Field: "certificate", Rule: "can be replaced, and neither added nor removed", Remedy: "make another OAuth client"}
	}
	if ask.ClientID != nil {
		c.ClientID = *ask.ClientID
	}
	for _, s := range []struct{ to, from *secret.Text }{
		{&c.ClientSecret, ask.ClientSecret}, {&p.PrivateKey, ask.PrivateKey}, {&p.Certificate, ask.Certificate},
	} {
		if s.from != nil {
			*s.to = *s.from
		}
	}
	return nil
}

func (OAuthClientChange) refusal(name string) *attache.FieldError {
	if _, ok := fieldsOf(reflect.ValueOf(&OAuthClientRequest{}).Elem())[name]; ok {
		return neverChanges(name, "OAuth client")
	}
	return nil
}

// OAuthClientPath names an OAuth client.
type OAuthClientPath struct {
	IntegrationPath
	Name string `path:"name" doc:"The OAuth client's name." example:"crm"`
}

// CreateOAuthClient makes an OAuth client.
type CreateOAuthClient struct {
	IntegrationPath
	WithBody[OAuthClientRequest]
}

// ChangeOAuthClient changes an OAuth client.
type ChangeOAuthClient struct {
	OAuthClientPath
	WithBody[OAuthClientChange]
}

// asked is the client that is asked for. With an error, the rest of it is good to
// be looked at all the same.
func (r OAuthClientRequest) asked() (attache.OAuthClient, error) {
	c := attache.OAuthClient{
		Name: r.Name, GrantType: cmp.Or(r.GrantType, attache.AuthorizationCode),
		ClientID: r.ClientID, ClientSecret: r.ClientSecret,
		AuthURL: r.AuthURL, TokenURL: r.TokenURL, DefaultScopes: r.DefaultScopes,
		Provider: attache.Provider{
			Issuer: r.Issuer, RefreshURL: r.RefreshURL, RevocationURL: r.RevocationURL, DeviceURL: r.DeviceURL,
			ClientAuth: r.ClientAuth, PrivateKey: r.PrivateKey, NoPKCE: r.PKCE != nil && !*r.PKCE,
			ScopeSeparator: r.ScopeSeparator, AuthParams: r.AuthParams, TokenParams: r.TokenParams, TokenHeaders: r.TokenHeaders,
			JSONBody: r.TokenBody == "json", Audience: r.Audience, Resource: r.Resource, Certificate: r.Certificate,
		},
	}
	var wrong []error
	if r.TokenBody != "" && r.TokenBody != "form" && r.TokenBody != "json" {
		wrong = append(wrong, &attache.FieldError{Field: "token_body", Rule: "must be form or json"})
	}
	if r.Keepalive != "" {
		var err error
		if c.Provider.Keepalive, err = time.ParseDuration(r.Keepalive); err != nil {
			wrong = append(wrong, &attache.FieldError{Field: "keepalive", Rule: "is not a duration", Remedy: "write it as 168h"})
		}
	}
	return c, errors.Join(wrong...)
}

func (a *API) showOAuthClient(c attache.OAuthClient) OAuthClient {
	p := c.Provider
	shown := OAuthClient{
		OAuthClientFields: OAuthClientFields{
			Name: c.Name, GrantType: c.GrantType, ClientID: c.ClientID,
			AuthURL: c.AuthURL, TokenURL: c.TokenURL, DefaultScopes: c.DefaultScopes,
			Issuer: p.Issuer, RefreshURL: p.RefreshURL, RevocationURL: p.RevocationURL, DeviceURL: p.DeviceURL,
			ClientAuth: cmp.Or(p.ClientAuth, attache.ClientAuthBasic), ScopeSeparator: p.ScopeSeparator,
			AuthParams: p.AuthParams, TokenParams: p.TokenParams, TokenHeaders: p.TokenHeaders, TokenBody: "form",
			Audience: p.Audience, Resource: p.Resource,
		},
		OAuthClientSecrets: OAuthClientSecrets{c.ClientSecret, p.PrivateKey, p.Certificate},
		CreatedAt:          c.CreatedAt,
		UpdatedAt:          c.UpdatedAt,
	}
	if c.GrantType == attache.AuthorizationCode {
		pkce := !p.NoPKCE
		shown.PKCE, shown.CallbackURL = &pkce, a.OAuth.CallbackURL
	}
	if p.JSONBody {
		shown.TokenBody = "json"
	}
	if p.Keepalive != 0 {
		shown.Keepalive = p.Keepalive.String()
	}
	return shown
}

// oauthClients registers the operations on OAuth clients below a path that names
// the integration.
func (a *API) oauthClients(api huma.API, all string) {
	const tag = "oauth"
	one := all + "/{name}"
	register(a, api, route{
		method: http.MethodGet, path: all, id: "list-oauth-clients", tag: tag, role: attache.RoleViewer,
		summary: "List OAuth clients", text: "Lists an integration's OAuth clients, their secrets redacted.",
		errors: []int{http.StatusNotFound},
	}, a.listOAuthClients)
	register(a, api, route{
		method: http.MethodPost, path: all, id: "create-oauth-client", tag: tag, role: attache.RoleOperator,
		summary: "Create an OAuth client", text: "Makes an OAuth client: a registration at a provider.",
		status: http.StatusCreated, errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable},
		example: map[string]string{
			"name": "crm", "client_id": "attache-4711", "client_secret": "THE-SECRET",
			"auth_url": "https://example.com/oauth/authorize", "token_url": "https://example.com/oauth/token", "default_scopes": "read write",
		},
	}, a.createOAuthClient)
	register(a, api, route{
		method: http.MethodGet, path: one, id: "show-oauth-client", tag: tag, role: attache.RoleViewer,
		summary: "Show an OAuth client", text: "Shows an OAuth client, its secrets redacted.",
		errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *OAuthClientPath) (*Answer[OAuthClient], error) {
		c, err := a.Store.OAuthClient(ctx, in.Integration, in.Name)
		if err != nil {
			return nil, err
		}
		return answer(a.showOAuthClient(c)), nil
	})
	register(a, api, route{
		method: http.MethodPatch, path: one, id: "change-oauth-client", tag: tag, role: attache.RoleOperator,
		summary: "Change an OAuth client's id or secrets",
		text: "Changes the client id, and what the client proves itself with: client secret, private key, certificate. Nothing else of an OAuth client ever changes. " +
			"Connections keep their grants, and those that wait for a correction go on.",
		errors: []int{http.StatusNotFound}, example: map[string]string{"client_secret": "THE-NEW-SECRET"},
	}, a.changeOAuthClient)
	register(a, api, route{
		method: http.MethodDelete, path: one, id: "delete-oauth-client", tag: tag, role: attache.RoleOperator,
		summary: "Delete an OAuth client", text: "Deletes an OAuth client. While connections use it the answer is 409, and names them.",
		status: http.StatusNoContent, errors: []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, in *OAuthClientPath) (*Empty, error) {
		return nil, a.Store.DeleteOAuthClient(ctx, in.Integration, in.Name)
	})
}

func (a *API) listOAuthClients(ctx context.Context, in *IntegrationPath) (*Answer[OAuthClientList], error) {
	all, err := a.Store.OAuthClients(ctx, in.Integration)
	if err != nil {
		return nil, err
	}
	return answer(OAuthClientList{mapped(all, a.showOAuthClient)}), nil
}

func (a *API) createOAuthClient(ctx context.Context, in *CreateOAuthClient) (*Created[OAuthClient], error) {
	c, err := in.Body.value.asked()
	if err == nil {
		if err := a.discover(ctx, &c); err != nil {
			return nil, err // before it hides behind the URLs that are now missing
		}
	}
	if err := errors.Join(err, policy.CheckOAuthClient(&c)); err != nil {
		return nil, err
	}
	if err := a.usable(c); err != nil {
		return nil, err
	}
	c.Integration = in.Integration
	c.CreatedAt = now()
	c.UpdatedAt = c.CreatedAt
	if err := a.Store.CreateOAuthClient(ctx, c); err != nil {
		return nil, err
	}
	return &Created[OAuthClient]{base + "/integrations/" + c.Integration + "/oauth/clients/" + c.Name, a.showOAuthClient(c)}, nil
}

// usable fails for a client that is valid, and that no provider can be called
// with.
func (a *API) usable(c attache.OAuthClient) error {
	if a.OAuth.Endpoint == nil {
		return nil
	}
	return a.OAuth.Endpoint.CheckClient(c)
}

// discover asks the issuer for what is missing.
func (a *API) discover(ctx context.Context, c *attache.OAuthClient) error {
	complete := c.TokenURL != "" && (c.AuthURL != "" || c.GrantType != attache.AuthorizationCode)
	if c.Provider.Issuer == "" || complete {
		return nil
	}
	if a.OAuth.Endpoint == nil {
		return fail(CodeOAuthOff, "Give auth_url and token_url: the issuer cannot be asked for them.")
	}
	found, err := a.OAuth.Endpoint.Discover(ctx, c.Provider.Issuer)
	if e := (*oauth.Error)(nil); errors.As(err, &e) {
		return &attache.FieldError{
			Field: "issuer", Rule: "did not tell its URLs (" + e.Code + ")", Remedy: "correct it, or give auth_url and token_url",
		}
	}
	if err == nil {
		found.Fill(c)
	}
	return err
}

func (a *API) changeOAuthClient(ctx context.Context, in *ChangeOAuthClient) (*Answer[OAuthClient], error) {
	ask := in.Body.value
	if ask == (OAuthClientChange{}) {
		return nil, &attache.FieldError{Field: "client_id", Rule: "is missing, and so is every secret", Remedy: "give what is to change"}
	}
	var changed attache.OAuthClient
	err := a.Store.UpdateOAuthClient(ctx, in.Integration, in.Name, func(c *attache.OAuthClient) error {
		if err := ask.apply(c); err != nil {
			return err
		}
		if err := policy.CheckOAuthClient(c); err != nil {
			return err
		}
		c.UpdatedAt = now()
		changed = *c
		return a.usable(changed)
	})
	if err != nil {
		return nil, err
	}
	return answer(a.showOAuthClient(changed)), nil
}
