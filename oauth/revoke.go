package oauth

import (
	"context"
	"sync"

	"attache"
	"attache/secret"
)

// revokeParallel bounds how many of many revocations are under way.
const revokeParallel = 8

// Revocation is a grant that is about to lose its connection or has lost it, with
// what it takes to revoke it at its provider. It lives in memory alone.
type Revocation struct {
	client *Client
	token  secret.Text
}

// Revocation readies the revocation of a connection's grant, for who deletes the
// connection together with its OAuth client next, or has deleted it alone. Where there is nothing to
// revoke, for a grant that was moved is another machine's by now, or no revocation
// URL to revoke it at, it is nil.
func (k *Keeper) Revocation(ctx context.Context, c *attache.Connection) (*Revocation, error) {
	if c.Grant == nil || c.Grant.State == attache.GrantMoved {
		return nil, nil
	}
	client, err := k.client(ctx, c)
	if err != nil || client.registration.Provider.RevocationURL == "" {
		return nil, err
	}
	token := c.Grant.RefreshToken
	if token.IsZero() {
		token = c.Grant.AccessToken
	}
	return &Revocation{client, token}, nil
}

// Revoke tells the provider that the grant is no longer used (RFC 7009).
func (r *Revocation) Revoke(ctx context.Context) error { return r.client.Revoke(ctx, r.token) }

// RevokeAll revokes grants, a few at a time. It returns how many it could not,
// those included that it had not come to when ctx ended, and why not the first of
// them.
func RevokeAll(ctx context.Context, all []*Revocation) (failed int, first error) {
	var mu sync.Mutex // guards failed and first
	try := func(r *Revocation) {
		if err := r.Revoke(ctx); err != nil {
			mu.Lock()
			defer mu.Unlock()
			if failed++; failed == 1 {
				first = err
			}
		}
	}
	work := make(chan *Revocation)
	var workers sync.WaitGroup
	for range min(revokeParallel, len(all)) {
		workers.Go(func() {
			for r := range work {
				try(r)
			}
		})
	}
	for _, r := range all {
		work <- r
	}
	close(work)
	workers.Wait()
	return failed, first
}

// revokeLost gives back tokens that came for a connection that is gone.
func revokeLost(ctx context.Context, client *Client, t Token) {
	for _, token := range []secret.Text{t.Refresh, t.Access} {
		// Whether it works out changes nothing: nobody is left to be told.
		_ = client.Revoke(ctx, token)
	}
}
