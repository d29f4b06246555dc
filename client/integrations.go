package client

import (
	"context"
	"net/http"
	"time"

	"attache/secret"
)

// Integration is an integration as the API shows it.
type Integration struct {
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
}

// Integrations lists every integration, by name.
func (c *Client) Integrations(ctx context.Context) ([]Integration, error) {
	out, err := call[struct {
		Integrations []Integration `json:"integrations"`
	}](ctx, c, http.MethodGet, nil, "integrations")
	return out.Integrations, err
}

// Integration shows one integration.
func (c *Client) Integration(ctx context.Context, name string) (Integration, error) {
	return call[Integration](ctx, c, http.MethodGet, nil, "integrations", name)
}

// CreateIntegration makes an integration.
func (c *Client) CreateIntegration(ctx context.Context, name string) (Integration, error) {
	in := struct {
		Name string `json:"name"`
	}{name}
	return call[Integration](ctx, c, http.MethodPost, in, "integrations")
}

// DeleteIntegration deletes an integration and all that it owns.
func (c *Client) DeleteIntegration(ctx context.Context, name string) error {
	return c.remove(ctx, "integrations", name)
}

func (c *Client) remove(ctx context.Context, segments ...string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, nil, segments...)
	return err
}

// AccessToken is an access token as the API shows it.
type AccessToken struct {
	ID          string    `json:"id"`
	Integration string    `json:"integration"`
	CreatedAt   time.Time `json:"created_at"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"` // zero: never
}

// NewAccessToken is an access token that was just made, with the token.
type NewAccessToken struct {
	AccessToken
	Token secret.Outgoing `json:"token"`
}

// expiry is the request for a token; the zero time asks for one that does not
// expire.
type expiry struct {
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// AccessTokens lists an integration's access tokens, the oldest first.
func (c *Client) AccessTokens(ctx context.Context, integration string) ([]AccessToken, error) {
	out, err := call[struct {
		Tokens []AccessToken `json:"tokens"`
	}](ctx, c, http.MethodGet, nil, "integrations", integration, "tokens")
	return out.Tokens, err
}

// CreateAccessToken makes an access token, for ever where expires is zero. The
// token is in this answer alone.
func (c *Client) CreateAccessToken(ctx context.Context, integration string, expires time.Time) (NewAccessToken, error) {
	return call[NewAccessToken](ctx, c, http.MethodPost, expiry{expires}, "integrations", integration, "tokens")
}

// RevokeAccessToken deletes an access token by its ID.
func (c *Client) RevokeAccessToken(ctx context.Context, integration, id string) error {
	return c.remove(ctx, "integrations", integration, "tokens", id)
}
