package store

import (
	"time"

	"attache"
	"attache/secret"
)

// Records of what connections of type oauth need. A grant has a record apart from
// its connection's, so that a refresh writes nothing but what it changes.
type (
	oauthClientRecord struct {
		GrantType     attache.GrantType `json:"grant_type"`
		ClientID      string            `json:"client_id"`
		ClientSecret  []byte            `json:"client_secret,omitempty"`
		AuthURL       string            `json:"auth_url,omitempty"`
		TokenURL      string            `json:"token_url"`
		DefaultScopes string            `json:"default_scopes,omitempty"`
		Provider      providerRecord    `json:"provider,omitzero"`
		CreatedAt     time.Time         `json:"created_at"`
		UpdatedAt     time.Time         `json:"updated_at"`
	}

	providerRecord struct {
		Issuer         string             `json:"issuer,omitempty"`
		RefreshURL     string             `json:"refresh_url,omitempty"`
		RevocationURL  string             `json:"revocation_url,omitempty"`
		DeviceURL      string             `json:"device_url,omitempty"`
		ClientAuth     attache.ClientAuth `json:"client_auth,omitempty"`
		PrivateKey     []byte             `json:"private_key,omitempty"`
		NoPKCE         bool               `json:"no_pkce,omitempty"`
		ScopeSeparator string             `json:"scope_separator,omitempty"`
		AuthParams     map[string]string  `json:"auth_params,omitempty"`
		TokenParams    map[string]string  `json:"token_params,omitempty"`
		TokenHeaders   map[string]string  `json:"token_headers,omitempty"`
		JSONBody       bool               `json:"json_body,omitempty"`
		Audience       string             `json:"audience,omitempty"`
		Resource       string             `json:"resource,omitempty"`
		Certificate    []byte             `json:"certificate,omitempty"`
		Keepalive      time.Duration      `json:"keepalive,omitempty"`
	}

	grantRecord struct {
		State        attache.GrantState `json:"state"`
		AccessToken  []byte             `json:"access_token,omitempty"`
		RefreshToken []byte             `json:"refresh_token,omitempty"`
		TokenType    string             `json:"token_type,omitempty"`
		Scope        string             `json:"scope,omitempty"`
		IssuedAt     time.Time          `json:"issued_at,omitzero"`
		ExpiresAt    time.Time          `json:"expires_at,omitzero"`
		Generation   uint64             `json:"generation,omitempty"`
		Rotation     attache.Rotation   `json:"rotation,omitempty"`
		ErrorCode    string             `json:"error_code,omitempty"`
		Failures     int                `json:"failures,omitempty"`
		RetryAt      time.Time          `json:"retry_at,omitzero"`
		Intent       *intentRecord      `json:"intent,omitempty"`
		Move         *moveRecord        `json:"move,omitempty"`
	}

	intentRecord struct {
		Generation uint64    `json:"generation"`
		At         time.Time `json:"at"`
		Recovered  bool      `json:"recovered,omitempty"`
	}

	moveRecord struct {
		ID   string       `json:"id"`
		At   time.Time    `json:"at"`
		Held *grantRecord `json:"held,omitempty"`
	}
)

func newOAuthClientRecord(c attache.OAuthClient) oauthClientRecord {
	p := c.Provider
	return oauthClientRecord{
		GrantType:     c.GrantType,
		ClientID:      c.ClientID,
		ClientSecret:  []byte(c.ClientSecret.Expose()),
		AuthURL:       c.AuthURL,
		TokenURL:      c.TokenURL,
		DefaultScopes: c.DefaultScopes,
		Provider: providerRecord{
			Issuer:         p.Issuer,
			RefreshURL:     p.RefreshURL,
			RevocationURL:  p.RevocationURL,
			DeviceURL:      p.DeviceURL,
			ClientAuth:     p.ClientAuth,
			PrivateKey:     []byte(p.PrivateKey.Expose()),
			NoPKCE:         p.NoPKCE,
			ScopeSeparator: p.ScopeSeparator,
			AuthParams:     p.AuthParams,
			TokenParams:    p.TokenParams,
			TokenHeaders:   p.TokenHeaders,
			JSONBody:       p.JSONBody,
			Audience:       p.Audience,
			Resource:       p.Resource,
			Certificate:    []byte(p.Certificate.Expose()),
			Keepalive:      p.Keepalive,
		},
		CreatedAt: stored(c.CreatedAt),
		UpdatedAt: stored(c.UpdatedAt),
	}
}

func (r oauthClientRecord) oauthClient(integration, name string) attache.OAuthClient {
	p := r.Provider
	return attache.OAuthClient{
		Integration:   integration,
		Name:          name,
		GrantType:     r.GrantType,
		ClientID:      r.ClientID,
		ClientSecret:  secret.New(string(r.ClientSecret)),
		AuthURL:       r.AuthURL,
		TokenURL:      r.TokenURL,
		DefaultScopes: r.DefaultScopes,
		Provider: attache.Provider{
			Issuer:         p.Issuer,
			RefreshURL:     p.RefreshURL,
			RevocationURL:  p.RevocationURL,
			DeviceURL:      p.DeviceURL,
			ClientAuth:     p.ClientAuth,
			PrivateKey:     secret.New(string(p.PrivateKey)),
			NoPKCE:         p.NoPKCE,
			ScopeSeparator: p.ScopeSeparator,
			AuthParams:     p.AuthParams,
			TokenParams:    p.TokenParams,
			TokenHeaders:   p.TokenHeaders,
			JSONBody:       p.JSONBody,
			Audience:       p.Audience,
			Resource:       p.Resource,
			Certificate:    secret.New(string(p.Certificate)),
			Keepalive:      p.Keepalive,
		},
		CreatedAt: r.CreatedAt,
		UpdatedAt: r.UpdatedAt,
	}
}

func newGrantRecord(g attache.Grant) grantRecord {
	r := grantRecord{
		State:        g.State,
		AccessToken:  []byte(g.AccessToken.Expose()),
		RefreshToken: []byte(g.RefreshToken.Expose()),
		TokenType:    g.TokenType,
		Scope:        g.Scope,
		IssuedAt:     stored(g.IssuedAt),
		ExpiresAt:    stored(g.ExpiresAt),
		Generation:   g.Generation,
		Rotation:     g.Rotation,
		ErrorCode:    g.ErrorCode,
		Failures:     g.Failures,
		RetryAt:      stored(g.RetryAt),
	}
	if i := g.Intent; i != nil {
		r.Intent = &intentRecord{i.Generation, stored(i.At), i.Recovered}
	}
	if m := g.Move; m != nil {
		r.Move = &moveRecord{ID: m.ID, At: stored(m.At)}
		if m.Held != nil {
			held := newGrantRecord(*m.Held)
			r.Move.Held = &held
		}
	}
	return r
}

func (r grantRecord) grant() *attache.Grant {
	g := &attache.Grant{
		State:        r.State,
		AccessToken:  secret.New(string(r.AccessToken)),
		RefreshToken: secret.New(string(r.RefreshToken)),
		TokenType:    r.TokenType,
		Scope:        r.Scope,
		IssuedAt:     r.IssuedAt,
		ExpiresAt:    r.ExpiresAt,
		Generation:   r.Generation,
		Rotation:     r.Rotation,
		ErrorCode:    r.ErrorCode,
		Failures:     r.Failures,
		RetryAt:      r.RetryAt,
	}
	if r.Intent != nil {
		i := attache.Intent(*r.Intent)
		g.Intent = &i
	}
	if m := r.Move; m != nil {
		g.Move = &attache.Move{ID: m.ID, At: m.At}
		if m.Held != nil {
			g.Move.Held = m.Held.grant()
		}
	}
	return g
}
