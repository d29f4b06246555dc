package store

import (
	"context"
	"errors"
	"fmt"

	"attache"
)

// Report says what [Store.Check] found to be sound.
type Report struct {
	Integrations int
	Connections  int
	OAuthClients int
	Grants       int
	AccessTokens int
	AdminTokens  int
	Authorities  int
	Arrivals     int // moves that were imported; who they belonged to may be gone
}

// Check examines the whole database: its pages, that every record unseals in
// its place and decodes, and that what is owned or referred to is there. Writes
// wait meanwhile. What is wrong is one error with all findings, each of which wraps
// [ErrCorrupt]; the report counts the rest.
func (s *Store) Check(ctx context.Context) (Report, error) {
	if err := s.takeTurn(ctx); err != nil {
		return Report{}, err
	}
	defer s.endTurn()
	if err := s.engine.Check(ctx); err != nil {
		return Report{}, err // its transactions cannot be trusted either
	}
	var r Report
	err := s.view(ctx, func(v view) error {
		owners := map[string]bool{}
		found := []error{
			checkBuckets(v),
			examine(v, integrations, &r.Integrations, func(k keyed[integrationRecord]) error {
				owners[k.Key] = true
				return nil
			}),
			checkOAuth(v, owners, &r),
			examine(v, accessTokens, &r.AccessTokens, owned[accessTokenRecord](owners)),
			examine(v, arrivals, &r.Arrivals, func(keyed[arrivalRecord]) error { return nil }),
		}
		ids := map[string]bool{}
		found = append(found, examine(v, adminTokens, &r.AdminTokens, func(k keyed[adminTokenRecord]) error {
			if ids[k.Record.ID] {
				return damaged(fmt.Sprintf("two admin tokens have the ID %q", k.Record.ID))
			}
			ids[k.Record.ID] = true
			return nil
		}))
		all, err := loadAuthorities(v)
		r.Authorities = len(all)
		return errors.Join(append(found, err)...)
	})
	return r, err
}

// checkOAuth examines connections, and what those of type oauth need.
func checkOAuth(v view, owners map[string]bool, r *Report) error {
	clients, authorizable := map[string]bool{}, map[string]bool{}
	clientOwned, connectionOwned := owned[oauthClientRecord](owners), owned[connectionRecord](owners)
	return errors.Join(
		examine(v, oauthClients, &r.OAuthClients, func(k keyed[oauthClientRecord]) error {
			clients[k.Key] = true
			return clientOwned(k)
		}),
		examine(v, connections, &r.Connections, func(k keyed[connectionRecord]) error {
			if k.Record.Type == attache.OAuth {
				authorizable[k.Key] = true
				if !clients[ownedBy(k.owner())+k.Record.OAuthClient] {
					return damaged(fmt.Sprintf("connection %q of integration %q uses OAuth client %q, which does not exist", k.name(), k.owner(), k.Record.OAuthClient))
				}
			}
			return connectionOwned(k)
		}),
		examine(v, grants, &r.Grants, func(k keyed[grantRecord]) error {
			if !authorizable[k.Key] {
				return damaged(fmt.Sprintf("there is a grant for %q of integration %q, which is not an oauth connection", k.name(), k.owner()))
			}
			return nil
		}),
	)
}

// examine goes over a bucket to its end, whatever it meets, and counts the
// records in which nothing is wrong.
func examine[R any](v view, bucket string, sound *int, look func(keyed[R]) error) error {
	var found []error
	for e, err := range v.List(bucket, "", "") {
		if err != nil {
			return errors.Join(append(found, err)...)
		}
		record, err := decode[R](v.sealer, bucket, e)
		if err == nil {
			err = look(keyed[R]{e.Key, record})
		}
		if err != nil {
			found = append(found, err)
			continue
		}
		*sound++
	}
	return errors.Join(found...)
}

// owned says whether a record's owner is among the owners.
func owned[R any](owners map[string]bool) func(keyed[R]) error {
	return func(k keyed[R]) error {
		if !owners[k.owner()] {
			return damaged(fmt.Sprintf("%q belongs to integration %q, which does not exist", k.name(), k.owner()))
		}
		return nil
	}
}
