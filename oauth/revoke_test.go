package oauth_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"attache"
	"attache/oauth"
)

// revocable is the client with a revocation URL.
func revocable() attache.OAuthClient {
	return client(func(c *attache.OAuthClient) { c.Provider.RevocationURL = "https://example.com/revoke" })
}

// revocation is that of the connection.
func (w *world) revocation() *oauth.Revocation {
	w.t.Helper()
	c := w.authorized()
	r, err := w.keeper.Revocation(w.t.Context(), &c)
	if err != nil {
		w.t.Error(err)
	}
	return r
}

func TestARevocationTellsTheProvider(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(revocable(), w.authorized())
		r := w.revocation()
		w.disk.put(client()) // what it takes is known already
		w.provider.next(says(200, ""), says(503, ""))
		if err := r.Revoke(t.Context()); err != nil {
			t.Error(err)
		}
		if got := w.provider.seen()[0]; got.form.Get("token") != "a.refresh.1."+canary || got.path != "/revoke" {
			t.Errorf("the request is %+v", got)
		}
		var failed *oauth.Error
		if err := r.Revoke(t.Context()); !errors.As(err, &failed) || failed.Kind != oauth.TryLater {
			t.Errorf("in an outage: %v", err)
		}
		if r := w.revocation(); r != nil {
			t.Errorf("without a revocation URL: %+v", r)
		}
	})
}

func TestManyRevocationsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(revocable(), w.authorized())
		var now, most atomic.Int32
		slow := func(rw http.ResponseWriter, r *http.Request) {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			select {
			case <-time.After(time.Second):
			case <-r.Context().Done():
				hangsUp(rw, r)
			}
		}
		all := make([]*oauth.Revocation, 20)
		for i := range all {
			all[i] = w.revocation()
			w.provider.next(slow)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		begun := time.Now()
		failed, err := oauth.RevokeAll(ctx, all)
		synctest.Wait()
		if failed != 12 || err == nil || most.Load() != 8 || time.Since(begun) != 1500*time.Millisecond {
			t.Errorf("%d failed, the first with %v; at most %d at once, %s in all", failed, err, most.Load(), time.Since(begun))
		}
		if failed, err := oauth.RevokeAll(t.Context(), nil); failed != 0 || err != nil {
			t.Errorf("of none, %d failed: %v", failed, err)
		}
	})
}
