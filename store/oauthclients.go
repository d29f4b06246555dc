package store

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"attache"
	"attache/secret"
)

// errNoOAuthClient: an oauth connection was to use a client that is not there.
var errNoOAuthClient = &attache.FieldError{
	Field:  "oauth_client",
	Rule:   "names no OAuth client of this integration",
	Remedy: "create the client first",
}

// CreateOAuthClient stores a new OAuth client. The name being taken in the
// integration is [attache.ErrExists], the integration missing
// [attache.ErrNotFound].
func (s *Store) CreateOAuthClient(ctx context.Context, c attache.OAuthClient) error {
	if err := checkNames(c.Integration, c.Name); err != nil {
		return err
	}
	r := newOAuthClientRecord(c)
	return s.update(ctx, func(tx change) ([]attache.Change, error) {
		if err := requireIntegration(tx.view(), c.Integration); err != nil {
			return nil, err
		}
		if err := tx.create(oauthClients, ownedBy(c.Integration)+c.Name, r); err != nil {
			return nil, oauthClientError(c.Name, err)
		}
		return oauthClientChange(tx.view(), c.Integration, c.Name)
	})
}

// OAuthClients returns the integration's OAuth clients, by name.
func (s *Store) OAuthClients(ctx context.Context, integration string) (all []attache.OAuthClient, err error) {
	err = s.view(ctx, func(v view) error {
		if err := requireIntegration(v, integration); err != nil {
			return err
		}
		for k, err := range loadAll[oauthClientRecord](v, oauthClients, ownedBy(integration), "") {
			if err != nil {
				return err
			}
			all = append(all, k.Record.oauthClient(integration, k.name()))
		}
		return nil
	})
	return all, err
}

// OAuthClient returns one OAuth client, or [attache.ErrNotFound].
func (s *Store) OAuthClient(ctx context.Context, integration, name string) (c attache.OAuthClient, err error) {
	err = s.view(ctx, func(v view) error {
		c, err = loadOAuthClient(v, integration, name)
		return err
	})
	return c, err
}

// UpdateOAuthClient reads an OAuth client, lets update change its client id and
// what it proves itself with, which is its client secret, private key and
// certificate, and writes it back, with no other write in between. It does not set
// UpdatedAt; update does. An error of update is returned as it is and nothing
// is written; the change of another field is an [attache.FieldError]. update must
// not call the store, and may be called more than once.
func (s *Store) UpdateOAuthClient(ctx context.Context, integration, name string, update func(*attache.OAuthClient) error) error {
	return s.update(ctx, func(tx change) ([]attache.Change, error) {
		before, err := loadOAuthClient(tx.view(), integration, name)
		if err != nil {
			return nil, err
		}
		after, err := loadOAuthClient(tx.view(), integration, name) // shares nothing with before
		if err != nil {
			return nil, err
		}
		if err := update(&after); err != nil {
			return nil, err
		}
		if err := sameRegistration(before, after); err != nil {
			return nil, err
		}
		if err := tx.save(oauthClients, ownedBy(integration)+name, newOAuthClientRecord(after)); err != nil {
			return nil, err
		}
		return oauthClientChange(tx.view(), integration, name)
	})
}

// DeleteOAuthClient deletes an OAuth client, or fails with [attache.ErrNotFound].
// While connections use it the error is [attache.ErrReferenced] and names them.
// It looks at all the integration's connections, for it is rare.
func (s *Store) DeleteOAuthClient(ctx context.Context, integration, name string) error {
	if err := checkNames(integration, name); err != nil {
		return oauthClientError(name, attache.ErrNotFound)
	}
	return s.update(ctx, func(tx change) ([]attache.Change, error) {
		if err := tx.remove(oauthClients, ownedBy(integration)+name); err != nil {
			return nil, oauthClientError(name, err)
		}
		if err := requireUnused(tx.view(), integration, name); err != nil {
			return nil, oauthClientError(name, err)
		}
		return []attache.Change{{
			Deleted:     true,
			OAuthClient: &attache.OAuthClient{Integration: integration, Name: name},
		}}, nil
	})
}

// requireUnused fails with attache.ErrReferenced and the names of the connections
// that use an OAuth client, or of the first few.
func requireUnused(v view, integration, client string) error {
	const most = 10
	var names []string
	more := 0
	for k, err := range loadAll[connectionRecord](v, connections, ownedBy(integration), "") {
		switch {
		case err != nil:
			return err
		case k.Record.Type != attache.OAuth || k.Record.OAuthClient != client:
		case len(names) < most:
			names = append(names, fmt.Sprintf("%q", k.name()))
		default:
			more++
		}
	}
	if names == nil {
		return nil
	}
	list := strings.Join(names, ", ")
	if more > 0 {
		list = fmt.Sprintf("%s and %d more", list, more)
	}
	return fmt.Errorf("%w by the connections %s: delete them first", attache.ErrReferenced, list)
}

// requireOAuthClient is for a connection that is to use the client.
func requireOAuthClient(v view, integration, name string) error {
	_, err := loadOAuthClient(v, integration, name)
	if errors.Is(err, attache.ErrNotFound) {
		return errNoOAuthClient
	}
	return err
}

// oauthClientChange tells of an OAuth client as it is now.
func oauthClientChange(v view, integration, name string) ([]attache.Change, error) {
	c, err := loadOAuthClient(v, integration, name)
	return []attache.Change{{OAuthClient: &c}}, err
}

func loadOAuthClient(v view, integration, name string) (attache.OAuthClient, error) {
	if err := checkNames(integration, name); err != nil {
		return attache.OAuthClient{}, oauthClientError(name, attache.ErrNotFound)
	}
	r, err := load[oauthClientRecord](v, oauthClients, ownedBy(integration)+name)
	if err != nil {
		return attache.OAuthClient{}, oauthClientError(name, err)
	}
	return r.oauthClient(integration, name), nil
}

// sameRegistration holds what never changes (rule O1) against a change.
func sameRegistration(before, after attache.OAuthClient) error {
	return unchanged("make another client", registration(before, after))
}

// registration holds two OAuth clients against each other, but for what may change.
func registration(a, b attache.OAuthClient) []sameness {
	return []sameness{
		{"integration", a.Integration == b.Integration},
		{"name", a.Name == b.Name},
		{"grant_type", a.GrantType == b.GrantType},
		{"auth_url", a.AuthURL == b.AuthURL},
		{"token_url", a.TokenURL == b.TokenURL},
		{"default_scopes", a.DefaultScopes == b.DefaultScopes},
		{"provider", reflect.DeepEqual(withoutProof(a.Provider), withoutProof(b.Provider))},
		{"created_at", a.CreatedAt.Equal(b.CreatedAt)},
	}
}

// withoutProof is p without what takes the place of a client secret.
func withoutProof(p attache.Provider) attache.Provider {
	p.PrivateKey, p.Certificate = secret.Text{}, secret.Text{}
	return p
}

func oauthClientError(name string, err error) error {
	return fmt.Errorf("OAuth client %q: %w", name, err)
}
