package admin

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"attache"
	"attache/oauth"
	"attache/policy"
)

// OAuthOptions are what reaches OAuth providers. Without Flows nobody can
// authorize a connection, without Endpoint no URLs are discovered, and without
// Keeper no grant is revoked when it is deleted; the rest works.
type OAuthOptions struct {
	Flows    *oauth.Flows
	Keeper   *oauth.Keeper
	Endpoint *oauth.Endpoint
	// CallbackURL is where browsers reach this API's /oauth/callback, the whole URL,
	// for people to register at providers. Empty: they do not, and authorizations
	// with a browser end on loopback.
	CallbackURL string
}

const (
	// revocationTime is how long a deletion waits for providers.
	revocationTime = 10 * time.Second
	// revocationsTime bounds what a deletion does not wait for.
	revocationsTime = 10 * time.Minute
)

// OAuthRequest makes a connection of type oauth, which somebody then authorizes,
// or which gets its own tokens where its client has the grant type
// client_credentials.
type OAuthRequest struct {
	ConnectionRequest
	OAuthClient     string `json:"oauth_client" doc:"The name of the integration's OAuth client that gets its tokens." example:"crm"`
	PermissionScope string `json:"permission_scope,omitempty" doc:"The scopes to ask for, separated by spaces; absent: the client's default scopes." example:"read write"`
	Subdomain       string `json:"oauth_url_subdomain,omitempty" doc:"What {subdomain} in the client's URLs stands for, one label." example:"acme"`
}

func (r OAuthRequest) asked() attache.Connection {
	c := r.connection(attache.OAuth, attache.Credential{})
	c.OAuthClient, c.Scope, c.Subdomain = r.OAuthClient, r.PermissionScope, r.Subdomain
	return c
}

// refusal explains rule O4.
func (OAuthRequest) refusal(name string) *attache.FieldError {
	switch name {
	case "token", "access_token", "refresh_token":
		return &attache.FieldError{
			Field: name, Rule: "cannot be given: a connection of type oauth is authorized, not made from an existing token",
			Remedy: "leave it out, or make a connection of type bearer_token",
		}
	}
	return nil
}

// OAuthConnection is a connection of type oauth on the wire: how it stands, and
// never a token.
type OAuthConnection struct {
	ConnectionFields
	OAuthClient     string             `json:"oauth_client" doc:"The name of the OAuth client that gets its tokens." example:"crm"`
	Subdomain       string             `json:"oauth_url_subdomain,omitempty" doc:"What {subdomain} in the client's URLs stands for." example:"acme"`
	RequestedScope  string             `json:"requested_scope,omitempty" doc:"The scopes that are asked for; absent: the client's default scopes." example:"read write"`
	PermissionScope string             `json:"permission_scope,omitempty" doc:"The scopes that the provider granted." example:"read"`
	State           attache.GrantState `json:"state" enum:"pending,active,refreshing,retrying,config_error,needs_reauthorization,moved" doc:"Where in its life the grant is."`
	ErrorCode       string             `json:"error_code,omitempty" doc:"Why the last attempt to get a token failed: the provider's code, or one of ours." example:"invalid_grant"`
	Advice          string             `json:"advice,omitempty" doc:"What the error code means and what to do about it."`
	TokenType       string             `json:"token_type,omitempty" doc:"Of the access token." example:"Bearer"`
	TokenExpiry     time.Time          `json:"token_expiry,omitzero" doc:"When the access token runs out; absent: unknown, or there is none."`
	RefreshedAt     time.Time          `json:"refreshed_at,omitzero" doc:"When the access token was issued; absent: there is none."`
	RetryAt         time.Time          `json:"retry_at,omitzero" doc:"When a token is asked for again; absent: no retry is planned."`
}

func showOAuth(c attache.Connection) OAuthConnection {
	g := attache.Grant{State: attache.GrantPending}
	if c.Grant != nil {
		g = *c.Grant
	}
	return OAuthConnection{
		ConnectionFields: showFields(c),
		OAuthClient:      c.OAuthClient, Subdomain: c.Subdomain, RequestedScope: c.Scope,
		PermissionScope: g.Scope, State: g.State, ErrorCode: g.ErrorCode, Advice: oauth.Advice(g.ErrorCode),
		TokenType: g.TokenType, TokenExpiry: g.ExpiresAt, RefreshedAt: g.IssuedAt, RetryAt: g.RetryAt,
	}
}

// admitOAuth holds a new connection against its OAuth client. That there is none
// is for the store to say, which knows at the time of writing.
func (a *API) admitOAuth(ctx context.Context, c *attache.Connection) error {
	client, err := a.Store.OAuthClient(ctx, c.Integration, c.OAuthClient)
	switch {
	case errors.Is(err, attache.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	return policy.CheckSubdomain(c, &client)
}

// revoke tells the provider that a connection was deleted, if it can be told.
func (a *API) revoke(ctx context.Context, c attache.Connection) {
	if a.OAuth.Keeper == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, revocationTime)
	defer cancel()
	r, err := a.OAuth.Keeper.Revocation(ctx, &c)
	if err == nil && r != nil {
		err = r.Revoke(ctx)
	}
	if err != nil {
		a.notRevoked(ctx, c, err)
	}
}

func (a *API) notRevoked(ctx context.Context, c attache.Connection, err error) {
	a.Logger.WarnContext(ctx, "revocation failed: the provider may hold on to the grant",
		"integration", c.Integration, "connection", c.Name, "error", err)
}

// revocations are those of all grants of an integration. What keeps it from being
// known is logged, and keeps nobody from deleting.
func (a *API) revocations(ctx context.Context, integration string) []*oauth.Revocation {
	revocable := func(c attache.OAuthClient) bool { return c.Provider.RevocationURL != "" }
	clients, err := a.Store.OAuthClients(ctx, integration)
	if err != nil || a.OAuth.Keeper == nil || !slices.ContainsFunc(clients, revocable) {
		return nil // that there is no such integration, the deletion finds out
	}
	var all []*oauth.Revocation
	for c, err := range a.connectionsAfter(ctx, integration, "") {
		var r *oauth.Revocation
		if err == nil {
			r, err = a.OAuth.Keeper.Revocation(ctx, &c)
		}
		switch {
		case err != nil:
			a.notRevoked(ctx, c, err)
		case r != nil:
			all = append(all, r)
		}
	}
	return all
}

// revokeLater tells providers that an integration has been deleted.
func (a *API) revokeLater(ctx context.Context, integration string, all []*oauth.Revocation) {
	if len(all) == 0 {
		return
	}
	later, within := a.Later, revocationsTime
	if later == nil {
		later, within = func(task func(context.Context)) { task(ctx) }, revocationTime
	}
	later(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		if failed, err := oauth.RevokeAll(ctx, all); failed > 0 {
			a.Logger.WarnContext(ctx, "revocation failed: providers may hold on to grants",
				"integration", integration, "grants", len(all), "failed", failed, "error", err)
			return
		}
		a.Logger.InfoContext(ctx, "grants revoked", "integration", integration, "grants", len(all))
	})
}

// oauthFailure is how an error of package oauth is answered; nil: it is none.
func oauthFailure(err error) *failure {
	var e *oauth.Error
	switch {
	case errors.Is(err, oauth.ErrUnknownFlow):
		return fail(CodeUnknownAuthorization, "It was finished already, is older than ten minutes, was begun by somebody else "+
			"or for another connection, or the server was restarted since: begin again.")
	case errors.Is(err, oauth.ErrNotExportable):
		_, why, _ := strings.Cut(err.Error(), oauth.ErrNotExportable.Error()+": ")
		return fail(CodeNotExportable, strings.ToUpper(why[:1])+why[1:]+".") // in words of ours alone
	case errors.Is(err, oauth.ErrUnknownMove):
		return fail(CodeUnknownMove, "It was confirmed and then authorized anew, or it is another connection's.")
	case errors.Is(err, oauth.ErrTooManyFlows):
		return fail(CodeTooManyAuthorizations, "Try again in some minutes.")
	case !errors.As(err, &e):
		return nil
	}
	code := CodeProviderFailed
	if e.Kind == oauth.GrantRefused || e.Kind == oauth.ClientRefused {
		code = CodeProviderRefused
	}
	f := fail(code, e.Error()+".")
	if e.RetryAfter > 0 {
		f.with("Retry-After", strconv.Itoa(wholeSeconds(e.RetryAfter)))
	}
	return f
}

// wholeSeconds is a time to wait, in seconds, rounded up.
func wholeSeconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
