package oauth_test

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"attache"
	"attache/oauth"
	"attache/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// disk keeps connections and clients as a store does: a write is whole or not at
// all, and who writes waits until it would be on disk.
type disk struct {
	mu          sync.Mutex // guards what follows, and is whose turn it is to write
	connections map[[2]string]attache.Connection
	clients     map[[2]string]attache.OAuthClient
	changed     func(attache.Change)
	writes      int
	// sync is called before a write, by its number, and says whether the write
	// happens, and what the writer is told. Nil: it does, and nothing.
	sync func(write int) (happens bool, err error)
}

func newDisk() *disk {
	return &disk{
		connections: map[[2]string]attache.Connection{},
		clients:     map[[2]string]attache.OAuthClient{},
		changed:     func(attache.Change) {},
	}
}

func (d *disk) Connection(_ context.Context, integration, name string) (attache.Connection, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, ok := d.connections[[2]string{integration, name}]
	if !ok {
		return c, fmt.Errorf("connection %q: %w", name, attache.ErrNotFound)
	}
	c.Grant = copyGrant(c.Grant)
	return c, nil
}

func (d *disk) OAuthClient(_ context.Context, integration, name string) (attache.OAuthClient, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, ok := d.clients[[2]string{integration, name}]
	if !ok {
		return c, fmt.Errorf("client %q: %w", name, attache.ErrNotFound)
	}
	return c, nil
}

func (d *disk) UpdateGrant(_ context.Context, integration, name string, update func(*attache.Grant) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, ok := d.connections[[2]string{integration, name}]
	if !ok {
		return fmt.Errorf("connection %q: %w", name, attache.ErrNotFound)
	}
	g := attache.Grant{State: attache.GrantPending}
	if c.Grant != nil {
		g = *copyGrant(c.Grant)
	}
	if err := update(&g); err != nil {
		return err
	}
	d.writes++
	var told error
	if d.sync != nil {
		happens, err := d.sync(d.writes)
		if !happens {
			return err
		}
		told = err
	}
	c.Grant = copyGrant(&g)
	d.connections[[2]string{integration, name}] = c
	d.changed(attache.Change{Connection: &c})
	return told
}

// onSync sets what happens at a write.
func (d *disk) onSync(sync func(write int) (happens bool, err error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sync = sync
}

func copyGrant(g *attache.Grant) *attache.Grant {
	if g == nil {
		return nil
	}
	c := *g
	if g.Intent != nil {
		intent := *g.Intent
		c.Intent = &intent
	}
	if g.Move != nil {
		move := *g.Move
		move.Held = copyGrant(move.Held)
		c.Move = &move
	}
	return &c
}

// ImportConnection keeps no list of what was imported: that is the store's to do.
func (d *disk) ImportConnection(_ context.Context, _ string, client attache.OAuthClient, c attache.Connection) error {
	d.put(client, c)
	return nil
}

// put creates or edits.
func (d *disk) put(things ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, thing := range things {
		switch c := thing.(type) {
		case attache.OAuthClient:
			d.clients[[2]string{c.Integration, c.Name}] = c
			d.changed(attache.Change{OAuthClient: &c})
		case attache.Connection:
			c.Grant = copyGrant(c.Grant)
			d.connections[[2]string{c.Integration, c.Name}] = c
			d.changed(attache.Change{Connection: &c})
		}
	}
}

func (d *disk) remove(integration, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.connections, [2]string{integration, name})
	d.changed(attache.Change{Deleted: true, Connection: &attache.Connection{Integration: integration, Name: name}})
}

// subscribe replays what there is, and then every change.
func (d *disk) subscribe(fn func(attache.Change)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.clients {
		fn(attache.Change{OAuthClient: &c})
	}
	for _, c := range d.connections {
		fn(attache.Change{Connection: &c})
	}
	d.changed = fn
}

// world is a keeper with a provider, an OAuth client of it, and a connection.
type world struct {
	t        testing.TB
	provider *provider
	disk     *disk
	endpoint *oauth.Endpoint
	keeper   *oauth.Keeper
	flows    *oauth.Flows
	forgets  bool // keeps no list of steps
	perHost  int  // calls at a time; 0: the default
	cancel   context.CancelFunc
	ended    chan struct{}

	mu    sync.Mutex // guards steps
	steps []oauth.Transition
}

// bubble runs a test in a world with fake time.
func bubble(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		test(t, w)
		w.stop()
		w.check()
		pass(time.Minute) // for the provider's connections to close
	})
}

func newWorld(t testing.TB) *world {
	p := newProvider()
	p.listen(t)
	w := &world{t: t, provider: p, disk: newDisk()}
	w.endpoint = oauth.NewEndpoint(oauth.EndpointOptions{DialContext: p.listener.dial, Roots: p.roots()})
	return w
}

// newDirectWorld is a world without connections, for tests that make very many
// calls.
func newDirectWorld(t testing.TB, wall func() time.Time) *world {
	w := &world{t: t, provider: newProvider(), disk: newDisk()}
	w.endpoint = oauth.NewEndpoint(oauth.EndpointOptions{Now: wall})
	w.endpoint.SetTransport(direct{w.provider})
	return w
}

// start begins a process on what the disk holds.
func (w *world) start() {
	w.keeper = oauth.NewKeeper(w.endpoint, w.disk, oauth.KeeperOptions{OnState: w.step, ParallelPerHost: w.perHost})
	w.flows = oauth.NewFlows(w.keeper)
	w.disk.subscribe(w.keeper.Changed)
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel, w.ended = cancel, make(chan struct{})
	go func() {
		defer close(w.ended)
		if err := w.keeper.Run(ctx); err != nil {
			w.t.Error(err)
		}
	}()
}

// stop ends the process.
func (w *world) stop() {
	w.cancel()
	<-w.ended
}

func (w *world) step(s oauth.Transition) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.forgets {
		w.steps = append(w.steps, s)
	}
}

// path is the states that were gone through, with the codes.
func (w *world) path() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for i, s := range w.steps {
		if i == 0 {
			all = append(all, string(s.From))
		}
		to := string(s.To)
		if s.Code != "" {
			to += "(" + s.Code + ")"
		}
		all = append(all, to)
	}
	return strings.Join(all, " ")
}

// check holds after every test: no secret in a state, and no token spent twice
// but by a test that says so.
func (w *world) check() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.steps {
		if shown := fmt.Sprintf("%+v", s); strings.Contains(shown, canary) {
			w.t.Errorf("a transition shows a secret: %s", shown)
		}
	}
	for _, c := range w.disk.connections {
		if c.Grant != nil && strings.Contains(c.Grant.ErrorCode+c.Grant.Scope+c.Grant.TokenType+string(c.Grant.State), canary) {
			w.t.Errorf("a state shows a secret: %+v", c.Grant)
		}
	}
}

func (w *world) grant() attache.Grant {
	w.t.Helper()
	c, err := w.disk.Connection(context.Background(), "bot", "crm")
	if err != nil {
		w.t.Fatal(err)
	}
	if c.Grant == nil {
		return attache.Grant{}
	}
	return *c.Grant
}

func (w *world) fresh(used uint64) (attache.Grant, error) {
	return w.keeper.Fresh(context.Background(), named("crm"), used)
}

// client is the registration that most tests use.
func client(changes ...func(*attache.OAuthClient)) attache.OAuthClient {
	c := attache.OAuthClient{
		Integration:   "bot",
		Name:          "example",
		GrantType:     attache.AuthorizationCode,
		ClientID:      "the-client",
		ClientSecret:  secret.New("secret-" + canary),
		AuthURL:       "https://example.com/authorize",
		TokenURL:      "https://example.com/token",
		DefaultScopes: "read write",
		UpdatedAt:     time.Now(),
	}
	for _, change := range changes {
		change(&c)
	}
	return c
}

func credentials(c *attache.OAuthClient) {
	c.GrantType, c.AuthURL = attache.ClientCredentials, ""
}

// connection is the connection that most tests use, with no grant.
func connection() attache.Connection {
	return attache.Connection{Integration: "bot", Name: "crm", Type: attache.OAuth, OAuthClient: "example"}
}

// named is what a request knows of such a connection.
func named(name string) *attache.Connection {
	c := connection()
	c.Name = name
	return &c
}

// authorized is a connection whose grant is new, of the family a.
func (w *world) authorized() attache.Connection {
	c := connection()
	access, refresh := w.provider.begin("a")
	now := time.Now().Round(0)
	c.Grant = &attache.Grant{
		State: attache.GrantActive, AccessToken: secret.New(access), RefreshToken: secret.New(refresh), TokenType: "Bearer", Scope: "read",
		IssuedAt: now, ExpiresAt: now.Add(w.provider.life), Generation: 1,
	}
	return c
}

// pass lets time go by, and everything that is due happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// errClosed is what a store says after its process has died.
var errClosed = fmt.Errorf("the process is dead: %w", fs.ErrClosed)

// token is what a provider's answer holds.
func token(access, refresh string) oauth.Token {
	now := time.Now()
	return oauth.Token{Access: secret.New(access), Refresh: secret.New(refresh), Type: "Bearer", Issued: now, Expires: now.Add(time.Hour)}
}
