package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"attache"
	"attache/secret"
)

func TestConnectionComesBackAsItWasStored(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.CreateIntegration(t.Context(), attache.Integration{Name: "bot", CreatedAt: created}))
	local := created.In(time.FixedZone("elsewhere", 3600))
	all := []attache.Connection{
		apiKey("bot", "a", "a key with \"quotes\", ünicode, \x00 and \xff"),
		{Integration: "bot", Name: "b", Type: attache.BasicAuth, AllowedPorts: []uint16{443}, CreatedAt: local, UpdatedAt: local,
			Credential: attache.Credential{Username: secret.New("ann"), Password: secret.New("pass")}},
		{Integration: "bot", Name: "c", Type: attache.BearerToken, AllowedPorts: []uint16{443}, Credential: attache.Credential{Token: secret.New("tok")}},
	}
	must(t, s.CreateOAuthClient(t.Context(), oauthClient("bot", "client")))
	all = append(all, oauth("bot", "d"), authorized("bot", "e", 1))
	for _, c := range all {
		must(t, s.CreateConnection(t.Context(), c))
	}
	all[1].CreatedAt, all[1].UpdatedAt = created, created // in UTC
	must(t, s.Close())

	s = open(t, dir)
	got, more, err := s.Connections(t.Context(), "bot", "", 0)
	must(t, err)
	if diff := cmp.Diff(all, got); diff != "" || more {
		t.Errorf("%s, more %v", diff, more)
	}
	for _, want := range all {
		got, err := s.Connection(t.Context(), "bot", want.Name)
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestConnectionPages(t *testing.T) {
	s := openWith(t)
	names := []string{"B", "a", "a-b", "a1", "a_b", "b", "c"}
	for _, n := range slices.Backward(names) {
		must(t, s.CreateConnection(t.Context(), apiKey("bot", n, "k")))
		must(t, s.CreateConnection(t.Context(), apiKey("other", n+"-other", "k")))
	}
	for limit := range len(names) + 2 {
		t.Run(fmt.Sprint("of ", limit), func(t *testing.T) {
			var got []string
			after, more := "", true
			for more {
				page, m, err := s.Connections(t.Context(), "bot", after, limit)
				must(t, err)
				if len(page) == 0 || limit > 0 && len(page) > limit {
					t.Fatalf("a page of %d", len(page))
				}
				for _, c := range page {
					got = append(got, c.Name)
				}
				after, more = page[len(page)-1].Name, m
			}
			if diff := cmp.Diff(names, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	for after, want := range map[string]string{"a-": "a-b", "a\x00": "a-b", "b": "c", "": "B"} {
		page, _, err := s.Connections(t.Context(), "bot", after, 1)
		must(t, err)
		if page[0].Name != want {
			t.Errorf("after %q comes %q, want %q", after, page[0].Name, want)
		}
	}
	for _, after := range []string{"c", "zzz", "\xff"} {
		if page, more, err := s.Connections(t.Context(), "bot", after, 1); len(page) != 0 || more || err != nil {
			t.Errorf("after %q: %v, %v, %v", after, page, more, err)
		}
	}
}

func TestWhatNeverChanges(t *testing.T) {
	for field, change := range map[string]func(*attache.Connection){
		"integration":    func(c *attache.Connection) { c.Integration = "other" },
		"name":           func(c *attache.Connection) { c.Name = "d" },
		"type":           func(c *attache.Connection) { c.Type = attache.BasicAuth },
		"allowed_domain": func(c *attache.Connection) { c.AllowedDomain = "evil.example" },
		"allowed_ports":  func(c *attache.Connection) { c.AllowedPorts[0] = 80 },
		"header_name":    func(c *attache.Connection) { c.HeaderName = "X-Other" },

		"oauth_client":        func(c *attache.Connection) { c.OAuthClient = "other" },
		"oauth_url_subdomain": func(c *attache.Connection) { c.Subdomain = "evil" },
		"permission_scope":    func(c *attache.Connection) { c.Scope = "admin" },
		"created_at":          func(c *attache.Connection) { c.CreatedAt = c.CreatedAt.Add(1) },
	} {
		t.Run(field, func(t *testing.T) {
			s := openWith(t)
			must(t, s.CreateOAuthClient(t.Context(), oauthClient("bot", "client")))
			want := authorized("bot", "c", 1)
			must(t, s.CreateConnection(t.Context(), want))
			err := s.UpdateConnection(t.Context(), "bot", "c", func(c *attache.Connection) error {
				change(c)
				return nil
			})
			var refused *attache.FieldError
			if !errors.As(err, &refused) || refused.Field != field {
				t.Errorf("error %v", err)
			}
			got, err := s.Connection(t.Context(), "bot", "c")
			must(t, err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDeletingAnIntegrationDeletesWhatItOwnsAndNothingElse(t *testing.T) {
	s := openWith(t)
	must(t, s.CreateIntegration(t.Context(), attache.Integration{Name: "bo", CreatedAt: created})) // a prefix of bot
	must(t, s.CreateIntegration(t.Context(), attache.Integration{Name: "bot-2", CreatedAt: created}))
	for _, i := range []string{"bo", "bot", "bot-2"} {
		must(t, s.CreateOAuthClient(t.Context(), oauthClient(i, "client")))
		must(t, s.CreateConnection(t.Context(), apiKey(i, "c", "k")))
		must(t, s.CreateConnection(t.Context(), authorized(i, "o", 1)))
		must(t, s.CreateAccessToken(t.Context(), accessToken(i, "t")))
	}
	before := s.Stats().Writes
	must(t, s.DeleteIntegration(t.Context(), "bot"))
	if writes := s.Stats().Writes - before; writes != 1 {
		t.Errorf("%d transactions, want 1", writes)
	}
	got, err := read(t, s)
	must(t, err)
	want := contents{
		Integrations: []attache.Integration{{Name: "bo", CreatedAt: created}, {Name: "bot-2", CreatedAt: created}, {Name: "other", CreatedAt: created}},
		OAuthClients: []attache.OAuthClient{oauthClient("bo", "client"), oauthClient("bot-2", "client")},
		Connections:  []attache.Connection{apiKey("bo", "c", "k"), authorized("bo", "o", 1), apiKey("bot-2", "c", "k"), authorized("bot-2", "o", 1)},
		AccessTokens: []attache.AccessToken{accessToken("bo", "t"), accessToken("bot-2", "t")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	must(t, s.CreateIntegration(t.Context(), attache.Integration{Name: "bot", CreatedAt: created}))
	if page, _, err := s.Connections(t.Context(), "bot", "", 0); len(page) != 0 || err != nil {
		t.Errorf("the new one inherited %v, %v", page, err)
	}
	if all, err := s.OAuthClients(t.Context(), "bot"); len(all) != 0 || err != nil {
		t.Errorf("the new one inherited %v, %v", all, err)
	}
}

func TestTokens(t *testing.T) {
	s := openWith(t)
	late, early := accessToken("bot", "a"), accessToken("bot", "b")
	late.CreatedAt, late.ExpiresAt = created.Add(time.Hour), time.Time{}
	must(t, s.CreateAccessToken(t.Context(), late))
	must(t, s.CreateAccessToken(t.Context(), early))
	got, err := s.AccessTokens(t.Context(), "bot")
	must(t, err)
	if diff := cmp.Diff([]attache.AccessToken{early, late}, got); diff != "" {
		t.Error(diff)
	}
	must(t, s.DeleteAccessToken(t.Context(), "bot", "b"))

	admin := attache.AdminToken{ID: "x", Role: attache.RoleOperator, Hash: attache.TokenHash{1}, CreatedAt: created.Add(1)}
	viewer := attache.AdminToken{ID: "y", Role: attache.RoleViewer, Hash: attache.TokenHash{2}, CreatedAt: created, ExpiresAt: created}
	must(t, s.CreateAdminToken(t.Context(), admin))
	must(t, s.CreateAdminToken(t.Context(), viewer))
	all, err := s.AdminTokens(t.Context())
	must(t, err)
	if diff := cmp.Diff([]attache.AdminToken{viewer, admin}, all); diff != "" {
		t.Error(diff)
	}
	if one, err := s.AdminToken(t.Context(), admin.Hash); err != nil || one != admin {
		t.Errorf("AdminToken = %v, %v", one, err)
	}
	must(t, s.DeleteAdminToken(t.Context(), "x"))
	_, err = s.AdminToken(t.Context(), admin.Hash)
	wantError(t, err, attache.ErrNotFound)
}

func TestAuthoritiesAreReplacedAndTheNewestComesFirst(t *testing.T) {
	s := open(t, t.TempDir())
	if all, err := s.Authorities(t.Context()); len(all) != 0 || err != nil {
		t.Fatalf("at first: %v, %v", all, err)
	}
	of := func(hours ...int) (all []Authority) {
		for _, h := range hours {
			all = append(all, Authority{fmt.Append(nil, h), secret.New(fmt.Sprint(h)), created.Add(time.Duration(h) * time.Hour)})
		}
		return all
	}
	for _, tt := range []struct{ save, want []int }{{[]int{1}, []int{1}}, {[]int{1, 3, 2}, []int{3, 2, 1}}, {[]int{3}, []int{3}}} {
		must(t, s.SaveAuthorities(t.Context(), of(tt.save...)))
		got, err := s.Authorities(t.Context())
		must(t, err)
		if diff := cmp.Diff(of(tt.want...), got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestOfManyWhoCreateOneNameOneWins(t *testing.T) {
	s := openWith(t)
	for round := range 5 {
		name := fmt.Sprint("c", round)
		errs := make([]error, 8)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { errs[i] = s.CreateConnection(t.Context(), apiKey("bot", name, fmt.Sprint(i))) })
		}
		wg.Wait()
		winner := slices.Index(errs, nil)
		for i, err := range errs {
			if i != winner && !errors.Is(err, attache.ErrExists) {
				t.Errorf("writer %d: %v", i, err)
			}
		}
		c, err := s.Connection(t.Context(), "bot", name)
		must(t, err)
		if c.Credential.APIKey.Expose() != fmt.Sprint(winner) {
			t.Errorf("%d won, but %s is stored", winner, c.Credential.APIKey.Expose())
		}
	}
}

func TestNoUpdateIsLost(t *testing.T) {
	s := openWith(t)
	must(t, s.CreateConnection(t.Context(), attache.Connection{Integration: "bot", Name: "rotating"}))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if _, err := rotate(t.Context(), s); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	c, err := s.Connection(t.Context(), "bot", "rotating")
	must(t, err)
	if n := number(c.Credential.Token); n != 160 {
		t.Errorf("160 updates made %d", n)
	}
}

func TestEndedContextDoesNothing(t *testing.T) {
	s := openWith(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, do := range calls {
		wantError(t, do(ctx, s), context.Canceled, "")
		if t.Failed() {
			t.Fatal(name)
		}
	}
	if f := s.Stats().Failures; f != 0 {
		t.Errorf("%d failures", f)
	}
	_, err := Open(ctx, Options{Dir: t.TempDir()})
	wantError(t, err, context.Canceled)
}

func TestClosedStoreSaysSo(t *testing.T) {
	s := openWith(t)
	must(t, s.Close())
	for name, do := range calls {
		if err := do(t.Context(), s); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if size := s.Stats().Size; size != 0 {
		t.Errorf("size %d", size)
	}
}

// calls is every method that begins a transaction.
var calls = map[string]func(context.Context, *Store) error{
	"CreateIntegration": func(ctx context.Context, s *Store) error {
		return s.CreateIntegration(ctx, attache.Integration{Name: "x"})
	},
	"Integrations":      func(ctx context.Context, s *Store) error { _, err := s.Integrations(ctx); return err },
	"DeleteIntegration": func(ctx context.Context, s *Store) error { return s.DeleteIntegration(ctx, "bot") },
	"CreateAccessToken": func(ctx context.Context, s *Store) error { return s.CreateAccessToken(ctx, accessToken("bot", "x")) },
	"AccessTokens":      func(ctx context.Context, s *Store) error { _, err := s.AccessTokens(ctx, "bot"); return err },
	"DeleteAccessToken": func(ctx context.Context, s *Store) error { return s.DeleteAccessToken(ctx, "bot", "x") },
	"CreateAdminToken": func(ctx context.Context, s *Store) error {
		return s.CreateAdminToken(ctx, attache.AdminToken{ID: "x"})
	},
	"AdminTokens": func(ctx context.Context, s *Store) error { _, err := s.AdminTokens(ctx); return err },
	"AdminToken": func(ctx context.Context, s *Store) error {
		_, err := s.AdminToken(ctx, attache.TokenHash{})
		return err
	},
	"DeleteAdminToken":  func(ctx context.Context, s *Store) error { return s.DeleteAdminToken(ctx, "x") },
	"CreateConnection":  func(ctx context.Context, s *Store) error { return s.CreateConnection(ctx, apiKey("bot", "x", "k")) },
	"Connection":        func(ctx context.Context, s *Store) error { _, err := s.Connection(ctx, "bot", "x"); return err },
	"Connections":       func(ctx context.Context, s *Store) error { _, _, err := s.Connections(ctx, "bot", "", 0); return err },
	"UpdateConnection":  func(ctx context.Context, s *Store) error { return s.UpdateConnection(ctx, "bot", "x", nil) },
	"DeleteConnection":  func(ctx context.Context, s *Store) error { return deleteConnection(ctx, s, "bot", "x") },
	"CreateOAuthClient": func(ctx context.Context, s *Store) error { return s.CreateOAuthClient(ctx, oauthClient("bot", "x")) },
	"OAuthClients":      func(ctx context.Context, s *Store) error { _, err := s.OAuthClients(ctx, "bot"); return err },
	"OAuthClient":       func(ctx context.Context, s *Store) error { _, err := s.OAuthClient(ctx, "bot", "x"); return err },
	"UpdateOAuthClient": func(ctx context.Context, s *Store) error { return s.UpdateOAuthClient(ctx, "bot", "x", nil) },
	"DeleteOAuthClient": func(ctx context.Context, s *Store) error { return s.DeleteOAuthClient(ctx, "bot", "x") },
	"UpdateGrant":       func(ctx context.Context, s *Store) error { return s.UpdateGrant(ctx, "bot", "x", nil) },
	"Authorities":       func(ctx context.Context, s *Store) error { _, err := s.Authorities(ctx); return err },
	"SaveAuthorities":   func(ctx context.Context, s *Store) error { return s.SaveAuthorities(ctx, nil) },
	"Subscribe":         func(ctx context.Context, s *Store) error { _, err := s.Subscribe(ctx, nil); return err },
	"Check":             func(ctx context.Context, s *Store) error { _, err := s.Check(ctx); return err },
}

func TestStats(t *testing.T) {
	s := openWith(t) // two writes
	wantError(t, s.CreateIntegration(t.Context(), attache.Integration{Name: "bot"}), attache.ErrExists)
	got := s.Stats()
	if got.Writes != 2 || got.Failures != 0 || got.WriteTime <= 0 || got.Size < 4096 {
		t.Errorf("%+v", got)
	}
}
