package store

import (
	"context"
	"fmt"

	"attache"
)

// CreateIntegration stores a new integration. The name being taken is
// [attache.ErrExists].
func (s *Store) CreateIntegration(ctx context.Context, i attache.Integration) error {
	if err := checkNames(i.Name); err != nil {
		return err
	}
	r := integrationRecord{CreatedAt: stored(i.CreatedAt)}
	return s.update(ctx, func(c change) ([]attache.Change, error) {
		if err := c.create(integrations, i.Name, r); err != nil {
			return nil, integrationError(i.Name, err)
		}
		created := r.integration(i.Name)
		return []attache.Change{{Integration: &created}}, nil
	})
}

// Integrations returns all integrations, by name.
func (s *Store) Integrations(ctx context.Context) (all []attache.Integration, err error) {
	err = s.view(ctx, func(v view) error {
		for k, err := range loadAll[integrationRecord](v, integrations, "", "") {
			if err != nil {
				return err
			}
			all = append(all, k.Record.integration(k.Key))
		}
		return nil
	})
	return all, err
}

// DeleteIntegration deletes an integration and all that it owns. Where there is
// none of that name the error is [attache.ErrNotFound].
func (s *Store) DeleteIntegration(ctx context.Context, name string) error {
	if err := checkNames(name); err != nil {
		return integrationError(name, attache.ErrNotFound)
	}
	return s.update(ctx, func(c change) ([]attache.Change, error) {
		if err := c.remove(integrations, name); err != nil {
			return nil, integrationError(name, err)
		}
		for _, bucket := range []string{connections, grants, oauthClients, accessTokens} {
			if err := c.removeAll(bucket, ownedBy(name)); err != nil {
				return nil, err
			}
		}
		return []attache.Change{{Deleted: true, Integration: &attache.Integration{Name: name}}}, nil
	})
}

// removeAll deletes the keys that begin with prefix.
func (c change) removeAll(bucket, prefix string) error {
	var keys []string
	for e, err := range c.List(bucket, prefix, "") {
		if err != nil {
			return err
		}
		keys = append(keys, e.Key)
	}
	for _, key := range keys {
		if err := c.Delete(bucket, key); err != nil {
			return err
		}
	}
	return nil
}

// requireIntegration fails with attache.ErrNotFound where there is none.
func requireIntegration(v view, name string) error {
	_, err := load[integrationRecord](v, integrations, name)
	return integrationError(name, err)
}

func integrationError(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("integration %q: %w", name, err)
}
