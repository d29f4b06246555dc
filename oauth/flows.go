package oauth

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	"attache"
	"attache/secret"
)

var (
	// ErrUnknownFlow: no authorization under way has that state, or it is too old,
	// was used already, or somebody else began it. The API answers 404.
	ErrUnknownFlow = errors.New("no authorization is waiting for this answer: start again")
	// ErrTooManyFlows: the bound is reached. The API answers 429.
	ErrTooManyFlows = errors.New("too many authorizations are waiting for an answer: try again in some minutes")
)

const (
	flowLife    = 10 * time.Minute
	maxFlows    = 1000 // waiting at a time
	slowDown    = 5 * time.Second
	maxSlowDown = 5 * time.Minute
)

// Flows lead people through authorizations. What is under way is kept in memory:
// a restart means to start again. All methods may be called from several
// goroutines.
type Flows struct {
	keeper *Keeper

	mu      sync.Mutex // guards waiting
	waiting map[string]*flow
}

// NewFlows makes Flows whose grants go to a keeper.
func NewFlows(k *Keeper) *Flows { return &Flows{keeper: k, waiting: map[string]*flow{}} }

// Start says what is to be authorized.
type Start struct {
	Integration string
	Connection  string
	// By is who starts it, in whatever way the caller tells people apart. Only the
	// same may finish it.
	By string
	// RedirectURL is the callback URL, as registered at the provider.
	RedirectURL string
}

// Authorization is a flow that waits for a person.
type Authorization struct {
	Integration string
	Connection  string
	State       string // names the flow
	URL         string // where the person goes
	ExpiresAt   time.Time
	UserCode    string // with a device code: what the person types in there
	// CompleteURL, with a device code, is URL with the user code in it; empty:
	// there is none.
	CompleteURL string
	Interval    time.Duration // with a device code: to wait before [Flows.Poll]
}

type flow struct {
	start    Start
	made     time.Time // when the connection was: its name may become another's
	verifier secret.Text
	expires  time.Time

	// With a device code:
	device secret.Text // zero: a flow with a redirect
	poll   sync.Mutex  // one poll at a time; guards what follows
	every  time.Duration
	next   time.Time
}

// Begin makes the URL where a person authorizes a connection. The connection's
// grant, if it has one, stays in use until a new one is stored.
func (f *Flows) Begin(ctx context.Context, s Start) (Authorization, error) {
	if err := checkRedirect(s.RedirectURL); err != nil {
		return Authorization{}, err
	}
	c, client, err := f.load(ctx, s)
	if err != nil {
		return Authorization{}, err
	}
	if client.registration.AuthURL == "" {
		return Authorization{}, refuse("auth_url", "is empty", "use a device code, or an OAuth client with an authorization URL")
	}
	w := &flow{start: s, made: c.CreatedAt, verifier: client.newVerifier(), expires: time.Now().Add(flowLife)}
	state, err := f.add(w)
	if err != nil {
		return Authorization{}, err
	}
	return Authorization{
		Integration: s.Integration,
		Connection:  s.Connection,
		State:       state,
		URL:         client.AuthorizationURL(c.Scope, s.RedirectURL, state, w.verifier),
		ExpiresAt:   w.expires,
	}, nil
}

// BeginDevice asks the provider for a device code (RFC 8628). The start's
// RedirectURL is not used.
func (f *Flows) BeginDevice(ctx context.Context, s Start) (Authorization, error) {
	c, client, err := f.load(ctx, s)
	if err != nil {
		return Authorization{}, err
	}
	d, err := client.Device(ctx, c.Scope)
	if err != nil {
		return Authorization{}, err
	}
	w := &flow{start: s, made: c.CreatedAt, device: d.Code, every: d.Interval, expires: d.Expires, next: time.Now().Add(d.Interval)}
	state, err := f.add(w)
	if err != nil {
		return Authorization{}, err
	}
	return Authorization{
		Integration: s.Integration,
		Connection:  s.Connection,
		State:       state,
		URL:         d.URL,
		ExpiresAt:   d.Expires,
		UserCode:    d.UserCode,
		CompleteURL: d.CompleteURL,
		Interval:    d.Interval,
	}, nil
}

// Started returns what the flow named by state was begun with, for who has to know
// whose it is before finishing it. The flow goes on waiting.
func (f *Flows) Started(state string) (Start, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.waiting[state]
	if w == nil || !time.Now().Before(w.expires) {
		return Start{}, ErrUnknownFlow
	}
	return w.start, nil
}

// Finish ends the flow named by state with what came back: see [ParseRedirect]
// for its forms. An empty state is taken from the answer. The exchange goes on
// when ctx ends; whoever began the flow can see in the connection what became of
// it.
//
// Whatever the outcome, the state is used up. A failure leaves the connection's
// grant as it was.
func (f *Flows) Finish(ctx context.Context, by, state, answered string) (Start, error) {
	r, err := ParseRedirect(answered)
	if err != nil {
		return Start{}, err
	}
	switch {
	case state == "":
		state = r.State
	case r.State != "" && r.State != state:
		return Start{}, ErrUnknownFlow
	}
	w, err := f.take(by, state)
	if err != nil || !w.device.IsZero() {
		return Start{}, ErrUnknownFlow
	}
	if r.Error != "" {
		return w.start, &Error{Kind: kindOf(r.Error), Code: r.Error, Unsent: true}
	}
	ctx = context.WithoutCancel(ctx)
	c, client, err := f.reload(ctx, w)
	if err != nil {
		return w.start, err
	}
	if err := client.checkIssuer(r); err != nil {
		return w.start, err
	}
	t, err := client.Exchange(ctx, r.Code, w.start.RedirectURL, w.verifier)
	if err != nil {
		return w.start, err
	}
	return w.start, f.adopt(ctx, &c, client, t)
}

// Progress is how a flow with a device code stands.
type Progress struct {
	Done     bool
	Interval time.Duration // to wait before the next poll
}

// Poll asks the provider whether the person has confirmed, unless it is too
// early to ask again. An error ends the flow, but for an [Error] of the kinds
// [TryLater] and [Malformed].
func (f *Flows) Poll(ctx context.Context, by, state string) (Progress, error) {
	w, err := f.look(by, state)
	if err != nil {
		return Progress{}, err
	}
	if w.device.IsZero() {
		return Progress{}, ErrUnknownFlow
	}
	w.poll.Lock()
	defer w.poll.Unlock()
	// Who waited for the lock finds out what the one before did.
	if _, err := f.look(by, state); err != nil {
		return Progress{}, err
	}
	if wait := time.Until(w.next); wait > 0 {
		return Progress{Interval: wait}, nil
	}
	ctx = context.WithoutCancel(ctx) // the answer may be the token
	c, client, err := f.reload(ctx, w)
	if err != nil {
		return Progress{}, err
	}
	t, err := client.PollDevice(ctx, w.device)
	var failed *Error
	switch {
	case err == nil:
		f.drop(state)
		return Progress{Done: true}, f.adopt(ctx, &c, client, t)
	case !errors.As(err, &failed):
		return Progress{}, err
	case failed.Kind == SlowDown:
		w.every += slowDown
		err = nil
	case failed.Kind == Pending:
		err = nil
	case failed.Kind == TryLater || failed.Kind == Malformed:
		w.every = min(2*w.every, maxSlowDown) // RFC 8628, section 3.5
	default:
		f.drop(state)
		return Progress{}, err
	}
	wait := max(w.every, failed.RetryAfter)
	w.next = time.Now().Add(wait)
	return Progress{Interval: wait}, err
}

// load reads what a flow is about. Only authorization_code needs a person.
func (f *Flows) load(ctx context.Context, s Start) (attache.Connection, *Client, error) {
	c, err := f.keeper.storage.Connection(ctx, s.Integration, s.Connection)
	if err != nil {
		return attache.Connection{}, nil, err
	}
	if c.Type != attache.OAuth {
		return attache.Connection{}, nil, refuse("type", "is not oauth", "only oauth connections are authorized")
	}
	client, err := f.keeper.client(ctx, &c)
	if err != nil {
		return attache.Connection{}, nil, err
	}
	if client.registration.GrantType != attache.AuthorizationCode {
		return attache.Connection{}, nil, refuse("grant_type", "is client_credentials, which nobody has to authorize", "just use the connection")
	}
	return c, client, nil
}

// reload is load for a flow that has begun. Another connection under that name does
// not get its code, nor does another client.
func (f *Flows) reload(ctx context.Context, w *flow) (attache.Connection, *Client, error) {
	c, client, err := f.load(ctx, w.start)
	if err == nil && !c.CreatedAt.Equal(w.made) {
		err = ErrUnknownFlow
	}
	return c, client, err
}

func (f *Flows) adopt(ctx context.Context, c *attache.Connection, client *Client, t Token) error {
	asked := c.Scope
	if asked == "" {
		asked = client.registration.DefaultScopes
	}
	if err := f.keeper.Adopt(ctx, c, t, asked); err != nil {
		return fmt.Errorf("the provider authorized the connection, but its grant could not be stored: %w", err)
	}
	return nil
}

// add keeps a flow under a new state of 256 bits.
func (f *Flows) add(w *flow) (state string, err error) {
	var b [32]byte
	// Read never fails: it ends the program where there is no randomness.
	_, _ = rand.Read(b[:])
	state = base64.RawURLEncoding.EncodeToString(b[:])

	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waiting) >= maxFlows {
		now := time.Now()
		for old, other := range f.waiting {
			if !now.Before(other.expires) {
				delete(f.waiting, old)
			}
		}
	}
	if len(f.waiting) >= maxFlows {
		return "", ErrTooManyFlows
	}
	f.waiting[state] = w
	return state, nil
}

// look returns a flow to who began it.
func (f *Flows) look(by, state string) (*flow, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.waiting[state]
	if w == nil || w.start.By != by || !time.Now().Before(w.expires) {
		return nil, ErrUnknownFlow
	}
	return w, nil
}

// take is look for the last time.
func (f *Flows) take(by, state string) (*flow, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.waiting[state]
	if w == nil || w.start.By != by {
		return nil, ErrUnknownFlow
	}
	delete(f.waiting, state)
	if !time.Now().Before(w.expires) {
		return nil, ErrUnknownFlow
	}
	return w, nil
}

func (f *Flows) drop(state string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.waiting, state)
}

// kindOf is what an error code of a redirect means: if nobody knows, no.
func kindOf(code string) Kind {
	if kind := kinds[code]; kind != TryLater {
		return kind
	}
	return GrantRefused
}
