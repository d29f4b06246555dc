package admin_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"attache"
	"attache/admin"
	"attache/audit"
	"attache/client"
	"attache/oauth"
	"attache/secret"
	"attache/store"
)

// as is a client over TCP with a token of its own.
func (s *oauthServer) as(role attache.Role) *client.Client {
	s.t.Helper()
	c, err := client.New(client.Options{URL: s.url, Token: s.token(role)})
	must(s.t, err)
	s.t.Cleanup(c.Close)
	return c
}

func TestAConnectionIsAuthorizedOnLoopback(t *testing.T) {
	for sentence, answer := range map[string]func(back string) string{
		"with the whole URL": func(back string) string { return back },
		"with the code alone": func(back string) string {
			u, err := url.Parse(back)
			must(t, err)
			return u.Query().Get("code")
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := startOAuth(t)
			c := s.as(attache.RoleOperator)
			before := s.shown()
			if before.State != attache.GrantPending || before.PermissionScope != "" || before.ErrorCode != "" {
				t.Errorf("before, it is %+v", before.OAuth)
			}
			begun := s.begin(c)
			if left := time.Until(begun.ExpiresAt); left < 9*time.Minute || left > 10*time.Minute || len(begun.State) != 43 {
				t.Errorf("it waits %s for an answer to %q", left, begun.State)
			}
			after, err := c.FinishAuthorization(t.Context(), "bot", "tickets", begun.State, secret.New(answer(s.provider.consent(begun.AuthorizationURL))))
			must(t, err)
			want := client.OAuth{OAuthClient: "crm", PermissionScope: "read", State: attache.GrantActive, TokenType: "Bearer"}
			if diff := cmp.Diff(want, after.OAuth, cmpopts.IgnoreFields(client.OAuth{}, "TokenExpiry", "RefreshedAt")); diff != "" {
				t.Error(diff)
			}
			if life := after.TokenExpiry.Sub(after.RefreshedAt); life != time.Hour || time.Since(after.RefreshedAt) > time.Minute {
				t.Errorf("the token of %s lives %s", after.RefreshedAt, life)
			}
			kept, err := s.store.Connection(t.Context(), "bot", "tickets")
			must(t, err)
			if kept.Grant == nil || !strings.HasPrefix(kept.Grant.AccessToken.Expose(), "access-7b1f") {
				t.Errorf("the store has the grant %+v", kept.Grant)
			}
			for one, err := range c.Connections(t.Context(), "bot") {
				must(t, err)
				if diff := cmp.Diff(after, one); diff != "" {
					t.Error("among all:", diff)
				}
			}
		})
	}
}

// TestAnAuthorizationIsFinishedByWhoBeganIt tries everybody else, and it again.
func TestAnAuthorizationIsFinishedByWhoBeganIt(t *testing.T) {
	s := startOAuth(t)
	other := tickets()
	other.Name = "other"
	_, err := s.client().CreateConnection(t.Context(), "bot", attache.OAuth, other)
	must(t, err)
	c := s.as(attache.RoleOperator)
	begun := s.begin(c)
	back := secret.New(s.provider.consent(begun.AuthorizationURL))
	finish := func(c *client.Client, name, state string) error {
		_, err := c.FinishAuthorization(t.Context(), "bot", name, state, back)
		return err
	}
	for sentence, err := range map[string]error{
		"another token":      finish(s.as(attache.RoleAdmin), "tickets", begun.State),
		"the socket":         finish(s.client(), "tickets", begun.State),
		"another connection": finish(c, "other", begun.State),
		"another state":      finish(c, "tickets", strings.ToUpper(begun.State)),
		"two states":         finish(c, "tickets", s.begin(c).State),
	} {
		if p := refusal(t, err); p.Status != http.StatusNotFound || p.Code != "unknown_authorization" {
			t.Errorf("%s: %+v", sentence, p)
		}
	}
	if got := s.browser().get("/oauth/callback?" + strings.SplitN(back.Expose(), "?", 2)[1]); got.status != http.StatusNotFound {
		t.Errorf("a browser at the callback that was not asked for: %d", got.status)
	}
	if state := s.shown().State; state != attache.GrantPending {
		t.Errorf("then the connection is %s", state)
	}
	must(t, finish(c, "tickets", begun.State))
	if p := refusal(t, finish(c, "tickets", begun.State)); p.Code != "unknown_authorization" {
		t.Errorf("again: %+v", p)
	}
}

func TestAnAuthorizationWaitsTenMinutes(t *testing.T) {
	for wait, status := range map[time.Duration]int{10*time.Minute - time.Second: http.StatusBadGateway, 10 * time.Minute: http.StatusNotFound} {
		synctest.Test(t, func(t *testing.T) {
			kept, err := store.Open(t.Context(), store.Options{Dir: t.TempDir()})
			must(t, err)
			defer func() { must(t, kept.Close()) }()
			must(t, kept.CreateIntegration(t.Context(), attache.Integration{Name: "bot"}))
			must(t, kept.CreateOAuthClient(t.Context(), attache.OAuthClient{
				Integration: "bot", Name: "crm", GrantType: attache.AuthorizationCode, ClientID: "id", ClientSecret: secret.New("s"),
				AuthURL: "https://127.0.0.1:1/authorize", TokenURL: "https://127.0.0.1:1/token",
			}))
			must(t, kept.CreateConnection(t.Context(), attache.Connection{
				Integration: "bot", Name: "tickets", Type: attache.OAuth, AllowedDomain: "api.example.com", AllowedPorts: []uint16{443}, OAuthClient: "crm",
			}))
			keeper := oauth.NewKeeper(oauth.NewEndpoint(oauth.EndpointOptions{}), kept, oauth.KeeperOptions{})
			api, err := admin.New(admin.Options{
				Store: kept, Events: fromRing(audit.NewRing(1)), Logger: slog.New(slog.DiscardHandler),
				OAuth: admin.OAuthOptions{Flows: oauth.NewFlows(keeper), CallbackURL: callbackURL},
			})
			must(t, err)
			post := func(path, body string) *httptest.ResponseRecorder {
				w := httptest.NewRecorder()
				api.Trusted().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST",
					"/api/v1/integrations/bot/connections/oauth/tickets/authorize"+path, strings.NewReader(body)))
				return w
			}
			var begun admin.Authorization
			must(t, json.Unmarshal(post("", `{"flow":"code"}`).Body.Bytes(), &begun))
			<-time.After(wait)
			if got := post("/finish", fmt.Sprintf(`{"state":%q,"answer":"code"}`, begun.State)); got.Code != status {
				t.Errorf("after %s it is answered with %d %s", wait, got.Code, got.Body)
			}
		})
	}
}

func TestARedirectLeadsNowhereElse(t *testing.T) {
	s := startOAuth(t)
	for redirect, good := range map[string]bool{
		"":                                                    true, // the callback URL
		callbackURL:                                           true,
		"http://127.0.0.1:49152/":                             true,
		"http://[::1]:49152/any/path":                         true,
		"http://127.0.0.1/":                                   false,
		"https://127.0.0.1:49152/":                            false,
		"http://localhost:49152/":                             false,
		"http://127.0.0.2:49152/":                             false,
		"http://127.0.0.1.example.com:49152/":                 false,
		"http://127.0.0.1:49152@example.com/":                 false,
		"http://example.com@127.0.0.1:49152/":                 false,
		"http://127.0.0.1:49152/?to=x":                        false,
		"http://127.0.0.1:49152/#x":                           false,
		"http://127.0.0.1:49152/ü":                            false,
		"http://0.0.0.0:49152/":                               false,
		"https://attache.example.com/":                        false,
		"https://example.com/oauth/callback":                  false,
		callbackURL + "/":                                     false,
		"HTTP://127.0.0.1:49152/":                             false,
		"attache://back":                                      false,
		"http://127.0.0.1:49152/" + strings.Repeat("x", 2048): false,
	} {
		begun, err := s.client().Authorize(t.Context(), "bot", "tickets", client.Authorize{Flow: client.CodeFlow, RedirectURL: redirect})
		if !good {
			if p := refusal(t, err); len(p.Errors) != 1 || p.Errors[0].Field != "redirect_url" {
				t.Errorf("%q: %+v", redirect, p)
			}
			continue
		}
		must(t, err)
		u, err := url.Parse(begun.AuthorizationURL)
		must(t, err)
		if redirect == "" {
			redirect = callbackURL
		}
		if got := u.Query().Get("redirect_uri"); got != redirect {
			t.Errorf("asked for %q, it is %q", redirect, got)
		}
	}
}

func TestWhatAProviderSaysOfAnAuthorizationIsTold(t *testing.T) {
	for sentence, test := range map[string]struct {
		token  http.HandlerFunc
		answer string // empty: a code
		want   outcome
		detail string
	}{
		"the code is not accepted":   {refuses("invalid_grant"), "", outcome{422, "provider_refused", nil}, "invalid_grant"},
		"the client is not accepted": {refuses("invalid_client"), "", outcome{422, "provider_refused", nil}, "correct the OAuth client"},
		"the person says no":         {nil, "https://x.example/?error=access_denied", outcome{422, "provider_refused", nil}, "said no"},
		"the provider is down":       {says(503, nil), "", outcome{502, "provider_failed", nil}, ""},
		"the answer has no token":    {says(200, map[string]any{"ok": false}), "", outcome{502, "provider_failed", nil}, ""},
		"somebody else answers":      {nil, "https://x.example/?code=c&iss=https://other.example", outcome{422, "provider_refused", nil}, "another provider"},
		"there is no code in it": {nil, "https://x.example/", outcome{422, "invalid", []attache.ProblemField{
			{Field: "answer", Rule: "is missing", Remedy: "paste the whole address that the browser ended at, or the code in it"},
		}}, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := startOAuth(t)
			if test.token != nil {
				s.provider.next(test.token)
			}
			begun := s.begin(s.client())
			if test.answer == "" {
				test.answer = s.provider.consent(begun.AuthorizationURL)
			}
			_, err := s.client().FinishAuthorization(t.Context(), "bot", "tickets", begun.State, secret.New(test.answer))
			p := refusal(t, err)
			if diff := cmp.Diff(test.want, outcome{p.Status, p.Code, p.Errors}); diff != "" || !strings.Contains(p.Detail, test.detail) {
				t.Errorf("%+v\n%s", p, diff)
			}
			leaks(t, "the answer", err.Error())
			if state := s.shown().State; state != attache.GrantPending {
				t.Errorf("then the connection is %s", state)
			}
		})
	}
}

func TestADeviceCodeIsPolled(t *testing.T) {
	s := startOAuth(t)
	c := s.as(attache.RoleOperator)
	begun, err := c.Authorize(t.Context(), "bot", "tickets", client.Authorize{Flow: client.DeviceFlow})
	must(t, err)
	want := client.Authorization{
		UserCode: "WDJB-MJHT", VerificationURI: "https://example.com/go", VerificationURIComplete: "https://example.com/go?code=WDJB-MJHT", Interval: 1,
	}
	if diff := cmp.Diff(want, begun, cmpopts.IgnoreFields(client.Authorization{}, "State", "ExpiresAt")); diff != "" {
		t.Error(diff)
	}
	if _, err := s.client().PollAuthorization(t.Context(), "bot", "tickets", begun.State); refusal(t, err).Code != "unknown_authorization" {
		t.Errorf("polled by somebody else: %v", err)
	}
	s.provider.next(refuses("authorization_pending"), says(503, nil))
	var failed []string
	eventually(t, "the connection is authorized", func() bool {
		p, err := c.PollAuthorization(t.Context(), "bot", "tickets", begun.State)
		must(t, err)
		if p.ErrorCode != "" {
			failed = append(failed, p.ErrorCode)
		}
		if !p.Done && p.Interval != 1 && p.Interval != 2 { // twice as long after a failure
			t.Errorf("it is not done, and to be polled after %d s", p.Interval)
		}
		return p.Done
	})
	if diff := cmp.Diff([]string{"http_503"}, failed); diff != "" {
		t.Error("what kept it from being asked:", diff)
	}
	if state := s.shown().State; state != attache.GrantActive {
		t.Errorf("then the connection is %s", state)
	}
	if strings.Contains(s.log.String(), "poll-authorization") {
		t.Error("polls fill the log")
	}
	if _, err := c.PollAuthorization(t.Context(), "bot", "tickets", begun.State); refusal(t, err).Code != "unknown_authorization" {
		t.Errorf("polled again: %v", err)
	}

	begun, err = c.Authorize(t.Context(), "bot", "tickets", client.Authorize{Flow: client.DeviceFlow})
	must(t, err)
	s.provider.next(refuses("access_denied"))
	eventually(t, "the person has said no", func() bool {
		_, err := c.PollAuthorization(t.Context(), "bot", "tickets", begun.State)
		return err != nil && refusal(t, err).Code == "provider_refused"
	})
	if state := s.shown().State; state != attache.GrantActive {
		t.Errorf("a failed authorization leaves the connection %s", state)
	}
}

func TestAClientOfItsOwnRightGetsItsToken(t *testing.T) {
	s := startOAuth(t)
	c := s.client()
	machine := crm()
	machine.Name, machine.GrantType = "machine", attache.ClientCredentials
	_, err := c.CreateOAuthClient(t.Context(), "bot", machine)
	must(t, err)
	ask := tickets()
	ask.Name, ask.OAuthClient, ask.PermissionScope = "robot", "machine", "read  write"
	made, err := c.CreateConnection(t.Context(), "bot", attache.OAuth, ask)
	must(t, err)
	if made.RequestedScope != "read write" {
		t.Errorf("it asks for %q", made.RequestedScope)
	}
	eventually(t, "the connection has a token", func() bool {
		got, err := c.Connection(t.Context(), "bot", attache.OAuth, "robot")
		must(t, err)
		return got.State == attache.GrantActive && got.PermissionScope == "read"
	})
	_, err = c.Authorize(t.Context(), "bot", "robot", client.Authorize{Flow: client.CodeFlow})
	if p := refusal(t, err); len(p.Errors) != 1 || p.Errors[0].Field != "grant_type" {
		t.Errorf("nobody has to authorize it: %+v", p)
	}
}

func TestAFailedRefreshIsShownWithWhatToDo(t *testing.T) {
	s := startOAuth(t)
	retry := time.Now().Add(time.Minute).UTC().Truncate(time.Millisecond)
	must(t, s.store.UpdateGrant(t.Context(), "bot", "tickets", func(g *attache.Grant) error {
		*g = attache.Grant{State: attache.GrantNeedsReauth, ErrorCode: "invalid_grant", Scope: "read", Generation: 1, RetryAt: retry}
		return nil
	}))
	want := client.OAuth{
		OAuthClient: "crm", PermissionScope: "read", State: attache.GrantNeedsReauth, ErrorCode: "invalid_grant",
		Advice: oauth.Advice("invalid_grant"), RetryAt: retry,
	}
	if diff := cmp.Diff(want, s.shown().OAuth); diff != "" {
		t.Error(diff)
	}
	b := s.browser()
	b.signIn(s.token(attache.RoleViewer))
	page := b.get("/connections").body
	for _, told := range []string{"needs_reauthorization", "<code>invalid_grant</code>", "authorize the connection again", "next try"} {
		if !strings.Contains(page, told) {
			t.Errorf("the page does not say %q: %s", told, page)
		}
	}
}

func TestAConnectionIsGoneBeforeItsProviderIsTold(t *testing.T) {
	s := startOAuth(t)
	c := s.client()
	begun := s.begin(c)
	_, err := c.FinishAuthorization(t.Context(), "bot", "tickets", begun.State, secret.New(s.provider.consent(begun.AuthorizationURL)))
	must(t, err)
	kept, err := s.store.Connection(t.Context(), "bot", "tickets")
	must(t, err)
	told := ""
	s.provider.revokes(func(_ http.ResponseWriter, r *http.Request) {
		told = r.PostFormValue("token")
		if _, err := s.store.Connection(t.Context(), "bot", "tickets"); !errors.Is(err, attache.ErrNotFound) {
			t.Errorf("requests can still use it: %v", err)
		}
	})
	must(t, c.DeleteConnection(t.Context(), "bot", attache.OAuth, "tickets"))
	if want := kept.Grant.RefreshToken.Expose(); told != want {
		t.Errorf("the provider was told of %q, want %q", told, want)
	}
}

func TestADeletedConnectionIsRevokedAtTheProvider(t *testing.T) {
	for sentence, outage := range map[string]bool{"which knows then": false, "or deleted all the same": true} {
		t.Run(sentence, func(t *testing.T) {
			s := startOAuth(t)
			c := s.client()
			begun := s.begin(c)
			_, err := c.FinishAuthorization(t.Context(), "bot", "tickets", begun.State, secret.New(s.provider.consent(begun.AuthorizationURL)))
			must(t, err)
			s.provider.fails(outage)
			must(t, c.DeleteConnection(t.Context(), "bot", attache.OAuth, "tickets"))
			if _, err := c.Connection(t.Context(), "bot", attache.OAuth, "tickets"); !errors.Is(err, attache.ErrNotFound) {
				t.Errorf("it is still there: %v", err)
			}
			if n := len(s.provider.revocations()); n == 1 == outage {
				t.Errorf("the provider has seen %d revocations", n)
			}
			if told := strings.Contains(s.log.String(), "revocation failed"); told != outage {
				t.Errorf("the log tells of a failure: %v", told)
			}
			leaks(t, "the log", s.log.String())
		})
	}
}
