package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"

	"attache"
)

// CreateAccessToken stores an access token. The ID being taken is
// [attache.ErrExists], the integration missing [attache.ErrNotFound].
func (s *Store) CreateAccessToken(ctx context.Context, t attache.AccessToken) error {
	if err := checkNames(t.Integration, t.ID); err != nil {
		return err
	}
	r := accessTokenRecord{t.Hash, stored(t.CreatedAt), stored(t.ExpiresAt)}
	return s.update(ctx, func(c change) ([]attache.Change, error) {
		if err := requireIntegration(c.view(), t.Integration); err != nil {
			return nil, err
		}
		if err := c.create(accessTokens, ownedBy(t.Integration)+t.ID, r); err != nil {
			return nil, tokenError("access token", t.ID, err)
		}
		created := r.accessToken(t.Integration, t.ID)
		return []attache.Change{{AccessToken: &created}}, nil
	})
}

// AccessTokens returns the integration's access tokens, the oldest first.
func (s *Store) AccessTokens(ctx context.Context, integration string) (all []attache.AccessToken, err error) {
	err = s.view(ctx, func(v view) error {
		if err := requireIntegration(v, integration); err != nil {
			return err
		}
		for k, err := range loadAll[accessTokenRecord](v, accessTokens, ownedBy(integration), "") {
			if err != nil {
				return err
			}
			all = append(all, k.Record.accessToken(integration, k.name()))
		}
		return nil
	})
	slices.SortStableFunc(all, func(a, b attache.AccessToken) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return all, err
}

// DeleteAccessToken deletes an access token, or fails with [attache.ErrNotFound].
func (s *Store) DeleteAccessToken(ctx context.Context, integration, id string) error {
	if err := checkNames(integration, id); err != nil {
		return tokenError("access token", id, attache.ErrNotFound)
	}
	return s.update(ctx, func(c change) ([]attache.Change, error) {
		key := ownedBy(integration) + id
		r, err := load[accessTokenRecord](c.view(), accessTokens, key)
		if err != nil {
			return nil, tokenError("access token", id, err)
		}
		deleted := r.accessToken(integration, id)
		return []attache.Change{{Deleted: true, AccessToken: &deleted}}, c.Delete(accessTokens, key)
	})
}

// CreateAdminToken stores an admin token. Its ID or its hash being taken is
// [attache.ErrExists].
func (s *Store) CreateAdminToken(ctx context.Context, t attache.AdminToken) error {
	if err := checkNames(t.ID); err != nil {
		return err
	}
	r := adminTokenRecord{t.ID, t.Role, stored(t.CreatedAt), stored(t.ExpiresAt)}
	return s.update(ctx, func(c change) ([]attache.Change, error) {
		taken, err := adminTokenKey(c.view(), t.ID)
		if err == nil && taken != "" {
			err = attache.ErrExists
		}
		if err == nil {
			err = c.create(adminTokens, hex.EncodeToString(t.Hash[:]), r)
		}
		if err != nil {
			return nil, tokenError("admin token", t.ID, err)
		}
		return nil, nil
	})
}

// AdminTokens returns all admin tokens, the oldest first.
func (s *Store) AdminTokens(ctx context.Context) (all []attache.AdminToken, err error) {
	err = s.view(ctx, func(v view) error {
		for k, err := range loadAll[adminTokenRecord](v, adminTokens, "", "") {
			if err != nil {
				return err
			}
			var hash attache.TokenHash
			if n, err := hex.Decode(hash[:], []byte(k.Key)); err != nil || n != len(hash) {
				return damaged("the key of an admin token is not a hash")
			}
			all = append(all, k.Record.adminToken(hash))
		}
		return nil
	})
	slices.SortStableFunc(all, func(a, b attache.AdminToken) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return all, err
}

// AdminToken looks up an admin token by its hash, or fails with
// [attache.ErrNotFound]. It may have expired.
func (s *Store) AdminToken(ctx context.Context, hash attache.TokenHash) (t attache.AdminToken, err error) {
	err = s.view(ctx, func(v view) error {
		r, err := load[adminTokenRecord](v, adminTokens, hex.EncodeToString(hash[:]))
		if err != nil {
			return fmt.Errorf("admin token: %w", err)
		}
		t = r.adminToken(hash)
		return nil
	})
	return t, err
}

// DeleteAdminToken deletes an admin token by its ID, or fails with
// [attache.ErrNotFound].
func (s *Store) DeleteAdminToken(ctx context.Context, id string) error {
	return s.update(ctx, func(c change) ([]attache.Change, error) {
		key, err := adminTokenKey(c.view(), id)
		if err == nil && key == "" {
			err = attache.ErrNotFound
		}
		if err != nil {
			return nil, tokenError("admin token", id, err)
		}
		return nil, c.Delete(adminTokens, key)
	})
}

// adminTokenKey finds a token by its ID, or returns "". It looks at all of them:
// they are few, and it is the look-up by hash that happens at each request.
func adminTokenKey(v view, id string) (string, error) {
	for k, err := range loadAll[adminTokenRecord](v, adminTokens, "", "") {
		if err != nil {
			return "", err
		}
		if k.Record.ID == id {
			return k.Key, nil
		}
	}
	return "", nil
}

func tokenError(kind, id string, err error) error { return fmt.Errorf("%s %q: %w", kind, id, err) }
