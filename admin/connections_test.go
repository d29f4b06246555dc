package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"attache"
	"attache/client"
	"attache/secret"
)

func outgoing(s string) secret.Outgoing { return secret.Outgoing{Text: secret.New(s)} }

// kinds is a request for a connection of each type, with a second credential.
var kinds = map[attache.ConnectionType]struct {
	make   client.NewConnection
	rotate client.Credential
}{
	attache.APIKey: {
		client.NewConnection{HeaderName: "X-Api-Key", Credential: client.Credential{APIKey: outgoing("key-1")}},
		client.Credential{APIKey: outgoing("key-2")},
	},
	attache.BasicAuth: {
		client.NewConnection{Credential: client.Credential{Username: outgoing("user-1"), Password: outgoing("password-1")}},
		client.Credential{Username: outgoing("user-2"), Password: outgoing("password-2")},
	},
	attache.BearerToken: {
		client.NewConnection{Credential: client.Credential{Token: outgoing("token-1")}},
		client.Credential{Token: outgoing("token-2")},
	},
}

func stored(c client.Credential) attache.Credential {
	return attache.Credential{APIKey: c.APIKey.Text, Username: c.Username.Text, Password: c.Password.Text, Token: c.Token.Text}
}

// sameSecret compares secrets, which cmp cannot look into.
var sameSecret = cmp.Comparer(secret.Text.Equal)

func TestAConnectionOfEachTypeLivesItsLife(t *testing.T) {
	s := start(t)
	c := s.client()
	_, err := c.CreateIntegration(t.Context(), "bot")
	must(t, err)
	for kind, test := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			ask := test.make
			ask.Name, ask.AllowedDomain, ask.AllowedPorts, ask.StripCookies = "my_"+string(kind), "*.Example.COM.", []uint16{8443, 443}, true
			want := client.Connection{
				Name: ask.Name, Type: kind, AllowedDomain: "*.example.com", AllowedPorts: []uint16{443, 8443},
				HeaderName: attache.HeaderName(ask.HeaderName), StripCookies: true,
			}
			times := cmpopts.IgnoreFields(client.Connection{}, "CreatedAt", "UpdatedAt")
			created, err := c.CreateConnection(t.Context(), "bot", kind, ask)
			must(t, err)
			if diff := cmp.Diff(want, created, times); diff != "" {
				t.Error(diff)
			}
			if created.CreatedAt.IsZero() || !created.CreatedAt.Equal(created.UpdatedAt) {
				t.Errorf("created at %s, updated at %s", created.CreatedAt, created.UpdatedAt)
			}
			if _, err := c.CreateConnection(t.Context(), "bot", kind, ask); !errors.Is(err, attache.ErrExists) {
				t.Errorf("created again: %v", err)
			}
			shown, err := c.Connection(t.Context(), "bot", kind, ask.Name)
			must(t, err)
			found, err := c.FindConnection(t.Context(), "bot", ask.Name)
			must(t, err)
			for _, got := range []client.Connection{shown, found} {
				if diff := cmp.Diff(created, got); diff != "" {
					t.Error(diff)
				}
			}
			replaced, err := c.ReplaceCredential(t.Context(), "bot", kind, ask.Name, test.rotate)
			must(t, err)
			if diff := cmp.Diff(want, replaced, times); diff != "" {
				t.Error(diff)
			}
			if replaced.UpdatedAt.Before(created.UpdatedAt) || !replaced.CreatedAt.Equal(created.CreatedAt) {
				t.Errorf("created at %s, replaced at %s", replaced.CreatedAt, replaced.UpdatedAt)
			}
			kept, err := s.store.Connection(t.Context(), "bot", ask.Name)
			must(t, err)
			if diff := cmp.Diff(stored(test.rotate), kept.Credential, sameSecret); diff != "" {
				t.Error("the store has another credential", diff)
			}
			var refused *client.Error
			_, err = c.ReplaceCredential(t.Context(), "bot", kind, ask.Name, client.Credential{})
			if !errors.As(err, &refused) || refused.Problem.Status != http.StatusUnprocessableEntity {
				t.Errorf("replaced by nothing: %v", err)
			}
			if again, err := s.store.Connection(t.Context(), "bot", ask.Name); err != nil || !cmp.Equal(kept.Credential, again.Credential, sameSecret) {
				t.Errorf("a refused replacement changed the credential (%v)", err)
			}
			must(t, c.DeleteConnection(t.Context(), "bot", kind, ask.Name))
			if err := c.DeleteConnection(t.Context(), "bot", kind, ask.Name); !errors.Is(err, attache.ErrNotFound) {
				t.Errorf("deleted again: %v", err)
			}
		})
	}
}

func TestAConnectionDoesNotExistUnderAnotherType(t *testing.T) {
	s := start(t)
	c := s.client()
	_, err := c.CreateIntegration(t.Context(), "bot")
	must(t, err)
	ask := kinds[attache.BearerToken].make
	ask.Name, ask.AllowedDomain = "tickets", "api.example.com"
	_, err = c.CreateConnection(t.Context(), "bot", attache.BearerToken, ask)
	must(t, err)
	_, shown := c.Connection(t.Context(), "bot", attache.APIKey, "tickets")
	_, replaced := c.ReplaceCredential(t.Context(), "bot", attache.APIKey, "tickets", kinds[attache.APIKey].rotate)
	deleted := c.DeleteConnection(t.Context(), "bot", attache.APIKey, "tickets")
	for _, err := range []error{shown, replaced, deleted} {
		if !errors.Is(err, attache.ErrNotFound) {
			t.Errorf("%v, want %v", err, attache.ErrNotFound)
		}
	}
	ask = kinds[attache.APIKey].make
	ask.Name, ask.AllowedDomain = "tickets", "api.example.com"
	if _, err := c.CreateConnection(t.Context(), "bot", attache.APIKey, ask); !errors.Is(err, attache.ErrExists) {
		t.Errorf("a name is unique across types: %v", err)
	}
	kept, err := s.store.Connection(t.Context(), "bot", "tickets")
	must(t, err)
	if !kept.Credential.Token.Equal(secret.New("token-1")) {
		t.Error("the credential was replaced all the same")
	}
}

func TestOfTwoCreationsOfANameOneWins(t *testing.T) {
	s := start(t)
	c := s.client()
	_, err := c.CreateIntegration(t.Context(), "bot")
	must(t, err)
	const rounds, writers = 10, 8
	for round := range rounds {
		errs := make([]error, writers)
		var wg sync.WaitGroup
		for i := range writers {
			kind := []attache.ConnectionType{attache.APIKey, attache.BasicAuth, attache.BearerToken}[i%3]
			ask := kinds[kind].make
			ask.Name, ask.AllowedDomain = fmt.Sprintf("name-%d", round), "api.example.com"
			wg.Go(func() { _, errs[i] = c.CreateConnection(t.Context(), "bot", kind, ask) })
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			var refused *client.Error
			switch {
			case err == nil:
				won++
			case !errors.As(err, &refused) || refused.Problem.Status != http.StatusConflict:
				t.Errorf("a loser gets %v, want 409", err)
			}
		}
		if won != 1 {
			t.Errorf("%d of %d won, want one", won, writers)
		}
	}
}

// fill makes connections of all types; their names, in order.
func fill(t *testing.T, s *server, n int) []string {
	t.Helper()
	_, err := s.client().CreateIntegration(t.Context(), "bot")
	must(t, err)
	var names []string
	for i := range n {
		kind := []attache.ConnectionType{attache.APIKey, attache.BasicAuth, attache.BearerToken}[i%3]
		name := fmt.Sprintf("name-%04d", i)
		names = append(names, name)
		must(t, s.store.CreateConnection(t.Context(), attache.Connection{
			Integration: "bot", Name: name, Type: kind, AllowedDomain: "api.example.com", AllowedPorts: []uint16{443},
			HeaderName: attache.HeaderName(kinds[kind].make.HeaderName), Credential: stored(kinds[kind].make.Credential),
		}))
	}
	return names
}

func TestPagesGoThroughAllConnections(t *testing.T) {
	s := start(t)
	names := fill(t, s, 250)
	c := s.client()
	var all []string
	for one, err := range c.Connections(t.Context(), "bot") {
		must(t, err)
		all = append(all, one.Name)
	}
	slices.Sort(all)
	if diff := cmp.Diff(names, all); diff != "" {
		t.Error(diff)
	}
	for i, kind := range []attache.ConnectionType{attache.APIKey, attache.BasicAuth, attache.BearerToken} {
		var want, got []string
		for j := i; j < len(names); j += 3 {
			want = append(want, names[j])
		}
		for one, err := range c.ConnectionsOf(t.Context(), "bot", kind) {
			must(t, err)
			got = append(got, one.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", kind, diff)
		}
	}
}

func TestTheLastPageSaysSo(t *testing.T) {
	s := start(t)
	fill(t, s, 6)
	token := as(s.token(attache.RoleViewer))
	for size, pages := range map[int]int{1: 6, 2: 3, 3: 2, 4: 2, 6: 1, 100: 1} {
		after, seen := "", 0
		for more := true; more; seen++ {
			got := s.raw("GET", fmt.Sprintf("/api/v1/integrations/bot/connections/all?page[size]=%d&page[after]=%s", size, after), "", token)
			var page struct {
				Meta struct {
					HasMore     bool   `json:"has_more"`
					AfterCursor string `json:"after_cursor"`
				}
			}
			must(t, json.Unmarshal([]byte(got.body), &page))
			if page.Meta.HasMore == (page.Meta.AfterCursor == "") {
				t.Errorf("size %d: has_more is %v with the cursor %q", size, page.Meta.HasMore, page.Meta.AfterCursor)
			}
			more, after = page.Meta.HasMore, page.Meta.AfterCursor
		}
		if seen != pages {
			t.Errorf("size %d: %d pages, want %d", size, seen, pages)
		}
	}
}

func TestPagesMissNothingWhileOthersDelete(t *testing.T) {
	s := start(t)
	names := fill(t, s, 300)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; i < len(names) && ctx.Err() == nil; i += 2 {
			if _, err := s.store.DeleteConnection(t.Context(), "bot", names[i]); err != nil {
				t.Error(err)
			}
		}
	})
	seen := map[string]int{}
	for one, err := range s.client().Connections(t.Context(), "bot") {
		must(t, err)
		seen[one.Name]++
	}
	stop()
	wg.Wait()
	for i, name := range names {
		if n := seen[name]; n > 1 || n == 0 && i%2 == 1 {
			t.Errorf("%s was seen %d times", name, n)
		}
	}
}

// TestPublishedExamplesWork makes the calls of the integration service's
// documentation, with the host and the token changed and nothing else.
func TestPublishedExamplesWork(t *testing.T) {
	s := start(t)
	token := s.token(attache.RoleAdmin)
	bearer := []string{as(token), "Content-Type: application/json"}
	const zis = "/api/services/zis"
	for _, step := range []struct {
		method, path, body string
		status             int
		want               []string
	}{
		{"POST", "/registry/my_integration", `{"description": "An example integration"}`, 201, []string{`"name":"my_integration"`}},
		{"GET", "/registry/integrations", "", 200, []string{`{"integrations":[{"name":"my_integration"`}},
		{
			"POST", "/integrations/my_integration/connections/bearer_token",
			`{ "name": "my_bearer_token_connection", "token": "MY_BEARER_TOKEN", "allowed_domain": "api.example.com" }`,
			201, []string{`{"bearer_token":{"name":"my_bearer_token_connection"`, `"token":"[redacted]"`},
		},
		{
			"POST", "/integrations/my_integration/connections/api_key",
			`{ "name": "my_api_key_connection", "header_name": "x-api-key", "api_key": "MY_API_KEY", "allowed_domain": "api.example.com" }`,
			201, []string{`{"api_key":{"name":"my_api_key_connection"`, `"header_name":"x-api-key","api_key":"[redacted]"`},
		},
		{
			"POST", "/integrations/my_integration/connections/basic_auth",
			`{ "name": "my_basic_auth_connection", "username": "me@example.com", "password": "MY_PASSWORD", "allowed_domain": "api.example.com" }`,
			201, []string{`{"basic_auth":{"name":"my_basic_auth_connection"`, `"username":"[redacted]","password":"[redacted]"`},
		},
		{"GET", "/integrations/my_integration/connections/bearer_token/my_bearer_token_connection", "", 200, []string{`{"bearer_token":{"name"`}},
		{"GET", "/integrations/my_integration/connections/all", "", 200, []string{`{"api_key":[{"name"`, `"oauth":[]`, `"has_more":false`}},
		{"DELETE", "/integrations/my_integration/connections/bearer_token/my_bearer_token_connection", "", 204, nil},
		{
			"POST", "/connections/oauth/clients/my_integration",
			`{ "name": "my_client", "client_id": "abc", "client_secret": "xyz", "auth_url": "https://example.com/auth", "token_url": "https://example.com/token" }`,
			201, []string{`"name":"my_client","grant_type":"authorization_code"`, `"client_secret":"[redacted]"`},
		},
		{"GET", "/connections/oauth/clients/my_integration", "", 200, []string{`"name":"my_client"`}},
	} {
		got := s.raw(step.method, zis+step.path, step.body, bearer...)
		if got.status != step.status {
			t.Errorf("%s %s: answered %d %s", step.method, step.path, got.status, got.body)
		}
		for _, want := range step.want {
			if !strings.Contains(got.body, want) {
				t.Errorf("%s %s: %s is not in %s", step.method, step.path, want, got.body)
			}
		}
	}
}

func TestIntegrationsTokensAndTheCA(t *testing.T) {
	s := start(t)
	c := s.client()
	made, err := c.CreateIntegration(t.Context(), "bot")
	must(t, err)
	shown, err := c.Integration(t.Context(), "bot")
	must(t, err)
	if diff := cmp.Diff(made, shown); diff != "" {
		t.Error(diff)
	}
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	token, err := c.CreateAccessToken(t.Context(), "bot", expires)
	must(t, err)
	if _, err := attache.ParseToken(attache.AccessTokenPrefix, token.Token.Expose()); err != nil || !token.ExpiresAt.Equal(expires) {
		t.Errorf("the token is %v and expires at %s", err, token.ExpiresAt)
	}
	tokens, err := c.AccessTokens(t.Context(), "bot")
	must(t, err)
	if diff := cmp.Diff([]client.AccessToken{token.AccessToken}, tokens); diff != "" {
		t.Error(diff)
	}
	must(t, c.RevokeAccessToken(t.Context(), "bot", token.ID))
	if err := c.RevokeAccessToken(t.Context(), "bot", token.ID); !errors.Is(err, attache.ErrNotFound) {
		t.Errorf("revoked twice: %v", err)
	}
	before, err := c.CA(t.Context())
	must(t, err)
	after, err := c.RotateCA(t.Context())
	must(t, err)
	if len(after.Certificates) != 2 || !after.Certificates[0].Signing || after.Certificates[1].Signing ||
		after.Certificates[1].Fingerprint != before.Certificates[0].Fingerprint || !strings.Contains(after.PEM, before.PEM) {
		t.Errorf("after rotating, the CA is %+v, before it was %+v", after, before)
	}
	var refused *client.Error
	if err := c.DropCA(t.Context(), after.Certificates[0].Fingerprint); !errors.As(err, &refused) || refused.Problem.Status != 409 {
		t.Errorf("the signing certificate was dropped: %v", err)
	}
	must(t, c.DropCA(t.Context(), strings.ToUpper(before.Certificates[0].Fingerprint)))
	status, err := c.Status(t.Context())
	must(t, err)
	if status.CA.Fingerprint != after.Certificates[0].Fingerprint || status.Version != "1.2.3" || status.Counts != (client.Counts{Integrations: 1}) {
		t.Errorf("the status is %+v", status)
	}
	must(t, c.DeleteIntegration(t.Context(), "bot"))
	if _, err := c.Integration(t.Context(), "bot"); !errors.Is(err, attache.ErrNotFound) {
		t.Errorf("after deleting it: %v", err)
	}
}

func TestExplainSaysWhatWouldHappen(t *testing.T) {
	s := start(t)
	fill(t, s, 1)
	c := s.client()
	got, err := c.Explain(t.Context(), client.Question{Integration: "bot", URL: "https://API.example.com:443/tickets?q=1"})
	must(t, err)
	if got.Action != attache.Inject || got.Connection != "name-0000" || got.Header != "X-Api-Key" || got.Value != secret.Redacted ||
		got.Target != "https://api.example.com" || len(got.Candidates) != 1 || !got.Candidates[0].Chosen || !slices.Contains(got.Strips, "Authorization") {
		t.Errorf("explained as %+v", got)
	}
	got, err = c.Explain(t.Context(), client.Question{Integration: "bot", URL: "http://api.example.com/"})
	must(t, err)
	if got.Action != attache.Deny || got.Code != attache.CodePlaintextRefused || got.Value != "" || len(got.Strips) != 0 {
		t.Errorf("explained as %+v", got)
	}
	got, err = c.Explain(t.Context(), client.Question{Integration: "bot", URL: "https://elsewhere.example.org/"})
	must(t, err)
	if got.Action != attache.Tunnel {
		t.Errorf("a host that nothing covers is explained as %+v", got)
	}
	if _, err := c.Explain(t.Context(), client.Question{Integration: "bot", URL: "https://user:pass@api.example.com/"}); err == nil {
		t.Error("user information was accepted")
	}
}

func TestExplainSaysWhetherCookiesGo(t *testing.T) {
	s := start(t)
	c := s.client()
	_, err := c.CreateIntegration(t.Context(), "bot")
	must(t, err)
	for domain, strips := range map[string]bool{"with.example.com": false, "without.example.com": true} {
		ask := kinds[attache.BearerToken].make
		ask.Name, ask.AllowedDomain, ask.StripCookies = strings.ReplaceAll(domain, ".", "-"), domain, strips
		_, err := c.CreateConnection(t.Context(), "bot", attache.BearerToken, ask)
		must(t, err)
		got, err := c.Explain(t.Context(), client.Question{Integration: "bot", URL: "https://" + domain + "/"})
		must(t, err)
		if slices.Contains(got.Strips, "Cookie") != strips {
			t.Errorf("to %s, what is removed is %q", domain, got.Strips)
		}
	}
}
