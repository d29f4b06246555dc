package store

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"attache"
	"attache/secret"
)

// set gives every field below v a value that is not its zero value, so that one
// that is added to a type, and forgotten in its record, is found out.
func set(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	switch x := v.Addr().Interface().(type) {
	case *secret.Text:
		*x = secret.New("secret of " + path)
		return
	case *time.Time:
		*x = created.Add(time.Duration(len(path)))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			set(t, v.Field(i), path+"."+v.Type().Field(i).Name)
		}
	case reflect.Pointer:
		if strings.HasSuffix(path, ".Held.Move") {
			return // a grant that is held is not moved itself
		}
		v.Set(reflect.New(v.Type().Elem()))
		set(t, v.Elem(), path)
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"key of " + path: "value"}))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		set(t, v.Index(0), path)
	case reflect.String:
		v.SetString(path)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(len(path)))
	case reflect.Uint16, reflect.Uint64:
		v.SetUint(uint64(len(path)))
	default:
		t.Fatalf("%s is a %s", path, v.Kind())
	}
}

func TestNoFieldIsForgotten(t *testing.T) {
	s := openWith(t)
	var client attache.OAuthClient
	set(t, reflect.ValueOf(&client).Elem(), "client")
	client.Integration = "bot"
	must(t, s.CreateOAuthClient(t.Context(), client))
	got, err := s.OAuthClient(t.Context(), "bot", client.Name)
	must(t, err)
	if diff := cmp.Diff(client, got); diff != "" {
		t.Error(diff)
	}

	var c attache.Connection
	set(t, reflect.ValueOf(&c).Elem(), "connection")
	c.Integration, c.OAuthClient, c.Type = "bot", client.Name, attache.OAuth
	must(t, s.CreateConnection(t.Context(), c))
	back, err := s.Connection(t.Context(), "bot", c.Name)
	must(t, err)
	if diff := cmp.Diff(c, back); diff != "" {
		t.Error(diff)
	}
}

// withOAuth opens a store in which bot has a client and a connection that nobody
// has authorized.
func withOAuth(t *testing.T) *Store {
	s := openWith(t)
	must(t, s.CreateOAuthClient(t.Context(), oauthClient("bot", "client")))
	must(t, s.CreateConnection(t.Context(), oauth("bot", "o")))
	return s
}

func TestOAuthClientsAreListedByNameWithinTheirIntegration(t *testing.T) {
	s := openWith(t)
	if all, err := s.OAuthClients(t.Context(), "bot"); len(all) != 0 || err != nil {
		t.Errorf("at first: %v, %v", all, err)
	}
	for _, name := range []string{"b", "a", "a-b"} {
		must(t, s.CreateOAuthClient(t.Context(), oauthClient("bot", name)))
		must(t, s.CreateOAuthClient(t.Context(), oauthClient("other", name)))
	}
	got, err := s.OAuthClients(t.Context(), "bot")
	must(t, err)
	want := []attache.OAuthClient{oauthClient("bot", "a"), oauthClient("bot", "a-b"), oauthClient("bot", "b")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestOfAnOAuthClientOnlyIDAndSecretChange(t *testing.T) {
	for field, change := range map[string]func(*attache.OAuthClient){
		"integration":    func(c *attache.OAuthClient) { c.Integration = "other" },
		"name":           func(c *attache.OAuthClient) { c.Name = "d" },
		"grant_type":     func(c *attache.OAuthClient) { c.GrantType = attache.ClientCredentials },
		"auth_url":       func(c *attache.OAuthClient) { c.AuthURL = "https://evil.example" },
		"token_url":      func(c *attache.OAuthClient) { c.TokenURL = "https://evil.example" },
		"default_scopes": func(c *attache.OAuthClient) { c.DefaultScopes = "admin" },
		"provider":       func(c *attache.OAuthClient) { c.Provider.AuthParams["prompt"] = "none" }, // in place
		"created_at":     func(c *attache.OAuthClient) { c.CreatedAt = c.CreatedAt.Add(1) },
		"":               func(c *attache.OAuthClient) { c.ClientID, c.ClientSecret = "new id", secret.New("new secret") },
	} {
		t.Run(field, func(t *testing.T) {
			s := openWith(t)
			want := oauthClient("bot", "client")
			want.Provider.AuthParams = map[string]string{"prompt": "consent"}
			must(t, s.CreateOAuthClient(t.Context(), want))
			var told []attache.OAuthClient
			_, err := s.Subscribe(t.Context(), func(c attache.Change) {
				if c.OAuthClient != nil {
					told = append(told, *c.OAuthClient)
				}
			})
			must(t, err)
			err = s.UpdateOAuthClient(t.Context(), "bot", "client", func(c *attache.OAuthClient) error {
				change(c)
				return nil
			})
			wantTold := []attache.OAuthClient{want}
			if field == "" {
				must(t, err)
				want.ClientID, want.ClientSecret = "new id", secret.New("new secret")
				wantTold = append(wantTold, want)
			} else if refused, ok := errors.AsType[*attache.FieldError](err); !ok || refused.Field != field {
				t.Errorf("error %v", err)
			}
			got, err := s.OAuthClient(t.Context(), "bot", "client")
			must(t, err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(wantTold, told); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnOAuthClientInUseIsNotDeleted(t *testing.T) {
	s := withOAuth(t)
	must(t, s.CreateOAuthClient(t.Context(), oauthClient("bot", "spare")))
	must(t, s.DeleteOAuthClient(t.Context(), "bot", "spare"))
	err := s.DeleteOAuthClient(t.Context(), "bot", "client")
	const want = `OAuth client "client": still used by the connections "o": delete them first`
	if !errors.Is(err, attache.ErrReferenced) || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	for i := range 11 {
		must(t, s.CreateConnection(t.Context(), oauth("bot", fmt.Sprint("p", i))))
	}
	wantError(t, s.DeleteOAuthClient(t.Context(), "bot", "client"), attache.ErrReferenced, `"o", "p0", "p1", "p10", "p2"`, `"p7" and 2 more:`)

	all, _, err := s.Connections(t.Context(), "bot", "", 0)
	must(t, err)
	for _, c := range all {
		must(t, deleteConnection(t.Context(), s, "bot", c.Name))
	}
	must(t, s.DeleteOAuthClient(t.Context(), "bot", "client"))
	_, err = s.OAuthClient(t.Context(), "bot", "client")
	wantError(t, err, attache.ErrNotFound)
}

func TestTheFirstUpdateMakesTheGrant(t *testing.T) {
	s := withOAuth(t)
	must(t, s.UpdateGrant(t.Context(), "bot", "o", func(g *attache.Grant) error {
		if diff := cmp.Diff(attache.Grant{State: attache.GrantPending}, *g); diff != "" {
			t.Error("at first:", diff)
		}
		*g = *authorized("bot", "o", 7).Grant
		return nil
	}))
	must(t, s.UpdateGrant(t.Context(), "bot", "o", func(g *attache.Grant) error {
		if diff := cmp.Diff(authorized("bot", "o", 7).Grant, g); diff != "" {
			t.Error("then:", diff)
		}
		return nil
	}))
}

// TestSubscribersAreToldEveryChangeOfAGrant walks through a refresh that fails,
// and one that does not.
func TestSubscribersAreToldEveryChangeOfAGrant(t *testing.T) {
	s := withOAuth(t)
	var told *attache.Connection
	_, err := s.Subscribe(t.Context(), func(c attache.Change) { told = c.Connection })
	must(t, err)
	if diff := cmp.Diff(oauth("bot", "o"), *told); diff != "" {
		t.Error("at first:", diff)
	}
	want := authorized("bot", "o", 1)
	steps := []struct {
		what string
		do   func(*attache.Grant)
	}{
		{"authorized", func(g *attache.Grant) { *g = *authorized("bot", "o", 1).Grant }},
		{"about to refresh", func(g *attache.Grant) {
			g.State, g.Intent = attache.GrantRefreshing, &attache.Intent{Generation: 1, At: created}
		}},
		{"trying to recover", func(g *attache.Grant) { g.Intent.Recovered = true }},
		{"failed", func(g *attache.Grant) {
			g.State, g.Intent, g.ErrorCode, g.Failures, g.RetryAt = attache.GrantRetrying, nil, "server_error", 1, created.Add(time.Minute)
		}},
		{"a new expiry", func(g *attache.Grant) { g.ExpiresAt = created.Add(2 * time.Hour) }},
		{"a new token", func(g *attache.Grant) { *g = *authorized("bot", "o", 2).Grant }},
		{"no token", func(g *attache.Grant) {
			*g = attache.Grant{State: attache.GrantNeedsReauth, ErrorCode: "invalid_grant"}
		}},
	}
	var kept *attache.Grant
	for _, step := range steps {
		told = nil
		must(t, s.UpdateGrant(t.Context(), "bot", "o", func(g *attache.Grant) error {
			step.do(g)
			kept = g
			return nil
		}))
		want.Grant = kept
		if diff := cmp.Diff(&want, told); diff != "" {
			t.Errorf("%s: told %s", step.what, diff)
		}
		got, err := s.Connection(t.Context(), "bot", "o")
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: stored %s", step.what, diff)
		}
	}
	kept.State = "changed by who was given it to update"
	if told.Grant.State != attache.GrantNeedsReauth {
		t.Error("the subscribers share the grant with the one who updated it")
	}
}

func TestWhatAnOAuthClientProvesItselfWithCanBeReplaced(t *testing.T) {
	s := withOAuth(t)
	want := oauthClient("bot", "client")
	want.ClientID, want.ClientSecret = "another", secret.New("another")
	want.Provider.PrivateKey, want.Provider.Certificate = secret.New("another key"), secret.New("another certificate")
	must(t, s.UpdateOAuthClient(t.Context(), "bot", "client", func(c *attache.OAuthClient) error {
		*c = want
		return nil
	}))
	got, err := s.OAuthClient(t.Context(), "bot", "client")
	must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestUpdateConnectionLeavesTheGrantAlone(t *testing.T) {
	s := withOAuth(t)
	must(t, s.CreateConnection(t.Context(), authorized("bot", "p", 1)))
	for what, change := range map[string]func(*attache.Connection){
		"changed":  func(c *attache.Connection) { c.Grant.AccessToken = secret.New("other") },
		"replaced": func(c *attache.Connection) { c.Grant = authorized("bot", "p", 2).Grant },
		"taken":    func(c *attache.Connection) { c.Grant = nil },
	} {
		err := s.UpdateConnection(t.Context(), "bot", "p", func(c *attache.Connection) error {
			change(c)
			return nil
		})
		if err == nil || !strings.Contains(err.Error(), "grant") {
			t.Errorf("%s: %v", what, err)
		}
	}
	var told *attache.Connection
	_, err := s.Subscribe(t.Context(), func(c attache.Change) { told = c.Connection })
	must(t, err)
	want := authorized("bot", "p", 1)
	want.StripCookies, want.UpdatedAt = true, created.Add(time.Hour)
	must(t, s.UpdateConnection(t.Context(), "bot", "p", func(c *attache.Connection) error {
		c.StripCookies, c.UpdatedAt = true, created.Add(time.Hour)
		return nil
	}))
	got, err := s.Connection(t.Context(), "bot", "p")
	must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("stored:", diff)
	}
	if diff := cmp.Diff(&want, told); diff != "" {
		t.Error("told:", diff)
	}
}

func TestAConnectionMadeAnewHasNoGrant(t *testing.T) {
	s := withOAuth(t)
	_, err := refresh(t.Context(), s, "o")
	must(t, err)
	there, err := s.Connection(t.Context(), "bot", "o")
	must(t, err)
	before := s.Stats().Writes
	deleted, err := s.DeleteConnection(t.Context(), "bot", "o")
	must(t, err)
	if diff := cmp.Diff(there, deleted); diff != "" {
		t.Error("deleted:", diff)
	}
	if writes := s.Stats().Writes - before; writes != 1 {
		t.Errorf("%d transactions, want 1", writes)
	}
	r, err := s.Check(t.Context())
	must(t, err)
	if r.Grants != 0 || r.OAuthClients != 1 {
		t.Errorf("%+v", r)
	}
	must(t, s.CreateConnection(t.Context(), oauth("bot", "o")))
	got, err := s.Connection(t.Context(), "bot", "o")
	must(t, err)
	if diff := cmp.Diff(oauth("bot", "o"), got); diff != "" {
		t.Error(diff)
	}
}

func TestNoUpdateOfAGrantIsLost(t *testing.T) {
	s := withOAuth(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if _, err := refresh(t.Context(), s, "o"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, err := s.Connection(t.Context(), "bot", "o")
	must(t, err)
	if diff := cmp.Diff(authorized("bot", "o", 160), got); diff != "" {
		t.Error(diff)
	}
}
