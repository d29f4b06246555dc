package oauth_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"attache"
	"attache/oauth"
	"attache/secret"
	"attache/store"
)

// TestGrantsLiveAtRealServers plays the life of grants against authorization
// servers that others wrote, in real time, with the real store.
func TestGrantsLiveAtRealServers(t *testing.T) {
	stories := map[string]func(*testing.T, *office){
		"what it says about itself is found":                   discovers,
		"a person's grant lives until it is revoked":           livesUntilRevoked,
		"a token that somebody else spends again ends a grant": endsWhenSpentTwice,
		"a machine proves itself in the header":                earns("client_secret_basic", attache.ClientAuthBasic),
		"a machine proves itself in the body":                  earns("client_secret_post", attache.ClientAuthPost),
		"a machine proves itself with a key":                   earns("private_key_jwt", attache.ClientAuthPrivateKeyJWT),
	}
	withDevices := maps.Clone(stories)
	withDevices["a person confirms a code on another device"] = confirmsOnADevice

	together(t, map[string]func(*testing.T){
		"oidc-provider": func(t *testing.T) { newOffice(t, startOIDCProvider(t)).plays(t, withDevices) },
		"fosite":        func(t *testing.T) { newOffice(t, startFosite(t)).plays(t, stories) },
	})
}

// together runs tests at the same time. They wait more than they compute, and
// t.Parallel would let no more of them run than there are processors.
func together(t *testing.T, tests map[string]func(*testing.T)) {
	t.Helper()
	var running sync.WaitGroup
	defer running.Wait()
	for sentence, test := range tests {
		running.Go(func() { t.Run(sentence, test) })
	}
}

// office is where grants of one authorization server are kept.
type office struct {
	server   *authServer
	store    *store.Store
	endpoint *oauth.Endpoint
	keeper   *oauth.Keeper
	flows    *oauth.Flows
}

func newOffice(t *testing.T, s *authServer) *office {
	t.Helper()
	kept, err := store.Open(t.Context(), store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kept.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := kept.CreateIntegration(t.Context(), attache.Integration{Name: "bot"}); err != nil {
		t.Fatal(err)
	}
	o := &office{server: s, store: kept, endpoint: oauth.NewEndpoint(oauth.EndpointOptions{Roots: s.roots})}
	o.keeper = oauth.NewKeeper(o.endpoint, kept, oauth.KeeperOptions{})
	o.flows = oauth.NewFlows(o.keeper)
	unsubscribe, err := kept.Subscribe(t.Context(), o.keeper.Changed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(unsubscribe)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- o.keeper.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return o
}

func (o *office) plays(t *testing.T, stories map[string]func(*testing.T, *office)) {
	t.Helper()
	tests := map[string]func(*testing.T){}
	for sentence, story := range stories {
		tests[sentence] = func(t *testing.T) { story(t, o) }
	}
	together(t, tests)
}

// connect makes an OAuth client, whose URLs it finds out, and a connection that
// uses it, both named like the client.
func (o *office) connect(t *testing.T, name string, c attache.OAuthClient) {
	t.Helper()
	found, err := o.endpoint.Discover(t.Context(), o.server.issuer)
	if err != nil {
		t.Fatal(err)
	}
	c.Integration, c.Name = "bot", name
	found.Fill(&c)
	if err := o.endpoint.CheckClient(c); err != nil {
		t.Fatal(err)
	}
	if err := o.store.CreateOAuthClient(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := o.store.CreateConnection(t.Context(), attache.Connection{
		Integration: "bot", Name: name, Type: attache.OAuth, OAuthClient: name, AllowedDomain: "api.example.com", AllowedPorts: []uint16{443},
	}); err != nil {
		t.Fatal(err)
	}
}

// begin starts an authorization of a connection.
func (o *office) begin(t *testing.T, name string) oauth.Authorization {
	t.Helper()
	a, err := o.flows.Begin(t.Context(), oauth.Start{Integration: "bot", Connection: name, By: "ada", RedirectURL: landing})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// authorize lets a person authorize a connection, and returns its grant.
func (o *office) authorize(t *testing.T, name string) attache.Grant {
	t.Helper()
	a := o.begin(t, name)
	if _, err := o.flows.Finish(t.Context(), "ada", a.State, newPerson(t, o.server).allows(t, a.URL)); err != nil {
		t.Fatal(err)
	}
	return o.checkWorks(t, name)
}

func (o *office) grant(t *testing.T, name string) attache.Grant {
	t.Helper()
	c, err := o.store.Connection(t.Context(), "bot", name)
	if err != nil {
		t.Fatal(err)
	}
	if c.Grant == nil {
		return attache.Grant{}
	}
	return *c.Grant
}

// await waits for a grant of which something is true, and returns it.
func (o *office) await(t *testing.T, name, what string, is func(attache.Grant) bool) attache.Grant {
	t.Helper()
	var g attache.Grant
	eventually(t, what, func() bool {
		g = o.grant(t, name)
		return is(g)
	})
	return g
}

// awaitGeneration waits until nobody but the keeper has refreshed a grant.
func (o *office) awaitGeneration(t *testing.T, name string, n uint64) attache.Grant {
	t.Helper()
	return o.await(t, name, "the keeper refreshes by itself", func(g attache.Grant) bool {
		if g.State != attache.GrantActive && g.State != attache.GrantRefreshing {
			t.Fatalf("the grant is %s (%s)", g.State, g.ErrorCode)
		}
		return g.State == attache.GrantActive && g.Generation >= n
	})
}

// checkWorks checks that a grant is as it is to be and good for an API, and
// returns it.
func (o *office) checkWorks(t *testing.T, name string) attache.Grant {
	t.Helper()
	g := o.await(t, name, "the server accepts the newest access token", func(g attache.Grant) bool {
		return g.State == attache.GrantActive && o.server.accepts(t, g.AccessToken)
	})
	life := g.ExpiresAt.Sub(g.IssuedAt)
	if g.ErrorCode != "" || g.TokenType != "Bearer" || g.Intent != nil || life <= 0 || life > shortLife {
		t.Errorf("the grant is %+v", g)
	}
	if words := strings.Fields(g.Scope); !slices.Contains(words, "read") {
		t.Errorf("the scope is %q", g.Scope)
	}
	return g
}

// checkEnded waits until the keeper has learned that a grant is no longer good.
func (o *office) checkEnded(t *testing.T, name string) {
	t.Helper()
	eventually(t, "who asks for a token is told that a person is needed", func() bool {
		var state *oauth.StateError
		_, err := o.keeper.Fresh(t.Context(), named(name), 0)
		return errors.As(err, &state) && state.State == attache.GrantNeedsReauth
	})
	g := o.grant(t, name)
	if g.State != attache.GrantNeedsReauth || g.ErrorCode != "invalid_grant" || g.Intent != nil || !g.RetryAt.IsZero() {
		t.Errorf("the grant is %+v", g)
	}
	if o.server.accepts(t, g.AccessToken) {
		t.Error("the server still accepts the access token")
	}
}

// web is the client that people use on a server.
func web() attache.OAuthClient {
	return attache.OAuthClient{
		GrantType:     attache.AuthorizationCode,
		ClientID:      webClient,
		ClientSecret:  secret.New(webSecret),
		DefaultScopes: "offline_access read",
		// OpenID Connect gives offline access to those alone who ask for consent.
		Provider: attache.Provider{AuthParams: map[string]string{"prompt": "consent"}},
	}
}

// native is the client that people use on their machines.
func native() attache.OAuthClient {
	c := web()
	c.ClientID, c.ClientSecret = nativeClient, secret.Text{}
	return c
}

func discovers(t *testing.T, o *office) {
	m, err := o.endpoint.Discover(t.Context(), o.server.issuer)
	if err != nil {
		t.Fatal(err)
	}
	if m.Issuer != o.server.issuer {
		t.Errorf("the issuer is %q", m.Issuer)
	}
	for name, found := range map[string]string{"authorization": m.AuthURL, "token": m.TokenURL, "revocation": m.RevocationURL} {
		if !strings.HasPrefix(found, o.server.issuer+"/") {
			t.Errorf("the %s URL is %q", name, found)
		}
	}
	for _, auth := range []attache.ClientAuth{attache.ClientAuthBasic, attache.ClientAuthPost, attache.ClientAuthPrivateKeyJWT, attache.ClientAuthNone} {
		if !slices.Contains(m.ClientAuths, auth) {
			t.Errorf("the client authentication %s is missing of %v", auth, m.ClientAuths)
		}
	}
	var failed *oauth.Error
	if _, err := o.endpoint.Discover(t.Context(), o.server.issuer+"/nobody"); !errors.As(err, &failed) || failed.Status != http.StatusNotFound {
		t.Errorf("an issuer that is not there: %v", err)
	}
}

func livesUntilRevoked(t *testing.T, o *office) {
	o.connect(t, "lasting", web())
	a := o.begin(t, "lasting")
	_, err := o.flows.Finish(t.Context(), "ada", a.State, newPerson(t, o.server).cancels(t, a.URL))
	var failed *oauth.Error
	if !errors.As(err, &failed) || failed.Code != "access_denied" {
		t.Fatalf("a person who cancels: %v", err)
	}
	if g := o.grant(t, "lasting"); g.Generation != 0 {
		t.Fatalf("a person who cancels has granted %+v", g)
	}

	first := o.authorize(t, "lasting")
	third := o.awaitGeneration(t, "lasting", first.Generation+2)
	if third.RefreshToken.Expose() == first.RefreshToken.Expose() {
		t.Error("the server does not rotate refresh tokens")
	}
	refused, err := o.keeper.Fresh(t.Context(), named("lasting"), 0)
	if err != nil {
		t.Fatal(err)
	}
	forced, err := o.keeper.Fresh(t.Context(), named("lasting"), refused.Generation)
	if err != nil || forced.Generation <= refused.Generation {
		t.Fatalf("after a refused token, generation %d comes after %d: %v", forced.Generation, refused.Generation, err)
	}
	o.checkWorks(t, "lasting")

	c, err := o.store.Connection(t.Context(), "bot", "lasting")
	if err != nil {
		t.Fatal(err)
	}
	r, err := o.keeper.Revocation(t.Context(), &c)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Revoke(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.checkEnded(t, "lasting")
}

func endsWhenSpentTwice(t *testing.T, o *office) {
	o.connect(t, "stolen", native())
	first := o.authorize(t, "stolen")
	second := o.awaitGeneration(t, "stolen", first.Generation+1)
	c, err := o.store.OAuthClient(t.Context(), "bot", "stolen")
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Error string `json:"error"`
	}
	status := o.server.ask(t, o.server.request(t, c.TokenURL, url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {first.RefreshToken.Expose()}, "client_id": {nativeClient},
	}), &answer)
	if status != http.StatusBadRequest || answer.Error != "invalid_grant" {
		t.Fatalf("the spent token gets %d %s", status, answer.Error)
	}
	o.checkEnded(t, "stolen")

	again := o.authorize(t, "stolen")
	if again.Generation <= second.Generation {
		t.Errorf("generation %d comes after %d", again.Generation, second.Generation)
	}
	o.awaitGeneration(t, "stolen", again.Generation+1)
	o.checkWorks(t, "stolen")
}

// earns is the story of a machine that gets tokens for itself.
func earns(id string, auth attache.ClientAuth) func(*testing.T, *office) {
	return func(t *testing.T, o *office) {
		c := attache.OAuthClient{GrantType: attache.ClientCredentials, ClientID: id, DefaultScopes: "read", Provider: attache.Provider{ClientAuth: auth}}
		if auth == attache.ClientAuthPrivateKeyJWT {
			key, err := secret.FromPrivateKey(o.server.key)
			if err != nil {
				t.Fatal(err)
			}
			c.Provider.PrivateKey = key
		} else {
			c.ClientSecret = secret.New(machineSecret)
		}
		o.connect(t, id, c)
		g, err := o.keeper.Fresh(t.Context(), named(id), 0)
		if err != nil {
			t.Fatal(err)
		}
		o.awaitGeneration(t, id, g.Generation+1)
		next := o.checkWorks(t, id)
		if next.AccessToken.Expose() == g.AccessToken.Expose() || !next.RefreshToken.IsZero() {
			t.Error("the token is not a new one, or comes with a refresh token")
		}
	}
}

func confirmsOnADevice(t *testing.T, o *office) {
	o.connect(t, "headless", native())
	a, err := o.flows.BeginDevice(t.Context(), oauth.Start{Integration: "bot", Connection: "headless", By: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	poll := func() bool {
		t.Helper()
		p, err := o.flows.Poll(t.Context(), "ada", a.State)
		if err != nil {
			t.Fatal(err)
		}
		if !p.Done {
			<-time.After(p.Interval)
		}
		return p.Done
	}
	for _, when := range []string{"too early to ask", "asked in time"} {
		if poll() {
			t.Fatalf("%s, and there is a grant that nobody has confirmed", when)
		}
	}
	ada := newPerson(t, o.server)
	ada.typed["user_code"] = a.UserCode
	ada.allows(t, a.URL)
	eventually(t, "the server has noticed that the person confirmed", poll)
	g := o.checkWorks(t, "headless")
	o.awaitGeneration(t, "headless", g.Generation+1)
	o.checkWorks(t, "headless")
}
