package client

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"attache"
	"attache/secret"
)

// Connection is a connection as the API shows it: without its credential.
type Connection struct {
	Name          string                 `json:"name"`
	Type          attache.ConnectionType `json:"type"`
	AllowedDomain attache.AllowedDomain  `json:"allowed_domain"`
	AllowedPorts  []uint16               `json:"allowed_ports"`
	HeaderName    attache.HeaderName     `json:"header_name,omitempty"` // api_key
	StripCookies  bool                   `json:"strip_cookies,omitempty"`
	CreatedAt     time.Time              `json:"created_at"`
	UpdatedAt     time.Time              `json:"updated_at"`
	OAuth
}

// Credential is what a connection keeps secret; which fields are set follows from
// its type.
type Credential struct {
	APIKey   secret.Outgoing `json:"api_key,omitzero"`  // api_key
	Username secret.Outgoing `json:"username,omitzero"` // basic_auth
	Password secret.Outgoing `json:"password,omitzero"` // basic_auth
	Token    secret.Outgoing `json:"token,omitzero"`    // bearer_token
}

// NewConnection is the request for a connection.
type NewConnection struct {
	Name          string   `json:"name"`
	AllowedDomain string   `json:"allowed_domain"`
	AllowedPorts  []uint16 `json:"allowed_ports,omitempty"` // none: 443
	HeaderName    string   `json:"header_name,omitempty"`   // api_key
	StripCookies  bool     `json:"strip_cookies,omitempty"`
	Credential
	OAuthRequest
}

func at(integration string, t attache.ConnectionType, more ...string) []string {
	return append([]string{"integrations", integration, "connections", string(t)}, more...)
}

// CreateConnection makes a connection of type t.
func (c *Client) CreateConnection(ctx context.Context, integration string, t attache.ConnectionType, in NewConnection) (Connection, error) {
	return call[Connection](ctx, c, http.MethodPost, in, at(integration, t)...)
}

// Connection shows a connection of type t.
func (c *Client) Connection(ctx context.Context, integration string, t attache.ConnectionType, name string) (Connection, error) {
	return call[Connection](ctx, c, http.MethodGet, nil, at(integration, t, name)...)
}

// ReplaceCredential replaces the credential of a connection of type t.
func (c *Client) ReplaceCredential(ctx context.Context, integration string, t attache.ConnectionType, name string, in Credential) (Connection, error) {
	return call[Connection](ctx, c, http.MethodPut, in, at(integration, t, name)...)
}

// DeleteConnection deletes a connection of type t. Of one of type oauth the server
// tells the provider afterwards, where it can.
func (c *Client) DeleteConnection(ctx context.Context, integration string, t attache.ConnectionType, name string) error {
	return c.patient().remove(ctx, at(integration, t, name)...)
}

// FindConnection shows a connection whose type is not known. It asks for each
// type, and wraps [attache.ErrNotFound] when none has the name.
func (c *Client) FindConnection(ctx context.Context, integration, name string) (Connection, error) {
	var found Connection
	var err error
	for _, t := range []attache.ConnectionType{attache.APIKey, attache.BasicAuth, attache.BearerToken, attache.OAuth} {
		if found, err = c.Connection(ctx, integration, t, name); !errors.Is(err, attache.ErrNotFound) {
			break
		}
	}
	return found, err
}

// meta is where a page is among the others.
type meta struct {
	HasMore     bool   `json:"has_more"`
	AfterCursor string `json:"after_cursor"`
}

// ConnectionsOf goes through the connections of type t, by name, a page at a time.
// After an error it ends.
func (c *Client) ConnectionsOf(ctx context.Context, integration string, t attache.ConnectionType) iter.Seq2[Connection, error] {
	type page struct {
		Connections []Connection `json:"connections"`
		Meta        meta         `json:"meta"`
	}
	return pages(ctx, c, func(p page) ([]Connection, meta) { return p.Connections, p.Meta }, at(integration, t)...)
}

// Connections goes through all connections a page at a time: the pages by name,
// and within each by type. After an error it ends.
func (c *Client) Connections(ctx context.Context, integration string) iter.Seq2[Connection, error] {
	type page struct {
		APIKey      []Connection `json:"api_key"`
		BasicAuth   []Connection `json:"basic_auth"`
		BearerToken []Connection `json:"bearer_token"`
		OAuth       []Connection `json:"oauth"`
		Meta        meta         `json:"meta"`
	}
	return pages(ctx, c, func(p page) ([]Connection, meta) {
		all := append(append(append(p.APIKey, p.BasicAuth...), p.BearerToken...), p.OAuth...)
		return all, p.Meta
	}, at(integration, "all")...)
}

const pageSize = 100 // the most that the API gives

func pages[P any](ctx context.Context, c *Client, open func(P) ([]Connection, meta), segments ...string) iter.Seq2[Connection, error] {
	return func(yield func(Connection, error) bool) {
		params := url.Values{"page[size]": {strconv.Itoa(pageSize)}}
		for {
			p, err := query[P](ctx, c, http.MethodGet, nil, params, segments...)
			if err != nil {
				yield(Connection{}, err)
				return
			}
			page, m := open(p)
			for _, one := range page {
				if !yield(one, nil) {
					return
				}
			}
			if !m.HasMore {
				return
			}
			params.Set("page[after]", m.AfterCursor)
		}
	}
}
