package oauth_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"attache"
	"attache/oauth"
	"attache/secret"
)

func (w *world) export(mode oauth.Mode, force bool) (oauth.Export, error) {
	return w.keeper.Export(context.Background(), oauth.ExportRequest{Integration: "bot", Connection: "crm", Mode: mode, Force: force})
}

// exported is the refresh token in an export.
func exported(e oauth.Export) string { return e.Connection.Grant.RefreshToken.Expose() }

// idle lets a day pass and fails if the provider is asked for anything.
func (w *world) idle(t *testing.T) {
	t.Helper()
	before := len(w.provider.seen())
	pass(24 * time.Hour)
	if calls := len(w.provider.seen()) - before; calls != 0 {
		t.Errorf("%d calls for a grant that was moved", calls)
	}
}

// TestNoRefreshSpendsATokenThatWasMoved moves a grant at any time of its life, with
// a provider that takes its time, and sees that what was given away is the one
// token that is good, and that it is left alone from then on.
func TestNoRefreshSpendsATokenThatWasMoved(t *testing.T) {
	during := 0
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			w := newDirectWorld(t, nil)
			w.start()
			random := rand.New(rand.NewPCG(seed, 7))
			w.endpoint.SetTransport(direct{http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				w.provider.behave(rw, read(r))
				<-time.After(10 * time.Second)
			})})
			w.disk.put(client(), w.authorized())
			pass(48*time.Minute + time.Duration(random.IntN(12*60))*time.Second)
			if w.grant().State == attache.GrantRefreshing {
				during++
			}
			e, err := w.export(oauth.ModeMove, false)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if f := w.provider.family("a"); exported(e) != f.refresh {
				t.Errorf("seed %d: %s was given away, and the provider takes %s", seed, exported(e), f.refresh)
			}
			pass(24 * time.Hour)
			if f := w.provider.family("a"); exported(e) != f.refresh || f.reused != 0 {
				t.Errorf("seed %d: the token was spent here", seed)
			}
			if _, err := w.fresh(0); !strings.Contains(fmt.Sprint(err), oauth.CodeMoveUnconfirmed) {
				t.Errorf("seed %d: a request gets %v", seed, err)
			}
			w.stop()
			w.check()
		})
	}
	if during < 2 {
		t.Errorf("%d moves met a refresh", during)
	}
}

// TestAMoveSurvivesACrashAtEachWrite: whenever the process dies, the grant is
// either here and refreshed, or given up and there to be given away, as the same
// move; and once that was confirmed, it is not.
func TestAMoveSurvivesACrashAtEachWrite(t *testing.T) {
	for sentence, c := range map[string]struct {
		write, before bool // of the move, else of the confirmation; before it is on disk
		moved, held   bool // after the crash
	}{
		"before the move is written, nothing has happened":         {true, true, false, false},
		"after the move is written, it can be repeated":            {true, false, true, true},
		"before the confirmation is written, it can be repeated":   {false, true, true, true},
		"after the confirmation is written, nothing is left to be": {false, false, true, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.disk.put(client(), w.authorized())
				var first oauth.Export
				var err error
				if !c.write {
					if first, err = w.export(oauth.ModeMove, false); err != nil {
						t.Fatal(err)
					}
				}
				w.dies(crash{1, c.before})
				if c.write {
					_, err = w.export(oauth.ModeMove, false)
				} else {
					err = w.keeper.ConfirmMove(t.Context(), "bot", "crm", first.ID)
				}
				if !errors.Is(err, errClosed) {
					t.Fatalf("the process does not die: %v", err)
				}
				w.reborn()
				if !c.moved {
					pass(2 * time.Hour)
					if g, f := w.grant(), w.provider.family("a"); g.State != attache.GrantActive || f.count < 2 || f.reused > 0 {
						t.Errorf("the grant is %s after %d refreshes", g.State, f.count-1)
					}
					return
				}
				w.idle(t)
				again, err := w.export(oauth.ModeMove, false)
				switch {
				case !c.held && !errors.Is(err, oauth.ErrNotExportable):
					t.Errorf("given away again: %v", err)
				case c.held && err != nil:
					t.Errorf("it is lost: %v", err)
				case c.held && exported(again) != w.provider.family("a").refresh:
					t.Error("what is given away is not the provider's")
				case c.held && !c.write && (again.ID != first.ID || !again.At.Equal(first.At)):
					t.Errorf("move %s at %v is repeated as %s at %v", first.ID, first.At, again.ID, again.At)
				}
			})
		})
	}
}

func TestAMoveIsConfirmedByItsID(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(client(), w.authorized())
		e, err := w.export(oauth.ModeMove, false)
		if err != nil {
			t.Fatal(err)
		}
		confirm := func(id string) error { return w.keeper.ConfirmMove(t.Context(), "bot", "crm", id) }
		if err := confirm(e.ID + "x"); !errors.Is(err, oauth.ErrUnknownMove) {
			t.Errorf("another ID: %v", err)
		}
		if w.grant().Move.Held == nil {
			t.Error("another ID has confirmed it")
		}
		for range 2 { // whose answer was lost says it again
			if err := confirm(e.ID); err != nil {
				t.Error(err)
			}
		}
		want := attache.Grant{
			State: attache.GrantMoved, Scope: "read", Generation: 1, ErrorCode: oauth.CodeMoved, Move: &attache.Move{ID: e.ID, At: e.At},
		}
		if diff := cmp.Diff(want, w.grant()); diff != "" {
			t.Error(diff)
		}
		if got, want := w.path(), "active moved(move_unconfirmed) moved(grant_moved) moved(grant_moved)"; got != want {
			t.Errorf("states %q, want %q", got, want)
		}
	})
}

// TestWhatWasMovedCanBeAuthorizedAnew: that is another grant, and the one that was
// given away is forgotten here.
func TestWhatWasMovedCanBeAuthorizedAnew(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(client(), w.authorized())
		e, err := w.export(oauth.ModeMove, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.keeper.Adopt(t.Context(), named("crm"), token(w.provider.begin("b")), "read"); err != nil {
			t.Fatal(err)
		}
		if err := w.keeper.ConfirmMove(t.Context(), "bot", "crm", e.ID); !errors.Is(err, oauth.ErrUnknownMove) {
			t.Errorf("confirmed: %v", err)
		}
		pass(2 * time.Hour)
		if g := w.grant(); g.State != attache.GrantActive || g.Move != nil || w.provider.family("b").count < 2 || w.provider.family("a").count != 1 {
			t.Errorf("the grant is %+v", g)
		}
	})
}

func TestWhatWasMovedIsNotRevoked(t *testing.T) {
	for _, confirmed := range []bool{false, true} {
		bubble(t, func(t *testing.T, w *world) {
			w.disk.put(client(func(c *attache.OAuthClient) { c.Provider.RevocationURL = "https://example.com/revoke" }), w.authorized())
			e, err := w.export(oauth.ModeMove, false)
			if err != nil {
				t.Fatal(err)
			}
			if confirmed {
				err = w.keeper.ConfirmMove(t.Context(), "bot", "crm", e.ID)
			}
			c, readErr := w.disk.Connection(t.Context(), "bot", "crm")
			r, revokeErr := w.keeper.Revocation(t.Context(), &c)
			if err := errors.Join(err, readErr, revokeErr); err != nil || r != nil {
				t.Errorf("confirmed: %t: %v, and there is something to revoke", confirmed, err)
			}
		})
	}
}

// TestACopyNeedsForceWhereItCannotBeShared: what is known comes from the refreshes
// so far.
func TestACopyNeedsForceWhereItCannotBeShared(t *testing.T) {
	for sentence, c := range map[string]struct {
		keeps     bool // the provider does not rotate
		refreshed bool
		rule      string // of the refusal; empty: none
	}{
		"before the first refresh nothing is known": {true, false, "is needed: whether the provider replaces"},
		"where a token was replaced, it is refused": {false, true, "is needed: the provider replaces"},
		"where none was, it is not":                 {true, true, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.provider.keeps = c.keeps
				w.disk.put(client(), w.authorized())
				if c.refreshed {
					pass(2 * time.Hour)
				}
				before := w.grant()
				_, err := w.export(oauth.ModeCopy, false)
				refused, is := errors.AsType[*attache.FieldError](err)
				switch {
				case c.rule == "" && err != nil:
					t.Error(err)
				case c.rule != "" && (!is || refused.Field != "force" || !strings.HasPrefix(refused.Field+" "+refused.Rule, "force "+c.rule)):
					t.Errorf("error %v, want %q", err, c.rule)
				}
				e, err := w.export(oauth.ModeCopy, true)
				if err != nil || exported(e) != w.provider.family("a").refresh {
					t.Errorf("with force: %v", err)
				}
				if diff := cmp.Diff(before, w.grant()); diff != "" {
					t.Error("a copy has changed the grant:", diff)
				}
				if path := w.path(); !strings.HasSuffix(path, "active(grant_copied)") {
					t.Errorf("the states tell nothing of it: %s", path)
				}
			})
		})
	}
}

func TestWhatCannotBeExported(t *testing.T) {
	lost := attache.Intent{Generation: 1}
	for sentence, c := range map[string]struct {
		change func(*attache.OAuthClient, *attache.Connection)
		why    string
	}{
		"what nobody has authorized": {func(_ *attache.OAuthClient, c *attache.Connection) { c.Grant = nil }, "nobody has authorized it"},
		"what the provider refuses":  {func(_ *attache.OAuthClient, c *attache.Connection) { c.Grant.State = attache.GrantNeedsReauth }, "the provider no longer accepts"},
		"a token that may be spent": {func(_ *attache.OAuthClient, c *attache.Connection) {
			c.Grant.State, c.Grant.Intent = attache.GrantRetrying, &lost
		}, "a refresh was cut off"},
		"a refresh that a crash cut off": {func(_ *attache.OAuthClient, c *attache.Connection) {
			c.Grant.State, c.Grant.Intent = attache.GrantRefreshing, &lost
		}, "a refresh was cut off"},
		"a connection of another type": {func(_ *attache.OAuthClient, c *attache.Connection) { c.Type, c.Grant = attache.APIKey, nil }, "type is not oauth"},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newDirectWorld(t, nil)
			w.keeper = oauth.NewKeeper(w.endpoint, w.disk, oauth.KeeperOptions{}) // that does not run
			o, one := client(), w.authorized()
			c.change(&o, &one)
			w.disk.put(o, one)
			for _, mode := range []oauth.Mode{oauth.ModeMove, oauth.ModeCopy} {
				_, err := w.export(mode, mode == oauth.ModeCopy)
				if !strings.Contains(fmt.Sprint(err), c.why) {
					t.Errorf("%s: %v, want %q", mode, err, c.why)
				}
			}
			got, err := w.disk.Connection(t.Context(), "bot", "crm")
			if diff := cmp.Diff(one, got); err != nil || diff != "" {
				t.Error(err, diff)
			}
		})
	}
}

// lagging is a disk whose refusals take a while to get to who asked.
type lagging struct{ *disk }

func (d lagging) UpdateGrant(ctx context.Context, integration, name string, update func(*attache.Grant) error) error {
	err := d.disk.UpdateGrant(ctx, integration, name, update)
	if err != nil {
		<-time.After(10 * time.Second)
	}
	return err
}

func TestAnExportThatMeetsTheEndOfARefreshGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		expired(w) // and its provider takes five seconds
		go func() { _, _ = w.fresh(0) }()
		pass(time.Second)
		others := oauth.NewKeeper(w.endpoint, lagging{w.disk}, oauth.KeeperOptions{})
		e, err := others.Export(t.Context(), oauth.ExportRequest{Integration: "bot", Connection: "crm", Mode: oauth.ModeMove})
		if err != nil || exported(e) != w.provider.family("a").refresh {
			t.Errorf("the refresh has ended well, and the export gets %v", err)
		}
		w.stop()
		pass(time.Minute)
	})
}

// TestWhatGetsItsOwnTokensTakesNoneAlong: there is nothing that two machines could
// spend, and the one that gives it away stops all the same.
func TestWhatGetsItsOwnTokensTakesNoneAlong(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(client(credentials), connection())
		pass(time.Minute)
		for _, mode := range []oauth.Mode{oauth.ModeCopy, oauth.ModeMove} {
			e, err := w.export(mode, false)
			if err != nil || e.Connection.Grant != nil || e.Client.ClientSecret.IsZero() {
				t.Errorf("%s: %v, grant %+v", mode, err, e.Connection.Grant)
			}
		}
		w.idle(t)
		if _, err := w.fresh(0); err == nil {
			t.Error("it is used all the same")
		}
	})
}

// TestWhatIsImportedIsKeptAlive moves a grant between two processes.
func TestWhatIsImportedIsKeptAlive(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(client(), w.authorized())
		pass(30 * time.Minute)
		e, err := w.export(oauth.ModeMove, false)
		if err != nil {
			t.Fatal(err)
		}
		there := &world{t: t, provider: w.provider, disk: newDisk(), endpoint: w.endpoint}
		there.start()
		defer there.stop()
		if err := there.keeper.Import(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if g, err := there.fresh(0); err != nil || !w.provider.accepts(g.AccessToken.Expose()) {
			t.Errorf("at once: %v", err)
		}
		pass(4 * time.Hour)
		if g, f := there.grant(), w.provider.family("a"); g.State != attache.GrantActive || f.count < 4 || f.reused > 0 || g.Rotation != attache.Rotates {
			t.Errorf("%d refreshes there, and the grant is %s, and rotates: %s", f.count-1, g.State, g.Rotation)
		}
		if path := there.path(); !strings.HasPrefix(path, "pending active(grant_imported) refreshing active") {
			t.Errorf("states %q", path)
		}
		there.check()
	})
}

func TestAGrantFromElsewhereKeepsToTheRules(t *testing.T) {
	now := time.Now()
	for sentence, c := range map[string]struct {
		change func(*attache.Grant)
		field  string
	}{
		"as a provider's":              {func(*attache.Grant) {}, ""},
		"without a refresh token":      {func(g *attache.Grant) { g.RefreshToken = secret.Text{} }, ""},
		"without an expiry":            {func(g *attache.Grant) { g.ExpiresAt = time.Time{} }, ""},
		"without an access token":      {func(g *attache.Grant) { g.AccessToken = secret.Text{} }, "access_token"},
		"with one that breaks a field": {func(g *attache.Grant) { g.AccessToken = secret.New("a\r\nb") }, "access_token"},
		"with one that is too long":    {func(g *attache.Grant) { g.RefreshToken = secret.New(strings.Repeat("x", 33<<10)) }, "refresh_token"},
		"with one as RFC 6749 has it":  {func(g *attache.Grant) { g.RefreshToken = secret.New(" r ~") }, ""},
		"with one with an escape":      {func(g *attache.Grant) { g.RefreshToken = secret.New("r\x1b") }, "refresh_token"},
		"with a scope of 256":          {func(g *attache.Grant) { g.Scope = strings.Repeat("x", 256) }, "scope"},
		"with an escape":               {func(g *attache.Grant) { g.Scope = "\x1b[2J" }, "scope"},
		"without a time of issue":      {func(g *attache.Grant) { g.IssuedAt = time.Time{} }, "expires_at"},
		"that ends before it begins":   {func(g *attache.Grant) { g.ExpiresAt = now.Add(-1) }, "expires_at"},
		"for a century":                {func(g *attache.Grant) { g.ExpiresAt = now.AddDate(100, 0, 0) }, "expires_at"},
		"that rotates perhaps":         {func(g *attache.Grant) { g.Rotation = "perhaps" }, "rotation"},
	} {
		g := &attache.Grant{AccessToken: secret.New("a"), RefreshToken: secret.New("r"), Scope: "read", IssuedAt: now, ExpiresAt: now.Add(time.Hour)}
		c.change(g)
		err := oauth.CheckGrant(g)
		refused, _ := errors.AsType[*attache.FieldError](err)
		if (err == nil) != (c.field == "") || refused != nil && refused.Field != c.field {
			t.Errorf("%s: %v", sentence, err)
		}
	}
}
