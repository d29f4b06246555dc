package store

import (
	"context"
	"iter"

	"attache"
)

type subscriber struct{ fn func(attache.Change) }

// Subscribe calls fn for everything that exists, owners before what they own and
// OAuth clients before the connections that use them, and from then on for every
// change in the order of commits: before the write that made it returns, and
// before the next begins. So who has written can rely on every view being up to
// date, a revocation's above all. What has no owner is [ErrCorrupt]: an integration
// that was made anew would get it.
//
// fn is called by one goroutine at a time. It must be quick, must not change
// what it is given, and must call nothing of the store, nor cancel. ctx is for
// the first part alone. After cancel has returned, fn is not called any more.
func (s *Store) Subscribe(ctx context.Context, fn func(attache.Change)) (cancel func(), err error) {
	if err := s.takeTurn(ctx); err != nil {
		return nil, err
	}
	defer s.endTurn()
	if err := s.view(ctx, func(v view) error { return replay(v, fn) }); err != nil {
		return nil, err
	}
	sub := &subscriber{fn}
	s.subscribers[sub] = struct{}{}
	return func() {
		s.turn <- struct{}{}
		defer s.endTurn()
		delete(s.subscribers, sub)
	}, nil
}

func replay(v view, fn func(attache.Change)) error {
	owners := map[string]bool{}
	tokenOwned, clientOwned, connectionOwned := owned[accessTokenRecord](owners), owned[oauthClientRecord](owners), owned[connectionRecord](owners)
	for k, err := range loadAll[integrationRecord](v, integrations, "", "") {
		if err != nil {
			return err
		}
		owners[k.Key] = true
		i := k.Record.integration(k.Key)
		fn(attache.Change{Integration: &i})
	}
	for k, err := range loadAll[accessTokenRecord](v, accessTokens, "", "") {
		if err == nil {
			err = tokenOwned(k)
		}
		if err != nil {
			return err
		}
		t := k.Record.accessToken(k.owner(), k.name())
		fn(attache.Change{AccessToken: &t})
	}
	for k, err := range loadAll[oauthClientRecord](v, oauthClients, "", "") {
		if err == nil {
			err = clientOwned(k)
		}
		if err != nil {
			return err
		}
		c := k.Record.oauthClient(k.owner(), k.name())
		fn(attache.Change{OAuthClient: &c})
	}
	grantOf, stop := grantsInOrder(v)
	defer stop()
	for k, err := range loadAll[connectionRecord](v, connections, "", "") {
		if err == nil {
			err = connectionOwned(k)
		}
		if err != nil {
			return err
		}
		c := k.Record.connection(k.owner(), k.name())
		if c.Type == attache.OAuth {
			if c.Grant, err = grantOf(k.Key); err != nil {
				return connectionError(c.Name, err)
			}
		}
		fn(attache.Change{Connection: &c})
	}
	return nil
}

// grantsInOrder finds the grants of connections whose keys are asked for in
// ascending order. To read along is faster than to look for each.
func grantsInOrder(v view) (of func(key string) (*attache.Grant, error), stop func()) {
	next, stop := iter.Pull2(v.List(grants, "", ""))
	e, err, more := next()
	return func(key string) (*attache.Grant, error) {
		for more && err == nil && e.Key < key {
			e, err, more = next()
		}
		if err != nil || !more || e.Key != key {
			return nil, err
		}
		r, err := decode[grantRecord](v.sealer, grants, e)
		if err != nil {
			return nil, err
		}
		return r.grant(), nil
	}, stop
}

// notify is called by whose turn it is.
func (s *Store) notify(changes []attache.Change) {
	for _, c := range changes {
		for sub := range s.subscribers {
			sub.fn(c)
		}
	}
}
