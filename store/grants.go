package store

import (
	"context"
	"errors"

	"attache"
)

// errNotOAuth: a grant was meant for a connection of another type.
var errNotOAuth = &attache.FieldError{
	Field:  "type",
	Rule:   "is not oauth, and no other connection has a grant",
	Remedy: "replace the connection's credential",
}

// UpdateGrant reads the grant of an oauth connection, lets update change it, and
// writes it back, with no other write in between. Where there is none yet, update
// gets one in the state pending, and it is made. An error of update is returned
// as it is and nothing is written. When UpdateGrant has returned nil, the grant
// outlasts a crash, and every subscriber has been told the connection with it.
//
// Names can be deleted and taken again meanwhile: who comes back with a token
// from the provider looks in update whether this is still the grant that it set
// out with. update must not call the store, and may be called more than once.
func (s *Store) UpdateGrant(ctx context.Context, integration, name string, update func(*attache.Grant) error) error {
	return s.update(ctx, func(tx change) ([]attache.Change, error) {
		c, err := loadConnection(tx.view(), integration, name)
		if err != nil {
			return nil, err
		}
		if c.Type != attache.OAuth {
			return nil, connectionError(name, errNotOAuth)
		}
		if c.Grant == nil {
			c.Grant = &attache.Grant{State: attache.GrantPending}
		}
		if err := update(c.Grant); err != nil {
			return nil, err
		}
		r := newGrantRecord(*c.Grant)
		if err := tx.save(grants, ownedBy(integration)+name, r); err != nil {
			return nil, err
		}
		c.Grant = r.grant() // the other one may still be in update's hands
		return []attache.Change{{Connection: &c}}, nil
	})
}

// withGrant is the connection with its grant, where it has one.
func withGrant(v view, c attache.Connection) (attache.Connection, error) {
	if c.Type != attache.OAuth {
		return c, nil
	}
	r, err := load[grantRecord](v, grants, ownedBy(c.Integration)+c.Name)
	if errors.Is(err, attache.ErrNotFound) {
		return c, nil
	}
	if err != nil {
		return attache.Connection{}, connectionError(c.Name, err)
	}
	c.Grant = r.grant()
	return c, nil
}
