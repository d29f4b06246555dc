package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"attache"
	"attache/secret"
)

// grants gives tokens as a keeper does: a new generation for each that was
// refused, up to the last one.
type grants struct {
	mu   sync.Mutex // guards what follows
	now  uint64
	last uint64
	asks []uint64 // the used generations
}

func token(generation uint64) string { return canary + strings.Repeat("x", int(generation)) }

func (g *grants) fresh(_ context.Context, _ *attache.Connection, used uint64) (attache.Grant, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asks = append(g.asks, used)
	if used == g.now {
		if g.now == g.last {
			return attache.Grant{}, errors.New("needs_reauthorization (invalid_grant)")
		}
		g.now++
	}
	return attache.Grant{State: attache.GrantActive, Generation: g.now, AccessToken: secret.New(token(g.now))}, nil
}

func oauthConnection() attache.Connection {
	return attache.Connection{Name: "for-a", Type: attache.OAuth, AllowedDomain: host, OAuthClient: "client"}
}

func TestAnOAuthConnectionSendsTheTokenThatIsFresh(t *testing.T) {
	for name, c := range map[string]struct {
		accepts    uint64 // the generation that the upstream takes; others get 401
		last       uint64 // the newest that there is
		body       int
		status     int
		sent, asks int
	}{
		"a valid token is sent at once":                            {1, 1, 0, 200, 1, 1},
		"a refused token is refreshed, and the request sent again": {2, 2, 0, 200, 2, 2},
		"so is one with a body":                                    {2, 2, 1000, 200, 2, 2},
		"so is one with as much of a body as is kept":              {2, 2, 1 << 20, 200, 2, 2},
		"more of a body is not kept":                               {2, 2, 1<<20 + 1, 401, 1, 2},
		"a second refusal is for the client":                       {3, 3, 0, 401, 2, 2},
		"so is the first where there is no other token":            {2, 1, 0, 401, 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			var bodies [][]byte
			up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				bodies = append(bodies, body)
				if r.Header.Get("Authorization") != "Bearer "+token(c.accepts) {
					w.WriteHeader(401)
				}
			})
			g := &grants{now: 1, last: c.last}
			w := newWorld(t, up, nil, oauthConnection())
			w.fresh = g.fresh
			body := bytes.Repeat([]byte("x"), c.body)
			resp, _ := get(t, w.client(), request(t, "POST", w.url("/"), bytes.NewReader(body)))
			g.asks = slices.Compact(g.asks) // it is asked for again when a body has come
			if resp.StatusCode != c.status || up.count() != c.sent || len(g.asks) != c.asks {
				t.Errorf("answer %d after %d requests and asking for %v", resp.StatusCode, up.count(), g.asks)
			}
			for i, b := range bodies {
				if len(b) != c.body {
					t.Errorf("request %d had a body of %d bytes", i, len(b))
				}
			}
			if e := w.event(isRequest); e.Status != c.status || e.Connection != "for-a" {
				t.Errorf("event %+v", e)
			}
		})
	}
}

func TestWithoutATokenNothingIsSentAndTheClientIsToldWhy(t *testing.T) {
	up := newOrigin(t, nil)
	w := newWorld(t, up, nil, oauthConnection())
	w.fresh = func(context.Context, *attache.Connection, uint64) (attache.Grant, error) {
		return attache.Grant{}, errors.New("needs_reauthorization (invalid_grant)")
	}
	resp, body := get(t, w.client(), request(t, "GET", w.url("/"), nil))
	if resp.StatusCode != 503 || resp.Header.Get("Attache-Error") != string(attache.CodeCredentialUnavailable) ||
		!strings.Contains(body, "needs_reauthorization (invalid_grant)") || up.count() != 0 {
		t.Errorf("answer %d %s after %d requests", resp.StatusCode, body, up.count())
	}
}
