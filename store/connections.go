package store

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"attache"
)

// CreateConnection stores a new connection, together with its grant where it
// comes with one. The name being taken in the integration, by a connection of
// whatever type, is [attache.ErrExists], the integration missing
// [attache.ErrNotFound], the OAuth client of an oauth connection missing an
// [attache.FieldError].
func (s *Store) CreateConnection(ctx context.Context, c attache.Connection) error {
	if err := checkNames(c.Integration, c.Name); err != nil {
		return err
	}
	if c.Grant != nil && c.Type != attache.OAuth {
		return connectionError(c.Name, errNotOAuth)
	}
	r, key := newConnectionRecord(c), ownedBy(c.Integration)+c.Name
	return s.update(ctx, func(tx change) ([]attache.Change, error) {
		if err := requireIntegration(tx.view(), c.Integration); err != nil {
			return nil, err
		}
		if err := tx.create(connections, key, r); err != nil {
			return nil, connectionError(c.Name, err)
		}
		if c.Type == attache.OAuth {
			if err := requireOAuthClient(tx.view(), c.Integration, c.OAuthClient); err != nil {
				return nil, err
			}
		}
		if c.Grant != nil {
			if err := tx.save(grants, key, newGrantRecord(*c.Grant)); err != nil {
				return nil, err
			}
		}
		return connectionChange(tx.view(), c.Integration, c.Name)
	})
}

// Connection returns one connection with its grant, or [attache.ErrNotFound].
func (s *Store) Connection(ctx context.Context, integration, name string) (c attache.Connection, err error) {
	err = s.view(ctx, func(v view) error {
		c, err = loadConnection(v, integration, name)
		return err
	})
	return c, err
}

// Connections returns the integration's connections whose names are greater than
// after, by name, and whether there are more than the limit lets through. A
// limit of 0 lets all through.
func (s *Store) Connections(ctx context.Context, integration, after string, limit int) (page []attache.Connection, more bool, err error) {
	err = s.view(ctx, func(v view) error {
		if err := requireIntegration(v, integration); err != nil {
			return err
		}
		prefix := ownedBy(integration)
		for k, err := range loadAll[connectionRecord](v, connections, prefix, prefix+after) {
			if err != nil {
				return err
			}
			if more = limit > 0 && len(page) == limit; more {
				return nil
			}
			c, err := withGrant(v, k.Record.connection(integration, k.name()))
			if err != nil {
				return err
			}
			page = append(page, c)
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return page, more, nil
}

// UpdateConnection reads a connection, lets update change it, and writes it
// back, with no other write in between. It does not set UpdatedAt; update does.
// An error of update is returned as it is and nothing is written; the change of
// a field that never changes is an [attache.FieldError]. The grant is for
// [Store.UpdateGrant] to change. update must not call the store, and may be
// called more than once.
func (s *Store) UpdateConnection(ctx context.Context, integration, name string, update func(*attache.Connection) error) error {
	return s.update(ctx, func(tx change) ([]attache.Change, error) {
		before, err := loadConnection(tx.view(), integration, name)
		if err != nil {
			return nil, err
		}
		after, err := loadConnection(tx.view(), integration, name) // shares nothing with before
		if err != nil {
			return nil, err
		}
		if err := update(&after); err != nil {
			return nil, err
		}
		if err := sameIdentity(before, after); err != nil {
			return nil, err
		}
		if !reflect.DeepEqual(before.Grant, after.Grant) {
			return nil, errors.New("store: UpdateConnection was to change a grant")
		}
		if err := tx.save(connections, ownedBy(integration)+name, newConnectionRecord(after)); err != nil {
			return nil, err
		}
		return connectionChange(tx.view(), integration, name)
	})
}

// DeleteConnection deletes a connection and its grant, and returns what they were,
// or fails with [attache.ErrNotFound].
func (s *Store) DeleteConnection(ctx context.Context, integration, name string) (deleted attache.Connection, err error) {
	err = s.update(ctx, func(tx change) (_ []attache.Change, err error) {
		if deleted, err = loadConnection(tx.view(), integration, name); err != nil {
			return nil, err
		}
		key := ownedBy(integration) + name
		if err := tx.Delete(connections, key); err != nil {
			return nil, err
		}
		if err := tx.Delete(grants, key); err != nil {
			return nil, err
		}
		return []attache.Change{{
			Deleted:    true,
			Connection: &attache.Connection{Integration: integration, Name: name},
		}}, nil
	})
	return deleted, err
}

// connectionChange tells of a connection as it is now.
func connectionChange(v view, integration, name string) ([]attache.Change, error) {
	c, err := loadConnection(v, integration, name)
	return []attache.Change{{Connection: &c}}, err
}

func loadConnection(v view, integration, name string) (attache.Connection, error) {
	if err := checkNames(integration, name); err != nil {
		return attache.Connection{}, connectionError(name, attache.ErrNotFound)
	}
	r, err := load[connectionRecord](v, connections, ownedBy(integration)+name)
	if err != nil {
		return attache.Connection{}, connectionError(name, err)
	}
	return withGrant(v, r.connection(integration, name))
}

// sameIdentity holds what never changes (rule C3) against a change.
func sameIdentity(before, after attache.Connection) error {
	return unchanged("delete the connection and make another", []sameness{
		{"integration", before.Integration == after.Integration},
		{"name", before.Name == after.Name},
		{"type", before.Type == after.Type},
		{"allowed_domain", before.AllowedDomain == after.AllowedDomain},
		{"allowed_ports", slices.Equal(before.AllowedPorts, after.AllowedPorts)},
		{"header_name", before.HeaderName == after.HeaderName},
		{"oauth_client", before.OAuthClient == after.OAuthClient},
		{"oauth_url_subdomain", before.Subdomain == after.Subdomain},
		{"permission_scope", before.Scope == after.Scope},
		{"created_at", before.CreatedAt.Equal(after.CreatedAt)},
	})
}

// A sameness is a field, and whether an update left it as it was.
type sameness struct {
	field string
	same  bool
}

// unchanged is the error of the first field that an update must not change and
// did.
func unchanged(remedy string, fields []sameness) error {
	for _, f := range fields {
		if !f.same {
			return &attache.FieldError{Field: f.field, Rule: "never changes after creation", Remedy: remedy}
		}
	}
	return nil
}

func connectionError(name string, err error) error { return fmt.Errorf("connection %q: %w", name, err) }
