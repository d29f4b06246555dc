package oauth_test

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"attache"
)

func TestADeletedConnectionIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(client(), w.authorized())
		w.disk.remove("bot", "crm")
		pass(2 * time.Hour)
		if n := len(w.provider.seen()); n != 0 {
			t.Errorf("%d calls for a connection that is gone", n)
		}
		w.disk.put(w.authorized())
		w.keeper.Changed(attache.Change{Deleted: true, Integration: &attache.Integration{Name: "bot"}})
		if _, err := w.fresh(0); !errors.Is(err, attache.ErrNotFound) {
			t.Errorf("a request gets %v", err)
		}
	})
}

func TestAConnectionThatIsMadeAnewGivesNothingToWhoKnowsTheOldOne(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		old := w.authorized()
		w.disk.put(client(), old)
		w.disk.remove("bot", "crm")
		next := w.authorized()
		next.CreatedAt = time.Now()
		w.disk.put(next)
		for _, used := range []uint64{0, 1} {
			if _, err := w.keeper.Fresh(t.Context(), &old, used); !errors.Is(err, attache.ErrNotFound) {
				t.Errorf("who used generation %d of the old one gets %v", used, err)
			}
		}
		if _, err := w.keeper.Look(&old); !errors.Is(err, attache.ErrNotFound) {
			t.Errorf("who looks gets %v", err)
		}
		if _, err := w.keeper.Fresh(t.Context(), &next, 0); err != nil || len(w.provider.seen()) != 0 {
			t.Errorf("after %d calls, who asks for the new one gets %v", len(w.provider.seen()), err)
		}
	})
}

func TestWhoWaitsForADeletedConnectionGetsNothingOfItsSuccessor(t *testing.T) {
	for sentence, generation := range map[string]uint64{"of the same generation": 1, "of another generation": 7} {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.perHost = 1
				w.start()
				expired(w) // and its refresh takes the only place
				go func() { _, _ = w.fresh(0) }()
				synctest.Wait()

				queued := w.authorized()
				queued.Name = "queued"
				queued.Grant.IssuedAt, queued.Grant.ExpiresAt = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
				w.disk.put(queued)
				answer := make(chan error, 1)
				go func() {
					_, err := w.keeper.Fresh(t.Context(), &queued, 0)
					answer <- err
				}()
				synctest.Wait()
				w.disk.remove("bot", "queued")
				next := w.authorized()
				next.Name, next.CreatedAt, next.Grant.Generation = "queued", time.Now(), generation
				w.disk.put(next)
				if err := <-answer; !errors.Is(err, attache.ErrNotFound) {
					t.Errorf("got %v", err)
				}
				w.stop()
				if n := len(w.provider.seen()); n != 1 {
					t.Errorf("%d calls", n)
				}
				pass(time.Minute)
			})
		})
	}
}

func TestTokensThatComeForADeletedConnectionAreRevoked(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(client(func(c *attache.OAuthClient) { c.Provider.RevocationURL = "https://example.com/revoke" }), w.authorized())
		w.provider.next(func(rw http.ResponseWriter, r *http.Request) {
			w.disk.remove("bot", "crm")
			w.disk.put(connection()) // somebody takes the name again
			w.provider.behave(rw, r.PostForm)
		}, says(200, ""), says(200, ""))
		pass(time.Hour)
		if g := w.grant(); !g.AccessToken.IsZero() || !g.RefreshToken.IsZero() {
			t.Error("the new connection got the old one's tokens")
		}
		seen := w.provider.seen()
		if len(seen) != 3 || seen[1].path != "/revoke" || seen[1].form.Get("token") != "a.refresh.2."+canary {
			t.Errorf("%d calls", len(seen))
		}
		synctest.Wait()
	})
}
