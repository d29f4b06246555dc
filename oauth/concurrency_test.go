package oauth_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"attache"
	"attache/oauth"
)

// expired is a connection whose token has expired, and whose provider is in no
// hurry.
func expired(w *world) {
	c := w.authorized()
	c.Grant.IssuedAt = c.Grant.IssuedAt.Add(-2 * time.Hour)
	c.Grant.ExpiresAt = c.Grant.ExpiresAt.Add(-2 * time.Hour)
	w.provider.next(func(rw http.ResponseWriter, r *http.Request) {
		<-time.After(5 * time.Second)
		w.provider.behave(rw, r.PostForm)
	})
	w.disk.put(client(), c)
}

func TestManyRequestsOnAnExpiredTokenAreOneCall(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		expired(w)
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() {
				g, err := w.fresh(0)
				if err != nil || g.Generation != 2 || !w.provider.accepts(g.AccessToken.Expose()) {
					t.Errorf("generation %d, %v", g.Generation, err)
				}
			})
		}
		all.Wait()
		if n := len(w.provider.seen()); n != 1 {
			t.Errorf("%d calls for 64 requests", n)
		}
	})
}

func TestNobodyWhoLeavesTakesTheRefreshAlong(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		expired(w)
		first, leave := context.WithCancel(context.Background())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := w.keeper.Fresh(first, named("crm"), 0); !errors.Is(err, context.Canceled) {
				t.Errorf("the first gets %v", err)
			}
		})
		synctest.Wait()
		for range 63 {
			all.Go(func() {
				if g, err := w.fresh(0); err != nil || g.Generation != 2 {
					t.Errorf("generation %d, %v", g.Generation, err)
				}
			})
		}
		pass(time.Second)
		leave()
		all.Wait()
		if n := len(w.provider.seen()); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
}

func TestARefreshWithoutAnyoneLeftIsStored(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		expired(w)
		ctx, leave := context.WithTimeout(context.Background(), time.Second)
		defer leave()
		if _, err := w.keeper.Fresh(ctx, named("crm"), 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who leaves gets %v", err)
		}
		pass(10 * time.Second)
		if g := w.grant(); g.Generation != 2 || g.State != attache.GrantActive {
			t.Errorf("the grant is %+v", g)
		}
	})
}

func TestTheEndOfTheProgramWaitsForTheAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		expired(w)
		go func() { _, _ = w.fresh(0) }()
		pass(time.Second)
		w.stop()
		if g := w.grant(); g.Generation != 2 {
			t.Error("the answer was not waited for")
		}
		if g, err := w.fresh(0); err != nil || g.Generation != 2 {
			t.Errorf("a valid token after the end: %v", err)
		}
		if _, err := w.fresh(2); !errors.Is(err, oauth.ErrStopped) {
			t.Errorf("a refresh after the end: %v", err)
		}
	})
}

func TestAnUpstreamsRefusalForcesOneRefreshPerGeneration(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(client(), w.authorized())
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() {
				if g, err := w.fresh(1); err != nil || g.Generation != 2 {
					t.Errorf("generation %d, %v", g.Generation, err)
				}
			})
		}
		all.Wait()
		for range 100 { // who comes late gets what the others got
			if g, err := w.fresh(1); err != nil || g.Generation != 2 {
				t.Errorf("generation %d, %v", g.Generation, err)
			}
		}
		if n := len(w.provider.seen()); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
}

func TestAnUpstreamThatAlwaysRefusesForcesFewRefreshes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(client(), w.authorized())
		refusals := func(n int) { // of requests one after another
			t.Helper()
			for range n {
				g, err := w.fresh(0)
				if err != nil {
					t.Fatal(err)
				}
				var state *oauth.StateError
				if _, err = w.fresh(g.Generation); err != nil && (!errors.As(err, &state) || state.Code != oauth.CodeTokenRefused) {
					t.Error(err)
				}
				pass(10 * time.Millisecond)
			}
		}
		calls := func(want int) {
			t.Helper()
			if n := len(w.provider.seen()); n != want {
				t.Errorf("%d refreshes, want %d", n, want)
			}
		}
		refusals(200)
		calls(4)
		pass(30 * time.Second)
		refusals(200)
		calls(5)
		if err := w.keeper.Adopt(t.Context(), named("crm"), token(w.provider.begin("b")), "read"); err != nil {
			t.Fatal(err)
		}
		refusals(200)
		calls(9)
		w.provider.life = time.Second
		pass(30 * time.Second)
		refusals(1)
		calls(10)
		pass(10 * time.Second) // it has expired, and is refreshed, forced or not
		if g, err := w.fresh(0); err != nil || !w.provider.accepts(g.AccessToken.Expose()) {
			t.Errorf("a request gets %v", err)
		}
	})
}

func TestAForcedRefreshThatFailsIsNotForcedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(client(), w.authorized())
		w.provider.next(says(429, "", "Retry-After: 1200"))
		var failed atomic.Int64
		for range 3 {
			for range 20 {
				if _, err := w.fresh(1); err != nil {
					failed.Add(1)
				}
			}
			pass(time.Minute)
		}
		if g, err := w.fresh(0); err != nil || g.Generation != 1 {
			t.Errorf("a request that was not refused: %v", err)
		}
		if n := len(w.provider.seen()); n != 1 || failed.Load() != 60 {
			t.Errorf("%d calls, %d of 60 requests were told", n, failed.Load())
		}
	})
}

func TestNoRequestGoesOnWithATokenThatIsNotStored(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		expired(w)
		disk := make(chan struct{})
		w.disk.onSync(func(write int) (bool, error) {
			if write > 1 && !closed(disk) {
				return false, errors.New("no space left on device")
			}
			return true, nil
		})
		done := make(chan attache.Grant, 1)
		go func() {
			g, err := w.fresh(0)
			if err != nil {
				t.Error(err)
			}
			done <- g
		}()
		pass(10 * time.Minute)
		select {
		case <-done:
			t.Fatal("a token was used before it was stored")
		default:
		}
		close(disk)
		g := <-done
		if stored := w.grant(); !stored.AccessToken.Equal(g.AccessToken) || g.Generation != 2 {
			t.Errorf("generation %d", g.Generation)
		}
		if n := len(w.provider.seen()); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestNothingIsSpentWhileTheDiskIsFull(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		expired(w)
		var full atomic.Bool
		full.Store(true)
		var tries atomic.Int64
		w.disk.onSync(func(int) (bool, error) {
			tries.Add(1)
			if full.Load() {
				return false, errors.New("no space left on device")
			}
			return true, nil
		})
		for range 100 {
			if _, err := w.fresh(0); err == nil {
				t.Error("a request got a token")
			}
		}
		if n := tries.Load(); n != 1 {
			t.Errorf("100 requests made %d writes", n)
		}
		pass(10 * time.Minute)
		if n := len(w.provider.seen()); n != 0 {
			t.Errorf("%d calls", n)
		}
		full.Store(false)
		pass(15 * time.Second)
		if g := w.grant(); g.Generation != 2 {
			t.Errorf("with room on the disk, generation %d", g.Generation)
		}
	})
}

func TestAnIntentThatCouldNotBeWrittenIsNoCall(t *testing.T) {
	for sentence, c := range map[string]struct {
		failures int // of writes that are made all the same
		answer   http.HandlerFunc
		path     string
	}{
		"however often": {3, nil, "refreshing refreshing(storage_error) refreshing(storage_error) refreshing(storage_error) refreshing active"},
		"so that what the provider says of the token is so": {1, says(400, `{"error":"invalid_grant"}`), "refreshing refreshing(storage_error) refreshing needs_reauthorization(invalid_grant)"},
	} {
		t.Run(sentence, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.disk.put(client(), w.authorized())
				w.disk.onSync(func(write int) (bool, error) {
					if write <= c.failures {
						return true, errors.New("input/output error")
					}
					return true, nil
				})
				if c.answer != nil {
					w.provider.next(c.answer)
				}
				if _, err := w.fresh(1); err == nil {
					t.Error("the disk fails, and there is a token")
				}
				pass(time.Minute)
				if got := w.path(); got != c.path || len(w.provider.seen()) != 1 {
					t.Errorf("after %d calls, the path is\n%s, want\n%s", len(w.provider.seen()), got, c.path)
				}
			})
		})
	}
}

func TestARefreshIsForcedAsSoonAsTheDiskAllows(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(client(), w.authorized())
		w.disk.onSync(func(write int) (bool, error) {
			if write == 1 {
				return false, errors.New("no space left on device")
			}
			return true, nil
		})
		if _, err := w.fresh(1); err == nil {
			t.Error("the disk is full, and there is a token")
		}
		pass(15 * time.Second)
		if g, err := w.fresh(1); err != nil || g.Generation != 2 || len(w.provider.seen()) != 1 {
			t.Errorf("generation %d, %v", g.Generation, err)
		}
	})
}

func TestAnAuthorizationDuringARefreshWins(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		expired(w)
		done := make(chan attache.Grant, 1)
		go func() {
			g, err := w.fresh(0)
			if err != nil {
				t.Error(err)
			}
			done <- g
		}()
		pass(time.Second)
		access, refresh := w.provider.begin("b")
		if err := w.keeper.Adopt(t.Context(), named("crm"), token(access, refresh), "read"); err != nil {
			t.Fatal(err)
		}
		g := <-done
		if got := w.grant(); got.RefreshToken.Expose() != refresh || !got.AccessToken.Equal(g.AccessToken) || got.State != attache.GrantActive {
			t.Errorf("the grant is %+v", got)
		}
		pass(3 * time.Hour)
		if f := w.provider.family("b"); f.reused != 0 || f.count < 3 {
			t.Errorf("the new grant's family: %+v", f)
		}
	})
}

// crowd is a world with 300 overdue connections and a provider that takes four
// seconds for an answer, eight at a time, which is far too slow.
func crowd(t *testing.T) (w *world, most *atomic.Int64) {
	w = newDirectWorld(t, nil)
	w.perHost = 8
	var now atomic.Int64
	most = new(atomic.Int64)
	w.endpoint.SetTransport(direct{http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		most.Store(max(most.Load(), now.Add(1)))
		<-time.After(4 * time.Second)
		now.Add(-1)
		w.provider.ServeHTTP(rw, r)
	})})
	w.disk.put(client())
	for i := range 300 {
		c := w.authorized()
		access, refresh := w.provider.begin(name(i))
		c.Name, c.Grant.AccessToken, c.Grant.RefreshToken = name(i), token(access, refresh).Access, token(access, refresh).Refresh
		c.Grant.IssuedAt, c.Grant.ExpiresAt = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		w.disk.put(c)
	}
	w.start()
	pass(time.Minute)
	return w, most
}

func TestWhoWaitsOvertakesWhatNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, most := crowd(t)
		begin := time.Now()
		var all sync.WaitGroup
		for i := 0; i < 300; i += 20 {
			all.Go(func() {
				if g, err := w.keeper.Fresh(t.Context(), named(name(i)), 0); err != nil || g.Generation != 2 {
					t.Errorf("generation %d, %v", g.Generation, err)
				}
			})
		}
		all.Wait()
		if waited := time.Since(begin); waited > 13*time.Second {
			t.Errorf("15 requests waited %v, which is more than their turns take", waited)
		}
		pass(3 * time.Minute)
		w.stop()
		w.check()
		if n := len(w.provider.seen()); n != 300 || most.Load() != 8 {
			t.Errorf("%d calls, up to %d at a time", n, most.Load())
		}
	})
}

func TestASlowProviderWithAHostForEachTenantHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newDirectWorld(t, nil)
		w.endpoint.SetTransport(direct{http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Host, ".example.com") {
				<-time.After(29 * time.Second)
			}
			w.provider.ServeHTTP(rw, r)
		})})
		w.disk.put(client(), client(func(c *attache.OAuthClient) {
			c.Name, c.TokenURL = "tenants", "https://{subdomain}.example.com/token"
		}))
		w.start()
		ask := func(name, client string) {
			c := w.authorized()
			c.Name, c.OAuthClient, c.Subdomain = name, client, name
			c.Grant.IssuedAt, c.Grant.ExpiresAt = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
			w.disk.put(c)
			_, _ = w.keeper.Fresh(context.Background(), named(name), 0)
		}
		for i := range 300 {
			go ask(name(i), "tenants")
		}
		pass(time.Second)
		begin := time.Now()
		ask("other", "example")
		if waited := time.Since(begin); waited > time.Second {
			t.Errorf("a request to another provider waits %v", waited)
		}
		w.stop()
	})
}

func TestTheEndTurnsAwayWhoHasNotHadATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := crowd(t)
		calls := len(w.provider.seen())
		var all sync.WaitGroup
		for i := range 300 {
			all.Go(func() {
				if g, err := w.keeper.Fresh(t.Context(), named(name(i)), 0); (err != nil || g.Generation != 2) && !errors.Is(err, oauth.ErrStopped) {
					t.Errorf("generation %d, %v", g.Generation, err)
				}
			})
		}
		synctest.Wait()
		w.stop()
		all.Wait()
		if more := len(w.provider.seen()) - calls; more != 8 {
			t.Errorf("%d calls were finished at the end, where 8 were under way", more)
		}
	})
}

// TestAStoreThatIsClosedEndsTheProgram: there is nothing to wait for.
func TestAStoreThatIsClosedEndsTheProgram(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		expired(w)
		w.disk.onSync(func(int) (bool, error) { return false, fs.ErrClosed })
		if _, err := w.fresh(0); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("a request gets %v", err)
		}
	})
}
