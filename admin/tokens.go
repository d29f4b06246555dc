package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"attache"
	"attache/secret"
)

// AccessToken is an access token on the wire, without the token.
type AccessToken struct {
	ID          string    `json:"id" doc:"Public; names the token for revoking it." example:"0c2dHzcjiZAYk"`
	Integration string    `json:"integration" doc:"The integration that it is of." example:"support-bot"`
	CreatedAt   time.Time `json:"created_at" doc:"When it was created."`
	ExpiresAt   time.Time `json:"expires_at,omitzero" doc:"When it runs out; absent: never."`
}

// NewAccessToken is an access token with the token, shown once.
type NewAccessToken struct {
	AccessToken
	Token secret.Outgoing `json:"token" doc:"The token, att_…: shown in this answer and never again."`
}

// AccessTokenList is every access token of an integration.
type AccessTokenList struct {
	Tokens []AccessToken `json:"tokens" nullable:"false" doc:"Oldest first."`
}

// Expiry is how long a new token lives.
type Expiry struct {
	ExpiresAt *time.Time `json:"expires_at,omitempty" doc:"When it runs out, in the future; absent or null: never." example:"2030-01-31T12:00:00Z"`
}

// lastYear is the last that a time in JSON can have.
const lastYear = 9999

// check is when the token runs out; zero: never, which only a time that is absent, or
// null, means.
func (e Expiry) check(now time.Time) (time.Time, error) {
	const never = "leave it out for a token that does not expire"
	switch at := e.ExpiresAt; {
	case at == nil:
		return time.Time{}, nil
	case !now.Before(*at):
		return time.Time{}, &attache.FieldError{Field: "expires_at", Rule: "is not in the future", Remedy: never}
	case at.UTC().Year() > lastYear:
		return time.Time{}, &attache.FieldError{Field: "expires_at", Rule: "is after the year 9999 in UTC", Remedy: never}
	default:
		return *at, nil
	}
}

// AccessTokenRequest makes an access token.
type AccessTokenRequest struct {
	IntegrationPath
	WithBody[Expiry]
}

// TokenPath names an access token.
type TokenPath struct {
	IntegrationPath
	ID string `path:"id" doc:"The token's ID." example:"0c2dHzcjiZAYk"`
}

func showAccessToken(t attache.AccessToken) AccessToken {
	return AccessToken{t.ID, t.Integration, t.CreatedAt, t.ExpiresAt}
}

func (a *API) accessTokens(api huma.API) {
	const tag, all = "access tokens", "/integrations/{integration}/tokens"
	register(a, api, route{
		method: http.MethodGet, path: all, id: "list-tokens", tag: tag, role: attache.RoleViewer,
		summary: "List access tokens", text: "Lists an integration's access tokens, without the tokens themselves.",
		errors: []int{http.StatusNotFound},
	}, a.listAccessTokens)
	register(a, api, route{
		method: http.MethodPost, path: all, id: "create-token", tag: tag, role: attache.RoleOperator,
		summary: "Create an access token", text: "Makes an access token and shows it, this once.",
		status: http.StatusCreated, errors: []int{http.StatusNotFound},
	}, a.createAccessToken)
	register(a, api, route{
		method: http.MethodDelete, path: all + "/{id}", id: "revoke-token", tag: tag, role: attache.RoleOperator,
		summary: "Revoke an access token", text: "Deletes an access token. Open tunnels feel it at their next request.",
		status: http.StatusNoContent, errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *TokenPath) (*Empty, error) {
		return nil, a.Store.DeleteAccessToken(ctx, in.Integration, in.ID)
	})
}

func (a *API) listAccessTokens(ctx context.Context, in *IntegrationPath) (*Answer[AccessTokenList], error) {
	all, err := a.Store.AccessTokens(ctx, in.Integration)
	if err != nil {
		return nil, err
	}
	return answer(AccessTokenList{mapped(all, showAccessToken)}), nil
}

func (a *API) createAccessToken(ctx context.Context, in *AccessTokenRequest) (*Created[NewAccessToken], error) {
	created := now()
	expires, err := in.Body.value.check(created)
	if err != nil {
		return nil, err
	}
	id, token, hash := attache.NewToken(attache.AccessTokenPrefix)
	t := attache.AccessToken{ID: id, Integration: in.Integration, Hash: hash, CreatedAt: created, ExpiresAt: expires}
	if err := a.Store.CreateAccessToken(ctx, t); err != nil {
		return nil, err
	}
	return &Created[NewAccessToken]{
		base + "/integrations/" + in.Integration + "/tokens/" + id,
		NewAccessToken{showAccessToken(t), secret.Outgoing{Text: token}},
	}, nil
}
