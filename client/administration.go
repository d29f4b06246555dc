package client

import (
	"context"
	"net/http"
	"time"

	"attache"
	"attache/secret"
)

// AdminToken is an admin token as the API shows it.
type AdminToken struct {
	ID        string       `json:"id"`
	Role      attache.Role `json:"role"`
	CreatedAt time.Time    `json:"created_at"`
	ExpiresAt time.Time    `json:"expires_at,omitzero"` // zero: never
}

// NewAdminToken is an admin token that was just made, with the token.
type NewAdminToken struct {
	AdminToken
	Token secret.Outgoing `json:"token"`
}

// AdminTokens lists every admin token, the oldest first.
func (c *Client) AdminTokens(ctx context.Context) ([]AdminToken, error) {
	out, err := call[struct {
		AdminTokens []AdminToken `json:"admin_tokens"`
	}](ctx, c, http.MethodGet, nil, "admin-tokens")
	return out.AdminTokens, err
}

// CreateAdminToken makes an admin token, for ever where expires is zero. The token
// is in this answer alone.
func (c *Client) CreateAdminToken(ctx context.Context, role attache.Role, expires time.Time) (NewAdminToken, error) {
	in := struct {
		Role attache.Role `json:"role"`
		expiry
	}{role, expiry{expires}}
	return call[NewAdminToken](ctx, c, http.MethodPost, in, "admin-tokens")
}

// RevokeAdminToken deletes an admin token by its ID.
func (c *Client) RevokeAdminToken(ctx context.Context, id string) error {
	return c.remove(ctx, "admin-tokens", id)
}

// CA is what clients of the proxy have to trust.
type CA struct {
	PEM          string        `json:"pem"` // all of them
	Certificates []Certificate `json:"certificates"`
}

// Certificate is one of the CA's certificates.
type Certificate struct {
	Fingerprint string    `json:"fingerprint"` // SHA-256, hexadecimal
	Subject     string    `json:"subject"`
	NotAfter    time.Time `json:"not_after"`
	Signing     bool      `json:"signing"` // the others are trusted until dropped
}

// CA shows the CA, the signing certificate first.
func (c *Client) CA(ctx context.Context) (CA, error) {
	return call[CA](ctx, c, http.MethodGet, nil, "ca")
}

// RotateCA makes a new signing certificate and shows the CA as it is then.
func (c *Client) RotateCA(ctx context.Context) (CA, error) {
	return call[CA](ctx, c, http.MethodPost, nil, "ca", "rotate")
}

// DropCA takes a certificate that no longer signs out of the bundle.
func (c *Client) DropCA(ctx context.Context, fingerprint string) error {
	return c.remove(ctx, "ca", fingerprint)
}
