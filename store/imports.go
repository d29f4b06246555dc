package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"attache"
)

// ImportConnection stores a connection of type oauth that was exported elsewhere,
// with its grant, and its OAuth client where the integration has none of that
// name. Where it has, the two have to be the same, or the error is an
// [attache.FieldError] that names what differs.
//
// move is the ID of the move that the connection comes with; empty: it is a copy.
// A move is imported once for ever: again, even after the connection or its
// integration was deleted, is [attache.ErrReplayed]. The name being taken is
// [attache.ErrExists], the integration missing [attache.ErrNotFound].
func (s *Store) ImportConnection(ctx context.Context, move string, client attache.OAuthClient, c attache.Connection) error {
	if err := checkNames(c.Integration, c.Name, client.Name); err != nil {
		return err
	}
	if c.Type != attache.OAuth || client.Integration != c.Integration || client.Name != c.OAuthClient {
		return errors.New("store: the connection is not one of this OAuth client")
	}
	key := ownedBy(c.Integration) + c.Name
	return s.update(ctx, func(tx change) ([]attache.Change, error) {
		if err := requireIntegration(tx.view(), c.Integration); err != nil {
			return nil, err
		}
		if err := arrive(tx, move, c); err != nil {
			return nil, err
		}
		if err := tx.create(connections, key, newConnectionRecord(c)); err != nil {
			return nil, connectionError(c.Name, err)
		}
		if c.Grant != nil {
			if err := tx.save(grants, key, newGrantRecord(*c.Grant)); err != nil {
				return nil, err
			}
		}
		made, err := bring(tx, client)
		if err != nil {
			return nil, err
		}
		imported, err := connectionChange(tx.view(), c.Integration, c.Name)
		return append(made, imported...), err
	})
}

// arrive notes that a move was imported, or finds that it was before.
func arrive(tx change, move string, c attache.Connection) error {
	if move == "" {
		return nil
	}
	if err := checkNames(move); err != nil {
		return err
	}
	err := tx.create(arrivals, move, arrivalRecord{c.Integration, c.Name, stored(c.CreatedAt)})
	if errors.Is(err, attache.ErrExists) {
		return fmt.Errorf("the move %s: %w", move, attache.ErrReplayed)
	}
	return err
}

// bring makes the OAuth client, or finds that it is there already.
func bring(tx change, client attache.OAuthClient) ([]attache.Change, error) {
	there, err := loadOAuthClient(tx.view(), client.Integration, client.Name)
	switch {
	case errors.Is(err, attache.ErrNotFound):
		if err := tx.save(oauthClients, ownedBy(client.Integration)+client.Name, newOAuthClientRecord(client)); err != nil {
			return nil, err
		}
		return oauthClientChange(tx.view(), client.Integration, client.Name)
	case err != nil:
		return nil, err
	}
	if differ := differences(there, client); len(differ) > 0 {
		return nil, &attache.FieldError{
			Field:  "oauth_client",
			Rule:   "differs from the one of that name here, in " + strings.Join(differ, ", "),
			Remedy: "make them the same, or import into another integration",
		}
	}
	return nil, nil
}

// differences names the fields in which two OAuth clients are not the same
// registration.
func differences(a, b attache.OAuthClient) []string {
	b.CreatedAt = a.CreatedAt // when each was made says nothing
	var differ []string
	for _, f := range slices.Concat(registration(a, b), []sameness{
		{"client_id", a.ClientID == b.ClientID},
		{"client_secret", a.ClientSecret.Equal(b.ClientSecret)},
		{"private_key", a.Provider.PrivateKey.Equal(b.Provider.PrivateKey)},
		{"certificate", a.Provider.Certificate.Equal(b.Provider.Certificate)},
	}) {
		if !f.same {
			differ = append(differ, f.field)
		}
	}
	return differ
}
