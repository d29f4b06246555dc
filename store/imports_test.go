package store

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"attache"
	"attache/secret"
)

// TestAnImportIsOneTransaction imports a connection into an integration that has
// nothing of it, and looks at what is there and at what subscribers were told, the
// client before the connection that uses it.
func TestAnImportIsOneTransaction(t *testing.T) {
	s := openWith(t)
	var told []attache.Change
	_, err := s.Subscribe(t.Context(), func(c attache.Change) { told = append(told, c) })
	must(t, err)
	told = nil
	client, connection := oauthClient("bot", "client"), authorized("bot", "o", 1)
	before := s.Stats().Writes
	must(t, s.ImportConnection(t.Context(), "M1", client, connection))
	if writes := s.Stats().Writes - before; writes != 1 {
		t.Errorf("%d transactions, want 1", writes)
	}
	want := []attache.Change{{OAuthClient: &client}, {Connection: &connection}}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error("told:", diff)
	}
	got, err := s.Connection(t.Context(), "bot", "o")
	must(t, err)
	if diff := cmp.Diff(connection, got); diff != "" {
		t.Error("stored:", diff)
	}
	r, err := s.Check(t.Context())
	must(t, err)
	if r.OAuthClients != 1 || r.Grants != 1 || r.Arrivals != 1 {
		t.Errorf("%+v", r)
	}
}

func TestAMoveIsImportedOnce(t *testing.T) {
	s := openWith(t)
	importing := func(integration, move string) error {
		return s.ImportConnection(t.Context(), move, oauthClient(integration, "client"), authorized(integration, "o", 1))
	}
	must(t, importing("bot", "M1"))
	wantError(t, importing("bot", "M1"), attache.ErrReplayed, "M1")
	wantError(t, importing("other", "M1"), attache.ErrReplayed)
	must(t, deleteConnection(t.Context(), s, "bot", "o"))
	wantError(t, importing("bot", "M1"), attache.ErrReplayed)
	must(t, s.DeleteIntegration(t.Context(), "bot"))
	must(t, s.CreateIntegration(t.Context(), attache.Integration{Name: "bot", CreatedAt: created}))
	wantError(t, importing("bot", "M1"), attache.ErrReplayed)
	must(t, importing("bot", "M2"))
	must(t, deleteConnection(t.Context(), s, "bot", "o"))
	for range 2 { // a copy has no such bound
		must(t, importing("bot", ""))
		must(t, deleteConnection(t.Context(), s, "bot", "o"))
	}
}

// TestARefusedImportLeavesNothing refuses imports for every reason there is, and
// then does them: the move was not used up.
func TestARefusedImportLeavesNothing(t *testing.T) {
	for sentence, c := range map[string]struct {
		change func(*attache.OAuthClient, *attache.Connection)
		is     error  // empty: it is a FieldError
		rule   string // of the FieldError
	}{
		"the name is taken":                 {func(_ *attache.OAuthClient, c *attache.Connection) { c.Name = "taken" }, attache.ErrExists, ""},
		"the integration does not exist":    {func(o *attache.OAuthClient, c *attache.Connection) { o.Integration, c.Integration = "no", "no" }, attache.ErrNotFound, ""},
		"the OAuth client has another URL":  {func(o *attache.OAuthClient, _ *attache.Connection) { o.TokenURL = "https://evil.example" }, nil, "differs from the one of that name here, in token_url"},
		"the OAuth client has other tuning": {func(o *attache.OAuthClient, _ *attache.Connection) { o.Provider.NoPKCE = !o.Provider.NoPKCE }, nil, "differs from the one of that name here, in provider"},
		"the OAuth client proves itself otherwise": {func(o *attache.OAuthClient, _ *attache.Connection) {
			o.ClientID, o.ClientSecret = "another", secret.New("another")
		}, nil, "differs from the one of that name here, in client_id, client_secret"},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := openWith(t)
			must(t, s.CreateOAuthClient(t.Context(), oauthClient("bot", "client")))
			must(t, s.CreateConnection(t.Context(), oauth("bot", "taken")))
			before, err := read(t, s)
			must(t, err)
			client, connection := oauthClient("bot", "client"), authorized("bot", "o", 1)
			client.CreatedAt = created.Add(time.Hour)
			c.change(&client, &connection)
			err = s.ImportConnection(t.Context(), "M1", client, connection)
			refused, isField := errors.AsType[*attache.FieldError](err)
			switch {
			case c.is != nil && !errors.Is(err, c.is):
				t.Errorf("error %v, want %v", err, c.is)
			case c.is == nil && (!isField || refused.Field != "oauth_client" || refused.Rule != c.rule):
				t.Errorf("error %v, want %q", err, c.rule)
			}
			after, err := read(t, s)
			must(t, err)
			if diff := cmp.Diff(before, after); diff != "" {
				t.Error(diff)
			}
			must(t, s.ImportConnection(t.Context(), "M1", oauthClient("bot", "client"), authorized("bot", "o", 1)))
		})
	}
}
