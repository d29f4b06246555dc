package oauth

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"attache"
	"attache/secret"
)

const (
	lookEvery  = time.Minute      // at the clocks, since a jump of the wall clock moves what is due
	maxLaunch  = 1024             // begun at once, so that requests do not wait for a start that is large
	writePause = time.Second      // between two tries to store a token
	lastWrites = 5                // tries to store a token once the program is ending
	forceBurst = 4                // refreshes that an upstream may force at once
	forcePause = 30 * time.Second // between two of them, on the whole
	storePause = 5 * time.Second  // before a connection is tried again whose record could not be read or written
)

// Why a flight has no effect.
var (
	errSuperseded = errors.New("the grant is another one by now")
	errNoRefresh  = &Error{Kind: GrantRefused, Code: CodeNoRefreshToken, Unsent: true}
)

// flight is one attempt to get a new access token. Whoever needs one waits for
// done.
type flight struct {
	key        key
	host       string
	generation uint64 // of the token that is to be replaced
	gone       atomic.Bool

	// Guarded by Keeper.mu.
	entry   *entry
	urgent  bool
	started bool
	edited  bool // the OAuth client was edited meanwhile

	done  chan struct{} // closed when what follows is set
	grant attache.Grant
	err   error
}

// LongestEnd is how long [Keeper.Run] may take to end: a call that has just begun,
// and then a store that refuses what it got. Who ends the program sooner may lose a
// grant, whose refresh token is spent by then.
const LongestEnd = defaultTimeout + lastWrites*writePause

// Run keeps grants alive until ctx ends; it may run once. Refreshes that are
// under way then are finished first, within [LongestEnd] where the endpoint's
// timeout is the default.
func (k *Keeper) Run(ctx context.Context) error {
	var flights sync.WaitGroup
	defer flights.Wait()
	// A refresh belongs to no request and ends with its answer stored, not with ctx.
	detached := context.WithoutCancel(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			k.stop()
			return nil
		case <-k.wake:
		case <-timer.C:
		}
		timer.Reset(k.begin(func(f *flight) {
			flights.Go(func() {
				grant, err := k.fly(detached, ctx.Done(), f)
				k.land(f, grant, err)
			})
		}))
	}
}

// begin starts what is due and has room, and returns when to look again.
func (k *Keeper) begin(start func(*flight)) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, _ := k.clock.now()
	wait := lookEvery
	for range maxLaunch {
		e := k.schedule.next(now)
		if e == nil {
			break
		}
		k.launch(e, background)
	}
	for f := k.lanes.start(); f != nil; f = k.lanes.start() {
		start(f)
	}
	if len(k.schedule) > 0 {
		wait = min(wait, max(0, now.until(k.schedule[0].due)))
	}
	return wait
}

// stop turns away who waits for a flight that has not started.
func (k *Keeper) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopped = true
	for _, f := range k.lanes.clear() {
		f.entry.flight = nil
		f.err = ErrStopped
		close(f.done)
	}
}

// land ends a flight: it lets go of who waits, and plans the next one.
func (k *Keeper) land(f *flight, grant attache.Grant, err error) {
	f.grant, f.err = grant, err
	k.mu.Lock()
	defer k.mu.Unlock()
	e := f.entry
	e.flight = nil
	k.lanes.end(f)
	close(f.done)
	k.look() // there is room again
	if f.gone.Load() {
		return
	}
	k.plan(e, false)
	now, _ := k.clock.now()
	var state *StateError
	switch {
	case f.edited && e.conn.Grant != nil && e.conn.Grant.State == attache.GrantConfigError:
		k.planAt(e, now)
	case errors.Is(err, fs.ErrClosed):
		k.planAt(e, never) // the program is ending
	case err != nil && !errors.As(err, &state):
		// The storage failed, so the record does not say when to try again.
		e.hold = now.add(storePause + rand.N(storePause))
		k.planAt(e, e.hold)
	}
}

// fly gets a new token for a connection and stores it. ending is closed when the
// program is about to end.
func (k *Keeper) fly(ctx context.Context, ending <-chan struct{}, f *flight) (attache.Grant, error) {
	c, err := k.read(ctx, f)
	if err != nil {
		return attache.Grant{}, k.storageFailed(f, err)
	}
	if c.Grant != nil && (c.Grant.Generation != f.generation || c.Grant.State == attache.GrantMoved) {
		return result(c.Grant)
	}
	client, err := k.client(ctx, &c)
	a := attempt{keeper: k, flight: f, client: client, asked: c.Scope, ending: ending}
	switch {
	case err != nil && asError(err).Code == CodeStorage:
		return attache.Grant{}, k.storageFailed(f, err)
	case err != nil:
		return a.store(ctx, Token{}, err)
	}
	if a.asked == "" {
		a.asked = client.registration.DefaultScopes
	}
	begun := time.Now()
	if client.registration.GrantType == attache.ClientCredentials {
		t, err := client.Credentials(ctx, c.Scope)
		a.took = time.Since(begun)
		return a.store(ctx, t, nobodysGrant(err))
	}
	if c.Grant == nil || c.Grant.State == attache.GrantPending {
		return attache.Grant{}, stateError(c.Grant)
	}
	refresh, err := a.intend(ctx)
	if err != nil {
		return a.unintended(ctx, err)
	}
	t, err := client.Refresh(ctx, refresh)
	a.took = time.Since(begun)
	return a.store(ctx, t, err)
}

// read reads the connection that a flight is for.
func (k *Keeper) read(ctx context.Context, f *flight) (attache.Connection, error) {
	c, err := k.storage.Connection(ctx, f.key.integration, f.key.name)
	if err == nil && f.gone.Load() { // what was read may be another of that name
		err = notFound(f.key.name)
	}
	return c, err
}

// nobodysGrant turns the refusal of a grant into one of the client: with client
// credentials there is no person who could do anything about it.
func nobodysGrant(err error) error {
	var refused *Error
	if !errors.As(err, &refused) || refused.Kind != GrantRefused {
		return err
	}
	of := *refused
	of.Kind = ClientRefused
	return &of
}

// attempt is what a flight knows on its way.
type attempt struct {
	keeper *Keeper
	flight *flight
	client *Client
	asked  string          // scope
	doubt  bool            // the refresh token may have been spent before
	took   time.Duration   // of the call
	ending <-chan struct{} // closed when the program is about to end
}

// intend writes down that the refresh token is about to be spent, and returns
// it.
func (a *attempt) intend(ctx context.Context) (refresh secret.Text, err error) {
	var before, after attache.Grant
	now, last := a.keeper.wall(), a.keeper.unsentOf(a.flight)
	err = a.update(ctx, func(g *attache.Grant) error {
		if g.RefreshToken.IsZero() {
			return errNoRefresh
		}
		last.undo(g)
		before, a.doubt = *g, g.Intent != nil
		if err := intend(g, now); err != nil {
			return err
		}
		after = *g
		return nil
	})
	if err != nil {
		if after.Intent != nil {
			a.keeper.unsend(a.flight, &unsent{now, before.State, before.Intent})
		}
		return secret.Text{}, err
	}
	after.ErrorCode = "" // of the attempt before
	a.keeper.tell(a.flight.key, before.State, after, 0)
	return after.RefreshToken, nil
}

// unsent is an intent that no call followed, since it could not be written. It may be
// on disk all the same, where it would be taken for a crash.
type unsent struct {
	at     time.Time
	state  attache.GrantState // before
	intent *attache.Intent    // before
}

// undo puts back what was before the intent, where it is there.
func (u *unsent) undo(g *attache.Grant) {
	if u != nil && crashed(g) && g.Intent.At.Equal(u.at) {
		g.State, g.Intent = u.state, u.intent
	}
}

func (k *Keeper) unsentOf(f *flight) *unsent {
	k.mu.Lock()
	defer k.mu.Unlock()
	return f.entry.unsent
}

func (k *Keeper) unsend(f *flight, u *unsent) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f.entry.unsent = u
}

// unintended ends an attempt that found at its first write that it must not go
// on.
func (a *attempt) unintended(ctx context.Context, err error) (attache.Grant, error) {
	var refused *Error
	switch {
	case errors.As(err, &refused):
		return a.store(ctx, Token{}, refused)
	case errors.Is(err, errSuperseded):
		return a.superseded(ctx)
	}
	return attache.Grant{}, a.keeper.storageFailed(a.flight, err)
}

// store writes down how the call ended, and only then returns what it gave. It
// tries until the store takes it: a token that the provider has replaced is worth
// nothing any more, and an intent without a result is taken for a crash.
func (a *attempt) store(ctx context.Context, t Token, failed error) (attache.Grant, error) {
	var before attache.GrantState
	var after attache.Grant
	now := a.keeper.wall()
	write := func() error {
		return a.update(ctx, func(g *attache.Grant) error {
			before = g.State
			err := failed
			if err == nil {
				err = accept(g, t, a.asked)
			}
			if err != nil {
				reject(g, t, err, now, a.doubt)
			}
			after = *g
			return nil
		})
	}
	err := write()
	for left := lastWrites; err != nil && left > 0 && mayPass(err); err = write() {
		<-time.After(writePause)
		select {
		case <-a.ending:
			left--
		default:
		}
	}
	switch {
	case errors.Is(err, errSuperseded):
		return a.superseded(ctx)
	case err != nil:
		if errors.Is(err, attache.ErrNotFound) && failed == nil {
			revokeLost(ctx, a.client, t)
		}
		return attache.Grant{}, a.keeper.storageFailed(a.flight, err)
	}
	a.keeper.tell(a.flight.key, before, after, a.took)
	return result(&after)
}

// mayPass tells whether a write may succeed when it is tried again.
func mayPass(err error) bool {
	return !errors.Is(err, errSuperseded) && !errors.Is(err, attache.ErrNotFound) && !errors.Is(err, fs.ErrClosed)
}

// update changes the grant, if it is still the one that the flight set out for.
func (a *attempt) update(ctx context.Context, change func(*attache.Grant) error) error {
	f := a.flight
	return a.keeper.storage.UpdateGrant(ctx, f.key.integration, f.key.name, func(g *attache.Grant) error {
		switch {
		case f.gone.Load():
			return attache.ErrNotFound // the name may be another connection's by now
		case g.Generation != f.generation || g.State == attache.GrantNeedsReauth || g.State == attache.GrantMoved:
			return errSuperseded
		}
		return change(g)
	})
}

// superseded returns what is there instead.
func (a *attempt) superseded(ctx context.Context) (attache.Grant, error) {
	c, err := a.keeper.read(ctx, a.flight)
	if err != nil {
		return attache.Grant{}, a.keeper.storageFailed(a.flight, err)
	}
	return result(c.Grant)
}

// result is what a flight gives to those who waited.
func result(g *attache.Grant) (attache.Grant, error) {
	if g == nil || g.State != attache.GrantActive {
		return attache.Grant{}, stateError(g)
	}
	return *g, nil
}

// storageFailed tells of a failure that could not be written down, unless it is
// that the connection is gone.
func (k *Keeper) storageFailed(f *flight, err error) error {
	if errors.Is(err, attache.ErrNotFound) {
		return err
	}
	k.mu.Lock()
	g := attache.Grant{State: attache.GrantPending}
	if f.entry.conn.Grant != nil {
		g = *f.entry.conn.Grant
	}
	k.mu.Unlock()
	g.ErrorCode = CodeStorage
	k.tell(f.key, g.State, g, 0)
	return err
}

// wall reads the wall clock.
func (k *Keeper) wall() time.Time { return k.endpoint.options.Now().Round(0) }
