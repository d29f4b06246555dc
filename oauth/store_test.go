package oauth_test

import (
	"context"
	"crypto/x509"
	"net"
	"sync"
	"testing"
	"time"

	"attache"
	"attache/oauth"
	"attache/secret"
	"attache/store"
)

// TestTheRealStoreOverTheRealNetwork has a database on a disk, sockets, and time
// that passes: 64 requests on an expired token, an authorization, and a process
// that starts again on what the first one left.
func TestTheRealStoreOverTheRealNetwork(t *testing.T) {
	p := newProvider()
	p.listen(t)
	real, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := real.Accept()
			if err != nil {
				return
			}
			p.listener.conns <- conn
		}
	}()
	t.Cleanup(func() { real.Close() })
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", real.Addr().String())
	}
	dir := t.TempDir()

	c := connection()
	c.AllowedDomain, c.AllowedPorts, c.CreatedAt = "api.example.com", []uint16{443}, time.Now()
	run(t, dir, dial, p.roots(), func(s *store.Store, k *oauth.Keeper) {
		ctx := t.Context()
		for _, err := range []error{
			s.CreateIntegration(ctx, attache.Integration{Name: "bot", CreatedAt: time.Now()}),
			s.CreateOAuthClient(ctx, client()),
			s.CreateConnection(ctx, c),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		flows := oauth.NewFlows(k)
		a, err := flows.Begin(ctx, oauth.Start{Integration: "bot", Connection: "crm", By: "ada", RedirectURL: callback})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := flows.Finish(ctx, "ada", a.State, "code"); err != nil {
			t.Fatal(err)
		}
		refreshOnce(t, k, &c, 1)
		err = s.UpdateGrant(ctx, "bot", "crm", func(g *attache.Grant) error {
			g.ExpiresAt = time.Now().Add(-time.Minute)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		refreshOnce(t, k, &c, 0)
	})
	run(t, dir, dial, p.roots(), func(s *store.Store, k *oauth.Keeper) {
		g, err := k.Fresh(t.Context(), &c, 0)
		if err != nil || g.Generation != 3 || !p.accepts(g.AccessToken.Expose()) {
			t.Errorf("after a restart, generation %d, %v", g.Generation, err)
		}
	})
	if n := len(p.seen()); n != 3 {
		t.Errorf("%d calls, want 3", n)
	}
}

// refreshOnce makes 64 requests that cannot go on with the token as it is.
func refreshOnce(t *testing.T, k *oauth.Keeper, c *attache.Connection, used uint64) {
	var all sync.WaitGroup
	tokens := make([]secret.Text, 64)
	for i := range tokens {
		all.Go(func() {
			g, err := k.Fresh(t.Context(), c, used)
			if err != nil {
				t.Error(err)
			}
			tokens[i] = g.AccessToken
		})
	}
	all.Wait()
	for _, token := range tokens {
		if !token.Equal(tokens[0]) {
			t.Error("requests got different tokens")
		}
	}
}

// run is a process on the directory.
func run(t *testing.T, dir string, dial func(context.Context, string, string) (net.Conn, error), roots *x509.CertPool, work func(*store.Store, *oauth.Keeper)) {
	s, err := store.Open(t.Context(), store.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	k := oauth.NewKeeper(oauth.NewEndpoint(oauth.EndpointOptions{DialContext: dial, Roots: roots}), s, oauth.KeeperOptions{})
	cancel, err := s.Subscribe(t.Context(), k.Changed)
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- k.Run(ctx) }()
	work(s, k)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
