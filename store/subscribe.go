package store

import (
	"context"
	"errors"
	"iter"

	"attache"
)

type subscriber struct{ fn func(attache.Change) }

// Subscribe calls fn for everything that exists, owners before what they own and
// OAuth clients before the connections that use them, and from then on for every
// change in the order of commits: before the write that made it returns, and
// before the next begins. So who has written can rely on every view being up to
// date, a revocation's above all, also where the write failed at its end and was
// made all the same. A change may be told twice. What has no owner is [ErrCorrupt]:
// an integration that was made anew would get it.
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

// notifyOfWhatIs is notify after a commit that may have been made, or not.
func (s *Store) notifyOfWhatIs(ctx context.Context, changes []attache.Change) error {
	if len(changes) == 0 { // it may not even have begun
		return nil
	}
	return s.view(context.WithoutCancel(ctx), func(v view) error {
		for _, c := range changes {
			now, err := whatIs(v, c)
			if err != nil {
				return err
			}
			s.notify([]attache.Change{now})
		}
		return nil
	})
}

// whatIs is the change that makes of the thing that c names what there is of it.
func whatIs(v view, c attache.Change) (now attache.Change, err error) {
	switch {
	case c.Integration != nil:
		name := c.Integration.Name
		var r integrationRecord
		r, err = load[integrationRecord](v, integrations, name)
		is := r.integration(name)
		now.Integration = &is
	case c.AccessToken != nil:
		owner, id := c.AccessToken.Integration, c.AccessToken.ID
		var r accessTokenRecord
		r, err = load[accessTokenRecord](v, accessTokens, ownedBy(owner)+id)
		is := r.accessToken(owner, id)
		now.AccessToken = &is
	case c.OAuthClient != nil:
		var is attache.OAuthClient
		is, err = loadOAuthClient(v, c.OAuthClient.Integration, c.OAuthClient.Name)
		now.OAuthClient = &is
	case c.Connection != nil:
		var is attache.Connection
		is, err = loadConnection(v, c.Connection.Integration, c.Connection.Name)
		now.Connection = &is
	}
	if errors.Is(err, attache.ErrNotFound) {
		c.Deleted = true
		return c, nil
	}
	return now, err
}
