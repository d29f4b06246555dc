package admin_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"attache"
	"attache/admin"
	"attache/audit"
	"attache/client"
)

func TestRecentEventsAreNewestFirst(t *testing.T) {
	s := start(t)
	for i := range 5 {
		s.ring.Record(new(attache.Event{ID: fmt.Sprint(i), Kind: attache.RequestEvent}))
	}
	got, err := s.client().RecentEvents(t.Context(), 2)
	must(t, err)
	if len(got) != 2 || got[0].ID != "4" || got[1].ID != "3" {
		t.Errorf("the last two are %+v", got)
	}
}

// follow collects a client's events until it has n, or the stream ends.
func follow(ctx context.Context, c *client.Client, n int) (ids []string, err error) {
	for e, err := range c.Events(ctx) {
		if err != nil {
			return ids, err
		}
		if ids = append(ids, e.ID); len(ids) == n {
			break
		}
	}
	return ids, nil
}

// record records an event of the ID again and again until stop is closed, for
// nobody can tell from outside when a stream has begun.
func record(s *server, id string, stop <-chan struct{}) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		s.ring.Record(new(attache.Event{ID: id}))
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

func TestEventsAreFollowedOverEveryTransport(t *testing.T) {
	s := start(t)
	token := s.token(attache.RoleViewer)
	for name, options := range map[string]client.Options{
		"a socket":     {Socket: s.socket},
		"TCP":          {URL: s.url, Token: token},
		"this process": {Handler: s.api.Trusted()},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := client.New(options)
			must(t, err)
			defer c.Close()
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() { record(s, "e", stop) })
			got, err := follow(t.Context(), c, 3)
			close(stop)
			wg.Wait()
			must(t, err)
			if diff := cmp.Diff([]string{"e", "e", "e"}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAStreamOutlivesTheServersTimeouts(t *testing.T) {
	s := start(t)
	const timeout = 50 * time.Millisecond
	slow := httptest.NewUnstartedServer(s.api.Trusted())
	slow.Config.ReadTimeout, slow.Config.WriteTimeout = timeout, timeout
	slow.Start()
	defer slow.Close()
	c, err := client.New(client.Options{URL: slow.URL})
	must(t, err)
	defer c.Close()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { record(s, "e", stop) })
	began := time.Now()
	for _, err := range c.Events(t.Context()) {
		if err != nil {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		if time.Since(began) > 4*timeout {
			break
		}
	}
	if lasted := time.Since(began); lasted <= 4*timeout {
		t.Errorf("the stream ended after %s", lasted)
	}
	close(stop)
	wg.Wait()
}

func TestStreamsEndWhenTheServerShutsDown(t *testing.T) {
	s := start(t)
	c := s.client()
	stop, ended := make(chan struct{}), make(chan error)
	go func() {
		_, err := follow(t.Context(), c, -1)
		ended <- err
	}()
	var wg sync.WaitGroup
	wg.Go(func() { record(s, "e", stop) })
	close(s.done)
	if err := <-ended; err != nil {
		t.Errorf("the stream ended with %v", err)
	}
	close(stop)
	wg.Wait()
}

// bubble is an API with nothing but events, for a synctest bubble.
func bubble(t *testing.T, events admin.EventSource) http.Handler {
	t.Helper()
	api, err := admin.New(admin.Options{Events: events, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	return api.Trusted()
}

func fromRing(r *audit.Ring) admin.EventSource {
	return admin.EventsFrom(r.Recent, r.Subscribe, func(d audit.Delivery) (attache.Event, uint64) { return d.Event, d.Missed })
}

func streamRequest(ctx context.Context) *http.Request {
	r := httptest.NewRequestWithContext(ctx, "GET", "/api/v1/events", nil)
	r.Header.Set("Accept", "text/event-stream")
	return r
}

func TestASilentStreamHasHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		w := httptest.NewRecorder()
		bubble(t, fromRing(audit.NewRing(1))).ServeHTTP(w, streamRequest(ctx))
		if diff := cmp.Diff(strings.Repeat(": heartbeat\n\n", 3), w.Body.String()); diff != "" {
			t.Error(diff)
		}
		if ct := w.Header().Get("Content-Type"); ct != "text/event-stream" {
			t.Errorf("Content-Type is %q", ct)
		}
	})
}

func TestAStreamEndsWithItsToken(t *testing.T) {
	for sentence, test := range map[string]struct {
		tokenLife, revoked time.Duration
	}{
		"when it expires":    {time.Hour, 2 * time.Hour},
		"when it is revoked": {2 * time.Hour, time.Hour},
	} {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newTimed(t, test.tokenLife)
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour)
				defer cancel()
				go func() {
					<-time.After(test.revoked)
					all, err := u.store.AdminTokens(t.Context())
					must(t, err)
					must(t, u.store.DeleteAdminToken(t.Context(), all[0].ID))
				}()
				r := streamRequest(ctx)
				r.Header.Set("Authorization", "Bearer "+u.token.Expose())
				began, w := time.Now(), httptest.NewRecorder()
				r.Host = "localhost"
				u.api.ServeHTTP(w, r)
				if lasted := time.Since(began); w.Code != 200 || lasted < time.Hour || lasted > time.Hour+15*time.Second {
					t.Errorf("answered %d, the stream lasted %s", w.Code, lasted)
				}
				<-time.After(2 * time.Hour) // until the token is revoked, too
			})
		})
	}
}

func TestHEADOfAStreamEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTimed(t, 24*time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		api := streamRequest(ctx)
		api.Method, api.Host = http.MethodHead, "localhost"
		api.Header.Set("Authorization", "Bearer "+u.token.Expose())
		w := httptest.NewRecorder()
		u.api.ServeHTTP(w, api)
		for which, w := range map[string]*httptest.ResponseRecorder{
			"the API's": w,
			"the UI's":  u.do(ctx, http.MethodHead, "/events/stream", u.signIn(), nil),
		} {
			if ct := w.Header().Get("Content-Type"); ctx.Err() != nil || w.Code != 200 || ct != "text/event-stream" {
				t.Errorf("%s: answered %d %s, %v", which, w.Code, ct, ctx.Err())
			}
		}
	})
}

func TestStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := bubble(t, fromRing(audit.NewRing(1)))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() { handler.ServeHTTP(httptest.NewRecorder(), streamRequest(ctx)) })
		}
		synctest.Wait()
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, streamRequest(ctx))
		if w.Code != 503 || w.Header().Get("Retry-After") == "" {
			t.Errorf("one more stream is answered with %d %s", w.Code, w.Body)
		}
		cancel()
		wg.Wait()
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w = httptest.NewRecorder()
		handler.ServeHTTP(w, streamRequest(ctx))
		if w.Code != 200 {
			t.Errorf("when they have ended, a stream is answered with %d %s", w.Code, w.Body)
		}
	})
}

func TestASlowReaderIsToldWhatItMissed(t *testing.T) {
	deliveries := make(chan audit.Delivery, 2)
	deliveries <- audit.Delivery{Event: attache.Event{ID: "a"}}
	deliveries <- audit.Delivery{Event: attache.Event{ID: "b"}, Missed: 7}
	close(deliveries)
	source := admin.EventsFrom(nil, func(context.Context) <-chan audit.Delivery { return deliveries },
		func(d audit.Delivery) (attache.Event, uint64) { return d.Event, d.Missed })
	c, err := client.New(client.Options{Handler: bubble(t, source)})
	must(t, err)
	var got []string
	for e, err := range c.Events(t.Context()) {
		switch {
		case errors.Is(err, client.ErrMissed):
			got = append(got, err.Error())
		case err != nil:
			t.Error(err)
		default:
			got = append(got, e.ID)
		}
	}
	if diff := cmp.Diff([]string{"a", "events were missed: 7", "b"}, got); diff != "" {
		t.Error(diff)
	}
}
