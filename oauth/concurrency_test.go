package oauth_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
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
			if _, err := w.keeper.Fresh(first, "bot", "crm", 0); !errors.Is(err, context.Canceled) {
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
		if _, err := w.keeper.Fresh(ctx, "bot", "crm", 0); !errors.Is(err, context.DeadlineExceeded) {
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
		w.disk.sync = func(write int) (bool, error) {
			if write > 1 && !closed(disk) {
				return false, errors.New("no space left on device")
			}
			return true, nil
		}
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
		w.disk.sync = func(int) (bool, error) {
			if full.Load() {
				return false, errors.New("no space left on device")
			}
			return true, nil
		}
		if _, err := w.fresh(0); err == nil {
			t.Error("a request got a token")
		}
		pass(10 * time.Minute)
		if n := len(w.provider.seen()); n != 0 {
			t.Errorf("%d calls", n)
		}
		full.Store(false)
		pass(time.Minute)
		if g := w.grant(); g.Generation != 2 {
			t.Errorf("with room on the disk, generation %d", g.Generation)
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
		if err := w.keeper.Adopt(t.Context(), "bot", "crm", token(access, refresh), "read"); err != nil {
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

// TestManyConnectionsShareTheProvider has more overdue connections than may be
// refreshed at a time.
func TestManyConnectionsShareTheProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newDirectWorld(t, nil)
		var now, most atomic.Int64
		w.endpoint.SetTransport(direct{http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			<-time.After(time.Second)
			now.Add(-1)
			w.provider.ServeHTTP(rw, r)
		})})
		w.disk.put(client())
		for i := range 300 {
			c := w.authorized()
			c.Name = fmt.Sprint("crm", i)
			access, refresh := w.provider.begin(c.Name)
			*c.Grant = attache.Grant{State: attache.GrantActive, AccessToken: token(access, refresh).Access, RefreshToken: token(access, refresh).Refresh,
				IssuedAt: time.Now().Add(-2 * time.Hour), ExpiresAt: time.Now().Add(-time.Hour), Generation: 1}
			w.disk.put(c)
		}
		w.start()
		pass(20 * time.Second)
		began := time.Now()
		if g, err := w.keeper.Fresh(t.Context(), "bot", "crm299", 0); err != nil || g.Generation != 2 {
			t.Errorf("a request among many overdue connections: %v", err)
		}
		if waited := time.Since(began); waited > 3*time.Second {
			t.Errorf("a request waited %v behind those that nobody waits for", waited)
		}
		pass(3 * time.Minute)
		w.stop()
		w.check()
		if n := len(w.provider.seen()); n != 300 {
			t.Errorf("%d calls", n)
		}
		if most.Load() != 8 {
			t.Errorf("%d calls at a time at one host", most.Load())
		}
	})
}

// TestAStoreThatIsClosedEndsTheProgram: there is nothing to wait for.
func TestAStoreThatIsClosedEndsTheProgram(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		expired(w)
		w.disk.sync = func(int) (bool, error) { return false, fs.ErrClosed }
		if _, err := w.fresh(0); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("a request gets %v", err)
		}
	})
}
