package store

import (
	"context"
	"fmt"
	"slices"

	"attache"
)

// CreateConnection stores a new connection. The name being taken in the
// integration, by a connection of whatever type, is [attache.ErrExists], the
// integration missing [attache.ErrNotFound].
func (s *Store) CreateConnection(ctx context.Context, c attache.Connection) error {
	if err := checkNames(c.Integration, c.Name); err != nil {
		return err
	}
	r := newConnectionRecord(c)
	return s.update(ctx, func(tx change) ([]attache.Change, error) {
		if err := requireIntegration(tx.view(), c.Integration); err != nil {
			return nil, err
		}
		if err := tx.create(connections, ownedBy(c.Integration)+c.Name, r); err != nil {
			return nil, connectionError(c.Name, err)
		}
		created := r.connection(c.Integration, c.Name)
		return []attache.Change{{Connection: &created}}, nil
	})
}

// Connection returns one connection, or [attache.ErrNotFound].
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
			page = append(page, k.Record.connection(integration, k.name()))
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
// a field that never changes is an [attache.FieldError]. update must not call
// the store, and may be called more than once.
func (s *Store) UpdateConnection(ctx context.Context, integration, name string, update func(*attache.Connection) error) error {
	return s.update(ctx, func(tx change) ([]attache.Change, error) {
		before, err := loadConnection(tx.view(), integration, name)
		if err != nil {
			return nil, err
		}
		after := before
		after.AllowedPorts = slices.Clone(before.AllowedPorts)
		if err := update(&after); err != nil {
			return nil, err
		}
		if err := sameIdentity(before, after); err != nil {
			return nil, err
		}
		r := newConnectionRecord(after)
		if err := tx.save(connections, ownedBy(integration)+name, r); err != nil {
			return nil, err
		}
		updated := r.connection(integration, name)
		return []attache.Change{{Connection: &updated}}, nil
	})
}

// DeleteConnection deletes a connection, or fails with [attache.ErrNotFound].
func (s *Store) DeleteConnection(ctx context.Context, integration, name string) error {
	if err := checkNames(integration, name); err != nil {
		return connectionError(name, attache.ErrNotFound)
	}
	return s.update(ctx, func(tx change) ([]attache.Change, error) {
		if err := tx.remove(connections, ownedBy(integration)+name); err != nil {
			return nil, connectionError(name, err)
		}
		return []attache.Change{{
			Deleted:    true,
			Connection: &attache.Connection{Integration: integration, Name: name},
		}}, nil
	})
}

func loadConnection(v view, integration, name string) (attache.Connection, error) {
	if err := checkNames(integration, name); err != nil {
		return attache.Connection{}, connectionError(name, attache.ErrNotFound)
	}
	r, err := load[connectionRecord](v, connections, ownedBy(integration)+name)
	if err != nil {
		return attache.Connection{}, connectionError(name, err)
	}
	return r.connection(integration, name), nil
}

// sameIdentity holds what never changes (rule C3) against a change.
func sameIdentity(before, after attache.Connection) error {
	for _, f := range []struct {
		name string
		same bool
	}{
		{"integration", before.Integration == after.Integration},
		{"name", before.Name == after.Name},
		{"type", before.Type == after.Type},
		{"allowed_domain", before.AllowedDomain == after.AllowedDomain},
		{"allowed_ports", slices.Equal(before.AllowedPorts, after.AllowedPorts)},
		{"header_name", before.HeaderName == after.HeaderName},
		{"created_at", before.CreatedAt.Equal(after.CreatedAt)},
	} {
		if !f.same {
			return &attache.FieldError{
				Field:  f.name,
				Rule:   "never changes after creation",
				Remedy: "delete the connection and make another",
			}
		}
	}
	return nil
}

func connectionError(name string, err error) error { return fmt.Errorf("connection %q: %w", name, err) }
