package oauth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"attache"
)

// ErrStopped: the keeper has ended, and refreshes nothing any more.
var ErrStopped = errors.New("the program is shutting down")

// KeeperOptions tune a [Keeper].
type KeeperOptions struct {
	// OnState is told of each attempt to get a token and each change of state, in
	// order for one connection, by several goroutines. It must be quick. Nil: nobody
	// is told.
	OnState func(Transition)
	// Parallel bounds the refreshes that are under way. Zero: 128.
	Parallel int
	// ParallelPerHost bounds those at one provider host, all subdomains of an OAuth
	// client being one. Zero: 32.
	ParallelPerHost int
}

// Transition is one step in the life of a grant. It holds no secret.
type Transition struct {
	Integration string
	Connection  string
	From, To    attache.GrantState // equal where an attempt changed nothing else
	Generation  uint64             // of the access token, afterwards
	Code        string             // why it failed: the provider's error code, or one of ours; empty: it did not
	RetryAt     time.Time          // of the next try; zero: none is planned
	Took        time.Duration      // of the call to the provider; zero: there was none
}

// Keeper keeps the grants of all connections alive.
//
// It learns what there is from [Keeper.Changed], never by reading through the
// storage, and knows of each connection only when it is due. [Keeper.Run] owns
// every goroutine and does the work; the other methods only ask for it. All may
// be called from several goroutines.
type Keeper struct {
	endpoint *Endpoint
	storage  Storage
	onState  func(Transition)
	wake     chan struct{} // Run has something to look at

	// mu guards what follows. It is held for no I/O, and taken inside the storage's
	// writes, by Changed.
	mu       sync.Mutex
	clock    clock
	entries  map[key]*entry
	clients  map[key]registration
	orphans  int // entries whose client is not in clients
	schedule schedule
	lanes    lanes
	stopped  bool
}

// key names a connection or an OAuth client.
type key struct{ integration, name string }

// entry is what the keeper knows of one connection. There may be very many.
type entry struct {
	conn    *attache.Connection // as last reported; shared with others, never changed
	flight  *flight             // queued or under way; nil: none
	expires instant             // when the access token can no longer be sent
	due     instant             // when the next flight begins
	place   int                 // in the schedule; negative: not in it
	hold    instant             // nothing is tried before, since the storage failed
	calm    instant             // when what was forced is made up for, one refresh each forcePause
	unsent  *unsent             // the last intent that could not be written; nil: none
	orphan  bool
}

func (e *entry) key() key { return key{e.conn.Integration, e.conn.Name} }

func (e *entry) client() key { return key{e.conn.Integration, e.conn.OAuthClient} }

func (e *entry) is(c *attache.Connection) bool { return e.conn.CreatedAt.Equal(c.CreatedAt) }

func (e *entry) generation() uint64 {
	if e.conn.Grant == nil {
		return 0
	}
	return e.conn.Grant.Generation
}

// usable tells whether the access token may be sent: it lives, and nobody has
// said that it should not.
func (e *entry) usable(now instant) bool {
	g := e.conn.Grant
	return g != nil && !g.AccessToken.IsZero() && now < e.expires &&
		g.State != attache.GrantNeedsReauth && g.State != attache.GrantPending && g.State != attache.GrantMoved
}

// registration is what a keeper remembers of an OAuth client.
type registration struct {
	grantType attache.GrantType
	tokenURL  string // where its refreshes go
	keepalive time.Duration
	updated   time.Time
}

// NewKeeper makes a Keeper. It does nothing until [Keeper.Run].
func NewKeeper(e *Endpoint, s Storage, o KeeperOptions) *Keeper {
	if o.Parallel == 0 {
		o.Parallel = 128
	}
	if o.ParallelPerHost == 0 {
		o.ParallelPerHost = 32
	}
	if o.OnState == nil {
		o.OnState = func(Transition) {}
	}
	return &Keeper{
		endpoint: e,
		storage:  s,
		onState:  o.OnState,
		wake:     make(chan struct{}, 1),
		clock:    newClock(e.options.Now),
		entries:  map[key]*entry{},
		clients:  map[key]registration{},
		lanes:    newLanes(o.Parallel, o.ParallelPerHost),
	}
}

// Changed takes note of a change of the store. It must be told all that exists,
// and then every change before the write that made it returns. It is quick, does
// no I/O, and keeps what it is given without changing it.
func (k *Keeper) Changed(c attache.Change) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case c.Connection != nil && c.Deleted:
		k.forget(k.entries[key{c.Connection.Integration, c.Connection.Name}])
	case c.Connection != nil && c.Connection.Type == attache.OAuth:
		k.learn(c.Connection)
	case c.OAuthClient != nil && c.Deleted:
		delete(k.clients, key{c.OAuthClient.Integration, c.OAuthClient.Name})
	case c.OAuthClient != nil:
		k.register(c.OAuthClient)
	case c.Integration != nil && c.Deleted:
		for id, e := range k.entries {
			if id.integration == c.Integration.Name {
				k.forget(e)
			}
		}
		maps.DeleteFunc(k.clients, func(id key, _ registration) bool { return id.integration == c.Integration.Name })
	}
}

func (k *Keeper) learn(c *attache.Connection) {
	id := key{c.Integration, c.Name}
	e := k.entries[id]
	first := e == nil
	if first {
		e = &entry{place: -1, expires: never, due: never}
		k.entries[id] = e
	}
	// What this clock knows of a token is kept for as long as it is that token.
	same := !first && e.conn.Grant != nil && c.Grant != nil &&
		e.conn.Grant.Generation == c.Grant.Generation && e.conn.Grant.ExpiresAt.Equal(c.Grant.ExpiresAt)
	if c.Grant != nil && !same {
		now, wall := k.clock.now()
		e.expires = expiry(c.Grant, now, wall)
		if e.flight == nil { // a person has authorized it
			e.calm = now
		}
	}
	e.conn = c
	if e.flight == nil {
		k.plan(e, first)
	}
}

// plan schedules an entry that has no flight. first says that it was not known
// before.
func (k *Keeper) plan(e *entry, first bool) {
	r, known := k.clients[e.client()]
	if known == e.orphan {
		e.orphan = !known
		if known {
			k.orphans--
		} else {
			k.orphans++
		}
	}
	now, wall := k.clock.now()
	when := due(e.conn, r, e.expires, now, wall)
	g := e.conn.Grant
	if first && g != nil && g.State == attache.GrantConfigError && r.updated.After(g.IssuedAt) {
		when = now // it may have been edited while we did not run
	}
	if when <= now && g != nil {
		when = now.add(time.Duration(float64(spread) * fraction(e.conn)))
	}
	k.planAt(e, when)
}

func (k *Keeper) planAt(e *entry, when instant) {
	k.schedule.set(e, when)
	if e.place == 0 {
		k.look()
	}
}

// look makes Run look at what is due.
func (k *Keeper) look() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *Keeper) forget(e *entry) {
	if e == nil {
		return
	}
	delete(k.entries, e.key())
	k.schedule.set(e, never)
	if e.orphan {
		k.orphans--
	}
	if e.flight != nil {
		e.flight.gone.Store(true)
	}
}

func (k *Keeper) register(c *attache.OAuthClient) {
	id := key{c.Integration, c.Name}
	r := registration{c.GrantType, c.TokenURL, c.Provider.Keepalive, c.UpdatedAt}
	if c.Provider.RefreshURL != "" {
		r.tokenURL = c.Provider.RefreshURL
	}
	if r.keepalive == 0 {
		r.keepalive = defaultKeepalive
	}
	_, known := k.clients[id]
	k.clients[id] = r
	if !known && k.orphans == 0 {
		return
	}
	for _, e := range k.entries {
		if e.client() != id {
			continue
		}
		switch g := e.conn.Grant; {
		case e.flight != nil:
			e.flight.edited = true
		case known && g != nil && correctable(g):
			now, _ := k.clock.now()
			k.planAt(e, now)
		default:
			k.plan(e, !known)
		}
	}
}

// correctable tells whether an edit of the OAuth client may be what a grant waits
// for: the provider refuses the client, or the certificate in the handshake.
func correctable(g *attache.Grant) bool {
	return g.State == attache.GrantConfigError || g.State == attache.GrantRetrying && g.ErrorCode == CodeTLS
}

// find returns the entry of a connection. One that was made under its name since is
// another, with other domains.
func (k *Keeper) find(c *attache.Connection) (*entry, error) {
	e := k.entries[key{c.Integration, c.Name}]
	if e == nil || !e.is(c) {
		return nil, notFound(c.Name)
	}
	return e, nil
}

// succeeded tells whether another connection has the name of c by now.
func (k *Keeper) succeeded(c *attache.Connection) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.entries[key{c.Integration, c.Name}]
	return e != nil && !e.is(c)
}

func notFound(connection string) error {
	return fmt.Errorf("connection %q: %w", connection, attache.ErrNotFound)
}

// Fresh returns a connection's grant with an access token that may be sent. With
// a token that is valid it returns at once. With none, or one that has expired,
// it waits for a refresh, as long as ctx allows; ctx ends the waiting and nothing
// else.
//
// A usedGeneration other than zero says that the upstream refused the token of
// that generation. If that is still the newest, a refresh is forced, one for all
// who ask: when it has succeeded there is a newer one, and when it has failed the
// state says when to try again. An upstream that refuses every token forces a few, and
// then one each half minute.
//
// There being no token to be had is a [StateError]; the connection not existing
// any more, although another may have its name, is [attache.ErrNotFound].
func (k *Keeper) Fresh(ctx context.Context, c *attache.Connection, usedGeneration uint64) (attache.Grant, error) {
	k.mu.Lock()
	e, err := k.find(c)
	if err != nil {
		k.mu.Unlock()
		return attache.Grant{}, err
	}
	grant, f, err := k.ask(e, usedGeneration)
	k.mu.Unlock()
	if f == nil {
		return grant, err
	}
	select {
	case <-f.done:
		return f.grant, f.err
	case <-ctx.Done():
		return attache.Grant{}, ctx.Err()
	}
}

// ask returns a grant, a flight to wait for, or why there is neither.
func (k *Keeper) ask(e *entry, used uint64) (attache.Grant, *flight, error) {
	now, wall := k.clock.now()
	g := e.conn.Grant
	refused := used != 0 && used == e.generation()
	switch {
	case e.usable(now) && !refused:
		return *g, nil, nil
	case k.stopped:
		return attache.Grant{}, nil, ErrStopped
	case e.flight != nil:
		k.hurry(e.flight)
		return attache.Grant{}, e.flight, nil
	}
	if err := k.refusal(e, refused, now, wall); err != nil {
		return attache.Grant{}, nil, err
	}
	if refused {
		e.calm = max(e.calm, now).add(forcePause)
	}
	return attache.Grant{}, k.launch(e, urgent), nil
}

// Look returns the grant with a token that Fresh would return at once, or the
// error; neither where it would wait for a refresh. It begins none.
func (k *Keeper) Look(c *attache.Connection) (attache.Grant, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e, err := k.find(c)
	if err != nil {
		return attache.Grant{}, err
	}
	now, wall := k.clock.now()
	switch {
	case e.usable(now):
		return *e.conn.Grant, nil
	case e.flight != nil:
		return attache.Grant{}, nil
	}
	return attache.Grant{}, k.refusal(e, false, now, wall)
}

// refusal is why no refresh may be begun for an entry whose token cannot be used,
// or was refused.
func (k *Keeper) refusal(e *entry, refused bool, now instant, wall time.Time) error {
	g := e.conn.Grant
	renewable := k.clients[e.client()].grantType == attache.ClientCredentials
	state := stateError(g)
	switch {
	case state.State == attache.GrantPending && !renewable,
		state.State == attache.GrantNeedsReauth,
		state.State == attache.GrantConfigError,
		state.State == attache.GrantMoved,
		// An edit of the client makes it due before, and a start that is large, after.
		state.State == attache.GrantRetrying && now < e.due && now < retry(g, now, wall):
		return state
	case now < e.hold:
		return &StateError{State: state.State, Code: CodeStorage}
	case refused && e.usable(now) && now.until(e.calm) > (forceBurst-1)*forcePause,
		refused && g.RefreshToken.IsZero() && !renewable:
		return &StateError{State: g.State, Code: CodeTokenRefused}
	}
	return nil
}

// launch queues a flight for an entry that has none.
func (k *Keeper) launch(e *entry, class int) *flight {
	f := &flight{
		entry:      e,
		key:        e.key(),
		host:       hostOf(k.clients[e.client()].tokenURL),
		generation: e.generation(),
		urgent:     class == urgent,
		done:       make(chan struct{}),
	}
	e.flight = f
	k.schedule.set(e, never)
	k.lanes.add(f, class)
	k.look()
	return f
}

// hurry lets a flight that is queued overtake those that nobody waits for.
func (k *Keeper) hurry(f *flight) {
	if !f.started && !f.urgent {
		f.urgent = true
		k.lanes.add(f, urgent)
		k.look()
	}
}

// Adopt stores what a person's authorization gave a connection, in the place of
// its old grant; asked is the scope that was asked for. When Adopt fails, the old
// grant is as it was. A refresh of the old grant that is under way is without
// effect. The connection being gone, whoever has its name by now, is
// [attache.ErrNotFound].
func (k *Keeper) Adopt(ctx context.Context, c *attache.Connection, t Token, asked string) error {
	var before attache.GrantState
	var after attache.Grant
	err := k.storage.UpdateGrant(ctx, c.Integration, c.Name, func(g *attache.Grant) error {
		if k.succeeded(c) { // which was told before this write began
			return notFound(c.Name)
		}
		before = g.State
		if err := replace(g, t, asked); err != nil {
			return err
		}
		after = *g
		return nil
	})
	if err != nil {
		return err
	}
	k.tell(key{c.Integration, c.Name}, before, after, 0)
	return nil
}

func (k *Keeper) client(ctx context.Context, c *attache.Connection) (*Client, error) {
	registered, err := k.storage.OAuthClient(ctx, c.Integration, c.OAuthClient)
	if err != nil {
		return nil, err
	}
	return k.endpoint.Client(registered, c.Subdomain)
}

func (k *Keeper) tell(id key, before attache.GrantState, g attache.Grant, took time.Duration) {
	if before == "" {
		before = attache.GrantPending
	}
	k.onState(Transition{
		Integration: id.integration,
		Connection:  id.name,
		From:        before,
		To:          g.State,
		Generation:  g.Generation,
		Code:        g.ErrorCode,
		RetryAt:     g.RetryAt,
		Took:        took,
	})
}
