package store

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"attache"
	"attache/secret"
)

var errRefused = errors.New("refused by the caller")

// refusals is what fails, and how.
var refusals = map[string]struct {
	do   func(context.Context, *Store) error
	want error
}{
	"an integration whose name is taken": {func(ctx context.Context, s *Store) error {
		return s.CreateIntegration(ctx, attache.Integration{Name: "bot"})
	}, attache.ErrExists},
	"a connection whose name is taken": {func(ctx context.Context, s *Store) error {
		return s.CreateConnection(ctx, apiKey("bot", "c", "other"))
	}, attache.ErrExists},
	"a connection whose name is taken by one of another type": {func(ctx context.Context, s *Store) error {
		return s.CreateConnection(ctx, attache.Connection{Integration: "bot", Name: "c", Type: attache.BasicAuth})
	}, attache.ErrExists},
	"a connection of nobody": {func(ctx context.Context, s *Store) error {
		return s.CreateConnection(ctx, apiKey("nobody", "c", "k"))
	}, attache.ErrNotFound},
	"an access token whose ID is taken": {func(ctx context.Context, s *Store) error {
		return s.CreateAccessToken(ctx, accessToken("bot", "t"))
	}, attache.ErrExists},
	"an access token of nobody": {func(ctx context.Context, s *Store) error {
		return s.CreateAccessToken(ctx, accessToken("nobody", "t"))
	}, attache.ErrNotFound},
	"an admin token whose ID is taken": {func(ctx context.Context, s *Store) error {
		return s.CreateAdminToken(ctx, attache.AdminToken{ID: "admin", Hash: attache.TokenHash{8}})
	}, attache.ErrExists},
	"an admin token whose hash is taken": {func(ctx context.Context, s *Store) error {
		return s.CreateAdminToken(ctx, attache.AdminToken{ID: "admin2", Hash: attache.TokenHash{7}})
	}, attache.ErrExists},
	"deleting an integration that is not there": {func(ctx context.Context, s *Store) error {
		return s.DeleteIntegration(ctx, "nobody")
	}, attache.ErrNotFound},
	"deleting an integration without a name": {func(ctx context.Context, s *Store) error {
		return s.DeleteIntegration(ctx, "")
	}, attache.ErrNotFound},
	"deleting a connection that is not there": {func(ctx context.Context, s *Store) error {
		return deleteConnection(ctx, s, "other", "c")
	}, attache.ErrNotFound},
	"deleting a connection by a name that reaches into another's": {func(ctx context.Context, s *Store) error {
		return deleteConnection(ctx, s, "", "bot\x00c")
	}, attache.ErrNotFound},
	"deleting an access token that is not there": {func(ctx context.Context, s *Store) error {
		return s.DeleteAccessToken(ctx, "other", "t")
	}, attache.ErrNotFound},
	"deleting an admin token that is not there": {func(ctx context.Context, s *Store) error {
		return s.DeleteAdminToken(ctx, "t")
	}, attache.ErrNotFound},
	"looking up a connection that is not there": {func(ctx context.Context, s *Store) error {
		_, err := s.Connection(ctx, "bot", "d")
		return err
	}, attache.ErrNotFound},
	"looking up an admin token that is not there": {func(ctx context.Context, s *Store) error {
		_, err := s.AdminToken(ctx, attache.TokenHash{1})
		return err
	}, attache.ErrNotFound},
	"listing the connections of nobody": {func(ctx context.Context, s *Store) error {
		_, _, err := s.Connections(ctx, "nobody", "", 0)
		return err
	}, attache.ErrNotFound},
	"listing the access tokens of nobody": {func(ctx context.Context, s *Store) error {
		_, err := s.AccessTokens(ctx, "nobody")
		return err
	}, attache.ErrNotFound},
	"updating a connection that is not there": {func(ctx context.Context, s *Store) error {
		return s.UpdateConnection(ctx, "bot", "d", func(*attache.Connection) error { return nil })
	}, attache.ErrNotFound},
	"an oauth connection of a client that is not there": {func(ctx context.Context, s *Store) error {
		c := oauth("bot", "new")
		c.OAuthClient = "nobody"
		return s.CreateConnection(ctx, c)
	}, errNoOAuthClient},
	"an oauth connection of a client that is another integration's": {func(ctx context.Context, s *Store) error {
		return s.CreateConnection(ctx, authorized("other", "new", 1))
	}, errNoOAuthClient},
	"an oauth connection of a client whose name reaches into another's": {func(ctx context.Context, s *Store) error {
		c := oauth("other", "new")
		c.OAuthClient = "\x00client"
		return s.CreateConnection(ctx, c)
	}, errNoOAuthClient},
	"an oauth connection whose name is taken": {func(ctx context.Context, s *Store) error {
		return s.CreateConnection(ctx, authorized("bot", "c", 1))
	}, attache.ErrExists},
	"a connection of another type with a grant": {func(ctx context.Context, s *Store) error {
		c := apiKey("bot", "new", "k")
		c.Grant = &attache.Grant{}
		return s.CreateConnection(ctx, c)
	}, errNotOAuth},
	"an OAuth client whose name is taken": {func(ctx context.Context, s *Store) error {
		return s.CreateOAuthClient(ctx, oauthClient("bot", "client"))
	}, attache.ErrExists},
	"an OAuth client of nobody": {func(ctx context.Context, s *Store) error {
		return s.CreateOAuthClient(ctx, oauthClient("nobody", "client"))
	}, attache.ErrNotFound},
	"deleting an OAuth client that a connection uses": {func(ctx context.Context, s *Store) error {
		return s.DeleteOAuthClient(ctx, "bot", "client")
	}, attache.ErrReferenced},
	"deleting an OAuth client that is not there": {func(ctx context.Context, s *Store) error {
		return s.DeleteOAuthClient(ctx, "other", "client")
	}, attache.ErrNotFound},
	"deleting an OAuth client by a name that reaches into another's": {func(ctx context.Context, s *Store) error {
		return s.DeleteOAuthClient(ctx, "", "bot\x00client")
	}, attache.ErrNotFound},
	"looking up an OAuth client that is not there": {func(ctx context.Context, s *Store) error {
		_, err := s.OAuthClient(ctx, "other", "client")
		return err
	}, attache.ErrNotFound},
	"listing the OAuth clients of nobody": {func(ctx context.Context, s *Store) error {
		_, err := s.OAuthClients(ctx, "nobody")
		return err
	}, attache.ErrNotFound},
	"updating an OAuth client that is not there": {func(ctx context.Context, s *Store) error {
		return s.UpdateOAuthClient(ctx, "other", "client", func(*attache.OAuthClient) error { return nil })
	}, attache.ErrNotFound},
	"an update of an OAuth client that the caller refuses": {func(ctx context.Context, s *Store) error {
		return s.UpdateOAuthClient(ctx, "bot", "client", func(c *attache.OAuthClient) error {
			c.ClientSecret = secret.New("half done")
			return errRefused
		})
	}, errRefused},
	"updating the grant of a connection that is not there": {func(ctx context.Context, s *Store) error {
		return s.UpdateGrant(ctx, "bot", "d", func(*attache.Grant) error { return nil })
	}, attache.ErrNotFound},
	"updating the grant of a connection of another type": {func(ctx context.Context, s *Store) error {
		return s.UpdateGrant(ctx, "bot", "c", func(*attache.Grant) error { return nil })
	}, errNotOAuth},
	"an update of a grant that the caller refuses": {func(ctx context.Context, s *Store) error {
		return s.UpdateGrant(ctx, "bot", "o", func(g *attache.Grant) error {
			g.RefreshToken = secret.New("half done")
			return errRefused
		})
	}, errRefused},
	"an update that the caller refuses": {func(ctx context.Context, s *Store) error {
		return s.UpdateConnection(ctx, "bot", "c", func(c *attache.Connection) error {
			c.Credential.APIKey = secret.New("half done")
			c.AllowedPorts[0] = 1
			return errRefused
		})
	}, errRefused},
}

func TestRefusedWritesStoreNothing(t *testing.T) {
	for sentence, tt := range refusals {
		t.Run(sentence, func(t *testing.T) {
			s := openWith(t)
			must(t, s.CreateConnection(t.Context(), apiKey("bot", "c", "key")))
			must(t, s.CreateAccessToken(t.Context(), accessToken("bot", "t")))
			must(t, s.CreateAdminToken(t.Context(), attache.AdminToken{ID: "admin", Hash: attache.TokenHash{7}}))
			must(t, s.CreateOAuthClient(t.Context(), oauthClient("bot", "client")))
			must(t, s.CreateConnection(t.Context(), authorized("bot", "o", 1)))
			before, err := read(t, s)
			must(t, err)
			_, err = s.Subscribe(t.Context(), countChanges(t, 6)) // of what is there
			must(t, err)
			wantError(t, tt.do(t.Context(), s), tt.want)
			after, err := read(t, s)
			must(t, err)
			if diff := cmp.Diff(before, after); diff != "" {
				t.Error("something was stored:", diff)
			}
		})
	}
}

// countChanges is a subscriber that fails the test after so many changes.
func countChanges(t *testing.T, most int) func(attache.Change) {
	return func(attache.Change) {
		if most--; most < 0 {
			t.Error("a change was told that did not happen")
		}
	}
}

func TestNamesThatReachIntoOthersAreRefused(t *testing.T) {
	s := openWith(t)
	for _, name := range []string{"", "a\x00b", "\x00"} {
		for what, err := range map[string]error{
			"integration":              s.CreateIntegration(t.Context(), attache.Integration{Name: name}),
			"connection":               s.CreateConnection(t.Context(), apiKey("bot", name, "k")),
			"connection's integration": s.CreateConnection(t.Context(), apiKey(name, "c", "k")),
			"OAuth client":             s.CreateOAuthClient(t.Context(), oauthClient("bot", name)),
			"access token":             s.CreateAccessToken(t.Context(), accessToken("bot", name)),
			"admin token":              s.CreateAdminToken(t.Context(), attache.AdminToken{ID: name}),
		} {
			if err == nil || errors.Is(err, attache.ErrNotFound) {
				t.Errorf("%s %q: %v", what, name, err)
			}
		}
	}
}
