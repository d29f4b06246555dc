package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"attache"
	"attache/secret"
)

// AdminToken is an admin token on the wire, without the token.
type AdminToken struct {
	ID        string       `json:"id" doc:"Public; names the token for revoking it." example:"0c2dHzcjiZAYk"`
	Role      attache.Role `json:"role" enum:"admin,operator,viewer" doc:"What its holder may do."`
	CreatedAt time.Time    `json:"created_at" doc:"When it was created."`
	ExpiresAt time.Time    `json:"expires_at,omitzero" doc:"When it runs out; absent: never."`
}

// NewAdminToken is an admin token with the token, shown once.
type NewAdminToken struct {
	AdminToken
	Token secret.Outgoing `json:"token" doc:"The token, attadmin_…: shown in this answer and never again."`
}

// AdminTokenList is every admin token.
type AdminTokenList struct {
	AdminTokens []AdminToken `json:"admin_tokens" nullable:"false" doc:"Oldest first."`
}

// AdminTokenRequest makes an admin token.
type AdminTokenRequest struct {
	Role attache.Role `json:"role" enum:"admin,operator,viewer" example:"viewer" doc:"viewer reads; operator manages connections and access tokens too; admin does everything."`
	Expiry
}

// AdminTokenPath names an admin token.
type AdminTokenPath struct {
	ID string `path:"id" doc:"The token's ID." example:"0c2dHzcjiZAYk"`
}

func showAdminToken(t attache.AdminToken) AdminToken {
	return AdminToken{t.ID, t.Role, t.CreatedAt, t.ExpiresAt}
}

func (a *API) adminTokens(api huma.API) {
	const tag, all = "administration", "/admin-tokens"
	register(a, api, route{
		method: http.MethodGet, path: all, id: "list-admin-tokens", tag: tag, role: attache.RoleAdmin,
		summary: "List admin tokens", text: "Lists every admin token, without the tokens themselves.",
	}, a.listAdminTokens)
	register(a, api, route{
		method: http.MethodPost, path: all, id: "create-admin-token", tag: tag, role: attache.RoleAdmin,
		summary: "Create an admin token", text: "Makes an admin token and shows it, this once.", status: http.StatusCreated,
	}, a.createAdminToken)
	register(a, api, route{
		method: http.MethodDelete, path: all + "/{id}", id: "revoke-admin-token", tag: tag, role: attache.RoleAdmin,
		summary: "Revoke an admin token", text: "Deletes an admin token, with effect from the next request.",
		status: http.StatusNoContent, errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *AdminTokenPath) (*Empty, error) {
		return nil, a.Store.DeleteAdminToken(ctx, in.ID)
	})
}

func (a *API) listAdminTokens(ctx context.Context, _ *struct{}) (*Answer[AdminTokenList], error) {
	all, err := a.Store.AdminTokens(ctx)
	if err != nil {
		return nil, err
	}
	return answer(AdminTokenList{mapped(all, showAdminToken)}), nil
}

func (a *API) createAdminToken(ctx context.Context, in *WithBody[AdminTokenRequest]) (*Created[NewAdminToken], error) {
	created, ask := now(), in.Body.value
	if _, ok := ranks[ask.Role]; !ok {
		return nil, &attache.FieldError{Field: "role", Rule: "must be admin, operator or viewer"}
	}
	expires, err := ask.check(created)
	if err != nil {
		return nil, err
	}
	id, token, hash := attache.NewToken(attache.AdminTokenPrefix)
	t := attache.AdminToken{ID: id, Role: ask.Role, Hash: hash, CreatedAt: created, ExpiresAt: expires}
	if err := a.Store.CreateAdminToken(ctx, t); err != nil {
		return nil, err
	}
	return &Created[NewAdminToken]{
		base + "/admin-tokens/" + id,
		NewAdminToken{showAdminToken(t), secret.Outgoing{Text: token}},
	}, nil
}
