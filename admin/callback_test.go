package admin_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"attache"
	"attache/client"
	"attache/secret"
)

// toCallback begins an authorization that ends at the server's callback, and
// returns the path that the provider sends the browser to.
func (s *oauthServer) toCallback(c *client.Client) (begun client.Authorization, back string) {
	s.t.Helper()
	begun, err := c.Authorize(s.t.Context(), "bot", "tickets", client.Authorize{Flow: client.CodeFlow})
	must(s.t, err)
	u, err := url.Parse(s.provider.consent(begun.AuthorizationURL))
	must(s.t, err)
	return begun, u.RequestURI()
}

func TestTheCallbackFinishesAnAuthorization(t *testing.T) {
	s := startOAuth(t)
	_, back := s.toCallback(s.as(attache.RoleOperator))
	if got := s.raw("HEAD", back, ""); got.status != http.StatusMethodNotAllowed {
		t.Errorf("a look at the link is answered with %d", got.status)
	}
	got := s.browser().get(back)
	if got.status != http.StatusOK || got.title() != "Authorized" || !strings.Contains(got.body, "<strong>tickets</strong>") {
		t.Errorf("answered %d %s", got.status, got.body)
	}
	for name, want := range map[string]string{"Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if value := got.header.Get(name); value != want {
			t.Errorf("%s is %q, want %q", name, value, want)
		}
	}
	if state := s.shown().State; state != attache.GrantActive {
		t.Errorf("the connection is %s", state)
	}
	if again := s.browser().get(back); again.status != http.StatusNotFound {
		t.Errorf("again: %d", again.status)
	}
	leaks(t, "the page", fmt.Sprint(got.header, got.body))
	leaks(t, "the log", s.log.String())
}

func TestAnAuthorizationAtTheCallbackCanBeFinishedByASecondCall(t *testing.T) {
	s := startOAuth(t)
	c := s.as(attache.RoleOperator)
	begun, back := s.toCallback(c)
	if _, err := s.client().FinishAuthorization(t.Context(), "bot", "tickets", begun.State, secret.New(back)); refusal(t, err).Code != "unknown_authorization" {
		t.Errorf("by somebody else: %v", err)
	}
	_, err := c.FinishAuthorization(t.Context(), "bot", "tickets", begun.State, secret.New(strings.TrimPrefix(back, "/oauth/callback")))
	must(t, err)
	if got := s.browser().get(back); got.status != http.StatusNotFound {
		t.Errorf("then the callback answers %d", got.status)
	}
}

func TestAtTheCallbackAFailureIsExplained(t *testing.T) {
	for sentence, test := range map[string]struct {
		token  http.HandlerFunc
		query  string // in place of the code's
		status int
		says   string
	}{
		"the person says no":           {nil, "error=access_denied&error_description=7b1f", 422, "<code>access_denied</code>"},
		"the provider sends a script":  {nil, "error=" + url.QueryEscape(`<script>alert("7b1f")</script>`), 422, "<code>&lt;script&gt;alert(_7b1f_)&lt;/script&gt;</code>"},
		"the code is not accepted":     {refuses("invalid_grant"), "", 422, "<code>invalid_grant</code>"},
		"the provider is down":         {says(503, nil), "", 502, "<code>http_503</code>"},
		"there is nothing to exchange": {nil, "foo=%3Cscript%3E", 422, "attache connection authorize tickets --integration bot"},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := startOAuth(t)
			if test.token != nil {
				s.provider.next(test.token)
			}
			begun, back := s.toCallback(s.client())
			if test.query != "" {
				back = "/oauth/callback?" + test.query + "&state=" + begun.State
			}
			got := s.browser().get(back)
			if got.status != test.status || got.title() != "Not authorized" || !strings.Contains(got.body, test.says) {
				t.Errorf("answered %d %s", got.status, got.body)
			}
			if strings.Contains(got.body, "<script") || got.header.Get("Referrer-Policy") != "no-referrer" {
				t.Errorf("answered %v %s", got.header, got.body)
			}
			if !strings.Contains(got.body, "attache connection authorize tickets") || strings.Contains(got.body, begun.State) {
				t.Errorf("it does not say what to do, or shows the state: %s", got.body)
			}
			if state := s.shown().State; state != attache.GrantPending {
				t.Errorf("the connection is %s", state)
			}
		})
	}
}

func TestTheCallbackLetsNobodyElseIn(t *testing.T) {
	s := startOAuth(t)
	made, err := s.client().CreateAdminToken(t.Context(), attache.RoleOperator, time.Time{})
	must(t, err)
	c, err := client.New(client.Options{URL: s.url, Token: made.Token.Text})
	must(t, err)
	t.Cleanup(c.Close)
	_, revoked := s.toCallback(c)
	must(t, s.client().RevokeAdminToken(t.Context(), made.ID))
	device, err := s.client().Authorize(t.Context(), "bot", "tickets", client.Authorize{Flow: client.DeviceFlow})
	must(t, err)
	for sentence, back := range map[string]string{
		"no state":                          "/oauth/callback",
		"an unknown one":                    "/oauth/callback?code=7b1f&state=" + strings.Repeat("x", 43),
		"one of a device":                   "/oauth/callback?code=7b1f&state=" + device.State,
		"one of a token that is revoked":    revoked,
		"a state that would be a <script>":  "/oauth/callback?code=7b1f&state=%3Cscript%3E",
		"a query that no parser would read": "/oauth/callback?code=7b1f;&%zz",
	} {
		got := s.browser().get(back)
		if got.status != http.StatusNotFound || got.title() != "No authorization waits for this" || strings.Contains(got.body, "<script") {
			t.Errorf("%s: answered %d %s", sentence, got.status, got.body)
		}
		leaks(t, sentence, fmt.Sprint(got.header, got.body))
	}
	if state := s.shown().State; state != attache.GrantPending {
		t.Errorf("the connection is %s", state)
	}
	leaks(t, "the log", s.log.String())
}

// TestNoOAuthRouteShowsASecret puts a canary into every secret of an OAuth client
// and every answer of the provider, and looks for it behind every route.
func TestNoOAuthRouteShowsASecret(t *testing.T) {
	s := startOAuth(t)
	token := as(s.token(attache.RoleAdmin))
	const clients, one = "/api/v1/integrations/bot/oauth/clients", "/api/v1/integrations/bot/connections/oauth"
	const secrets = `"client_secret":"s-7b1f","private_key":"k-7b1f","certificate":"c-7b1f"`
	const good = `{"name":"abc","client_id":"id","client_secret":"s-7b1f","auth_url":"https://example.com/a","token_url":"https://example.com/t"`
	begun, back := s.toCallback(s.client())
	finish := func(state, answer string) string { return fmt.Sprintf(`{"state":%q,"answer":%q}`, state, answer) }
	wrong := s.begin(s.client())
	calls := [][3]string{
		{"POST", clients, good + `}`}, {"POST", clients, good + `}`}, {"POST", clients, good + `x`}, {"POST", clients, good + `,"name":1}`},
		{"POST", clients, `{"name":"def","client_id":"id",` + secrets + `}`},
		{"POST", clients, `{"name":"def","client_auth":"private_key_jwt",` + secrets + `,"token_url":"https://example.com/7b1f"}`},
		{"POST", clients, `{"client_secret":["7b1f"],"private_key":{"7b1f":1},"certificate":7,"auth_params":["7b1f"],"keepalive":"7b1f","token_body":"7b1f","pkce":"7b1f"}`},
		{"POST", clients, `{"name":"def","client_id":"id","client_secret":"7b1f","issuer":"https://7b1f@example.com"}`},
		{"POST", "/api/services/zis/connections/oauth/clients/bot", strings.Replace(good, "abc", "zis", 1) + `}`},
		{"GET", "/api/services/zis/connections/oauth/clients/bot/zis", ""},
		{"GET", clients, ""}, {"GET", clients + "/abc", ""}, {"GET", clients + "/" + url.PathEscape(canary), ""},
		{"PATCH", clients + "/abc", `{"client_secret":"s-7b1f"}`}, {"PATCH", clients + "/abc", `{"client_secret":"s-7b1f","issuer":"7b1f"}`},
		{"PATCH", clients + "/abc", `{"client_secret":{"7b1f":1}}`}, {"PATCH", clients + "/abc", `{"client_secret":"\n7b1f"}`},
		{"DELETE", clients + "/crm", ""}, {"DELETE", clients + "/abc", ""},
		{"POST", one, `{"name":"more","allowed_domain":"more.example.com","oauth_client":"crm","access_token":"7b1f"}`},
		{"POST", one, `{"name":"more","allowed_domain":"more.example.com","oauth_client":"crm","oauth_url_subdomain":"7b1f.","permission_scope":"\n7b1f"}`},
		{"POST", one + "/tickets/authorize", `{"flow":"7b1f","redirect_url":"7b1f"}`},
		{"POST", one + "/tickets/authorize", `{"flow":"code","redirect_url":"http://7b1f@127.0.0.1:1/"}`},
		{"POST", one + "/tickets/authorize/finish", finish("7b1f", "7b1f")},
		{"POST", one + "/tickets/authorize/finish", finish(wrong.State, "http://x.example/?code=7b1f&code=7b1f")},
		{"POST", one + "/tickets/authorize/finish", `{"state":"x","answer":["7b1f"]}`},
		{"POST", one + "/tickets/authorize/poll", finish("7b1f", "7b1f")},
		{"GET", back, ""}, {"GET", back, ""}, {"GET", "/oauth/callback?state=" + url.QueryEscape(canary), ""},
		{"GET", one, ""}, {"GET", one + "/tickets", ""}, {"PUT", one + "/tickets", `{"token":"7b1f"}`},
		{"GET", "/api/v1/integrations/bot/connections/all", ""}, {"GET", "/api/services/zis/integrations/bot/connections/all", ""},
		{"POST", "/api/v1/explain", `{"integration":"bot","url":"https://api.example.com/"}`}, {"GET", "/api/v1/events", ""},
		{"DELETE", one + "/tickets", ""},
	}
	s.provider.next(refuses("7b1f"))
	if _, err := s.client().FinishAuthorization(t.Context(), "bot", "tickets", s.begin(s.client()).State, secret.New("7b1f")); err == nil {
		t.Error("the provider refuses, and nobody says so")
	}
	statuses := map[int]int{}
	for _, call := range calls {
		got := s.raw(call[0], call[1], call[2], token)
		statuses[got.status]++
		leaks(t, strings.Join(call[:2], " "), fmt.Sprint(got.status, got.header, got.body))
		if call[1] != "/oauth/callback" && strings.Contains(got.body, begun.State) {
			t.Errorf("%v shows the state of another call", call)
		}
		if strings.HasPrefix(call[1], "/api/") && got.body != "" && !json.Valid([]byte(got.body)) {
			t.Errorf("%v is answered with %s", call, got.body)
		}
	}
	leaks(t, "the log", s.log.String())
	for _, status := range []int{200, 201, 204, 404, 405, 409, 422} {
		if statuses[status] == 0 {
			t.Errorf("no call was answered with %d: %v", status, statuses)
		}
	}
}
