package oauth_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"attache"
	"attache/oauth"
	"attache/secret"
)

// TestEveryFailureEndsInItsState refreshes a token of one hour against a provider
// whose first answers are scripted and which behaves from then on. After two
// hours the connection is in the state that follows; while the old token lived,
// requests went on with it.
func TestEveryFailureEndsInItsState(t *testing.T) {
	refused := func(code string) http.HandlerFunc { return says(400, `{"error":"`+code+`"}`) }
	rotated := `"refresh_token":"a.refresh.9.` + canary + `"`
	const passes, waits = attache.GrantActive, attache.GrantRetrying
	for sentence, c := range map[string]struct {
		answers []http.HandlerFunc
		state   attache.GrantState
		code    string
		calls   int // that the two hours take; 0: not looked at
		path    string
	}{
		"a refused grant needs a person, and is never tried again": {[]http.HandlerFunc{refused("invalid_grant")}, attache.GrantNeedsReauth, "invalid_grant", 1, "active refreshing needs_reauthorization(invalid_grant)"},
		"a refused grant in a 200 is refused":                      {[]http.HandlerFunc{says(200, `{"error":"bad_refresh_token"}`)}, attache.GrantNeedsReauth, "bad_refresh_token", 1, ""},
		"ok:false with a known code is what the code says":         {[]http.HandlerFunc{says(200, `{"ok":false,"error":"invalid_refresh_token"}`)}, attache.GrantNeedsReauth, "invalid_refresh_token", 1, ""},
		"a refused client keeps the grant and waits for an edit":   {[]http.HandlerFunc{says(401, `{"error":"invalid_client"}`)}, attache.GrantConfigError, "invalid_client", 1, "active refreshing config_error(invalid_client)"},
		"a client that may not refresh waits for an edit":          {[]http.HandlerFunc{refused("unauthorized_client")}, attache.GrantConfigError, "unauthorized_client", 1, ""},
		"a grant type that is not supported waits for an edit":     {[]http.HandlerFunc{refused("unsupported_grant_type")}, attache.GrantConfigError, "unsupported_grant_type", 1, ""},
		"an outage passes":                                              {[]http.HandlerFunc{says(500, ""), says(503, "")}, passes, "", 0, "active refreshing retrying(http_500) refreshing retrying(http_503) refreshing active"},
		"an outage with a JSON error passes":                            {[]http.HandlerFunc{says(503, `{"error":"temporarily_unavailable"}`)}, passes, "", 0, "active refreshing retrying(temporarily_unavailable) refreshing active"},
		"an outage that says invalid_grant passes":                      {[]http.HandlerFunc{says(500, `{"error":"invalid_grant"}`)}, passes, "", 0, ""},
		"a broken connection passes":                                    {[]http.HandlerFunc{hangsUp}, passes, "", 0, "active refreshing retrying(network_error) refreshing active"},
		"a rate limit passes":                                           {[]http.HandlerFunc{says(429, "", "Retry-After: 60")}, passes, "", 0, "active refreshing retrying(http_429) refreshing active"},
		"an error that nobody knows may pass":                           {[]http.HandlerFunc{refused("server_on_fire")}, passes, "", 0, "active refreshing retrying(server_on_fire) refreshing active"},
		"a page of HTML passes":                                         {[]http.HandlerFunc{says(200, `<!doctype html><title>Maintenance</title>`, "Content-Type: text/html")}, passes, "", 0, "active refreshing retrying(malformed_answer) refreshing active"},
		"an empty answer passes":                                        {[]http.HandlerFunc{says(200, "")}, passes, "", 0, ""},
		"an empty token is not stored":                                  {[]http.HandlerFunc{says(200, `{"access_token":"","token_type":"bearer"}`)}, passes, "", 0, "active refreshing retrying(malformed_answer) refreshing active"},
		"ok:false without a code passes":                                {[]http.HandlerFunc{says(200, `{"ok":false,"access_token":"x"}`)}, passes, "", 0, "active refreshing retrying(provider_error) refreshing active"},
		"an error object passes":                                        {[]http.HandlerFunc{says(200, `{"error":{"message":"no","code":190}}`)}, passes, "", 0, "active refreshing retrying(provider_error) refreshing active"},
		"a redirect is not followed and passes":                         {[]http.HandlerFunc{says(307, "", "Location: https://evil.example/")}, passes, "", 0, "active refreshing retrying(malformed_answer) refreshing active"},
		"an answer without end passes":                                  {[]http.HandlerFunc{goesOn}, passes, "", 0, "active refreshing retrying(answer_too_long) refreshing active"},
		"an answer that never comes is given up":                        {[]http.HandlerFunc{neverAnswers}, passes, "", 0, "active refreshing retrying(timeout) refreshing active"},
		"an answer that stops in the middle is given up":                {[]http.HandlerFunc{stops}, passes, "", 0, "active refreshing retrying(timeout) refreshing active"},
		"another token type is refused, and waits for an edit":          {[]http.HandlerFunc{says(200, `{"access_token":"x","token_type":"mac"}`)}, attache.GrantConfigError, oauth.CodeTokenType, 1, ""},
		"a scope of 256 characters is refused, and says so":             {[]http.HandlerFunc{says(200, `{"access_token":"x","scope":"`+strings.Repeat("x", 256)+`"}`)}, attache.GrantConfigError, oauth.CodeScopeTooLong, 1, ""},
		"a scope of 255 characters is stored":                           {[]http.HandlerFunc{says(200, `{"access_token":"x","scope":"`+strings.Repeat("x", 255)+`"}`)}, passes, "", 1, ""},
		"no expires_in means to wait for the upstream's word":           {[]http.HandlerFunc{says(200, `{"access_token":"x",`+rotated+`}`)}, passes, "", 1, "active refreshing active"},
		"an answer that repeats the refresh token as its error is bare": {[]http.HandlerFunc{refused("unknown token a.refresh.1." + canary)}, passes, "", 0, "active refreshing retrying(error_withheld) refreshing active"},
		"an answer lost and the token refused needs a person":           {[]http.HandlerFunc{hangsUp, refused("invalid_grant")}, attache.GrantNeedsReauth, oauth.CodeInterrupted, 2, "active refreshing retrying(network_error) refreshing needs_reauthorization(refresh_interrupted)"},
		"what follows a rate limit is the provider's own word":          {[]http.HandlerFunc{says(429, ""), refused("invalid_grant")}, attache.GrantNeedsReauth, "invalid_grant", 2, ""},
		"an outage of days waits":                                       {repeat(says(502, "Bad Gateway"), 500), waits, "http_502", 0, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.disk.put(client(), w.authorized())
				w.provider.next(c.answers...)
				for range 47 { // while nothing is due, and then while the old token lives
					pass(time.Minute)
					if g, err := w.fresh(0); err != nil || g.Generation != 1 {
						t.Fatalf("a request with a valid token gets generation %d, %v", g.Generation, err)
					}
				}
				pass(73 * time.Minute)
				g := w.grant()
				if g.State != c.state || g.ErrorCode != c.code {
					t.Errorf("the state is %s (%s), want %s (%s)", g.State, g.ErrorCode, c.state, c.code)
				}
				if n := len(w.provider.seen()); c.calls != 0 && n != c.calls {
					t.Errorf("%d calls, want %d", n, c.calls)
				}
				if got := w.path(); c.path != "" && !strings.HasPrefix(got+" ", c.path+" ") {
					t.Errorf("states %q, want %q", got, c.path)
				}
				if c.state != passes && g.RefreshToken.IsZero() {
					t.Error("the refresh token is gone")
				}
				if _, err := w.fresh(0); (err == nil) != (c.state == passes) {
					t.Errorf("a request after two hours: %v", err)
				}
				if n := w.provider.family("a").reused; n > 0 {
					t.Errorf("a refresh token was spent %d times more than once", n)
				}
			})
		})
	}
}

func repeat(h http.HandlerFunc, n int) []http.HandlerFunc {
	all := make([]http.HandlerFunc, n)
	for i := range all {
		all[i] = h
	}
	return all
}

func goesOn(w http.ResponseWriter, _ *http.Request) {
	for err := error(nil); err == nil; {
		_, err = w.Write([]byte(strings.Repeat(" ", 64<<10)))
	}
}

func stops(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", "100")
	_, _ = w.Write([]byte(`{"access_`))
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func TestARefreshTokenInARefusedAnswerIsKept(t *testing.T) {
	for sentence, c := range map[string]struct {
		status int
		answer string
		kept   bool
	}{
		"without an access token":                        {200, `{%s}`, true},
		"with a token of another type":                   {200, `{%s,"access_token":"x","token_type":"mac"}`, true},
		"with a scope that is too long":                  {200, `{%s,"access_token":"x","scope":"` + strings.Repeat("y", 256) + `"}`, true},
		"with a token no header can hold":                {200, `{%s,"access_token":"x\ny"}`, true},
		"with a status of another kind":                  {203, `{%s,"access_token":"x"}`, true},
		"with a status of failure":                       {404, `{%s,"access_token":"x"}`, true},
		"with an error that is a zero":                   {200, `{%s,"access_token":"x","error":0}`, true},
		"with an error that is empty":                    {200, `{%s,"access_token":"x","error":{}}`, true},
		"that says it is not ok":                         {200, `{%s,"access_token":"x","ok":false}`, true},
		"but not in an error's report of what was asked": {400, `{%s,"error":"invalid_request"}`, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.disk.put(client(), w.authorized())
				w.provider.next(says(c.status, fmt.Sprintf(c.answer, `"refresh_token":"b.refresh.2"`)), says(400, `{"error":"invalid_client"}`))
				pass(2 * time.Hour)
				if got := w.grant().RefreshToken.Expose(); (got == "b.refresh.2") != c.kept {
					t.Errorf("the refresh token is %q", got)
				}
			})
		})
	}
}

func TestAnAnswerWithoutARefreshTokenKeepsTheOldOne(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(client(), w.authorized())
		w.provider.next(says(200, `{"access_token":"new","expires_in":3600}`))
		before := w.grant()
		pass(time.Hour)
		after := w.grant()
		if !after.RefreshToken.Equal(before.RefreshToken) || after.AccessToken.Expose() != "new" || after.Scope != "read" {
			t.Errorf("the grant is %+v", after)
		}
	})
}

func TestAnEditOfTheClientIsWhatRetriesAConfigError(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(client(), w.authorized())
		w.provider.next(says(401, `{"error":"invalid_client"}`))
		pass(24 * time.Hour)
		var state *oauth.StateError
		if _, err := w.fresh(0); !errors.As(err, &state) || state.State != attache.GrantConfigError || state.Code != "invalid_client" {
			t.Fatalf("a request gets %v", err)
		}
		if n := len(w.provider.seen()); n != 1 {
			t.Fatalf("%d calls without an edit", n)
		}
		w.stop()
		w.start() // without an edit, a restart changes nothing
		pass(time.Hour)
		if n := len(w.provider.seen()); n != 1 {
			t.Fatalf("%d calls without an edit, and with a restart", n)
		}
		w.disk.put(client(func(c *attache.OAuthClient) { c.ClientSecret = secret.New("corrected-" + canary) }))
		pass(time.Second)
		if g, err := w.fresh(0); err != nil || g.Generation != 2 {
			t.Errorf("after the edit: %v", err)
		}
	})
}

func TestAnEditOfTheClientRetriesAHandshakeThatFailed(t *testing.T) {
	for code, retries := range map[string]bool{oauth.CodeTLS: true, "temporarily_unavailable": false} {
		t.Run(code, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.disk.put(client(), w.authorized())
				w.provider.next(says(400, `{"error":"`+code+`"}`, "Retry-After: 86400"))
				pass(time.Hour)
				if g := w.grant(); g.State != attache.GrantRetrying || g.ErrorCode != code {
					t.Fatalf("%s(%s)", g.State, g.ErrorCode)
				}
				w.disk.put(client(func(c *attache.OAuthClient) { c.Provider.Certificate = secret.New("") }))
				pass(time.Second)
				if now := w.grant().State == attache.GrantActive; now != retries {
					t.Errorf("after the edit it is %s", w.grant().State)
				}
			})
		})
	}
}

func TestAnEditWhileTheProgramWasDownRetriesAConfigError(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(client(), w.authorized())
		w.provider.next(says(401, `{"error":"invalid_client"}`))
		pass(2 * time.Hour)
		w.stop()
		w.disk.put(client())
		w.start()
		pass(2 * time.Minute)
		if g := w.grant(); g.State != attache.GrantActive {
			t.Errorf("the state is %s", g.State)
		}
	})
}

func TestAnEditDuringTheAttemptThatFailsIsNotMissed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(client(), w.authorized())
		w.provider.next(func(rw http.ResponseWriter, r *http.Request) {
			w.disk.put(client(func(c *attache.OAuthClient) { c.UpdatedAt = c.UpdatedAt.Add(time.Second) }))
			says(401, `{"error":"invalid_client"}`)(rw, r)
		})
		pass(time.Hour)
		if g := w.grant(); g.State != attache.GrantActive || g.Generation != 2 {
			t.Errorf("the state is %s", g.State)
		}
	})
}

func TestAClientThatIsMissingOrWrongIsAConfigError(t *testing.T) {
	for sentence, c := range map[string]struct {
		clients []any
		code    string
	}{
		"missing":             {nil, oauth.CodeClientMissing},
		"with plain http":     {[]any{client(func(c *attache.OAuthClient) { c.TokenURL = "http://example.com/token" })}, oauth.CodeClientInvalid},
		"without a subdomain": {[]any{client(func(c *attache.OAuthClient) { c.TokenURL = "https://{subdomain}.example.com/token" })}, oauth.CodeClientInvalid},
	} {
		t.Run(sentence, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.disk.put(c.clients...)
				w.disk.put(w.authorized())
				pass(time.Hour)
				if g := w.grant(); g.State != attache.GrantConfigError || g.ErrorCode != c.code || g.Intent != nil {
					t.Errorf("the grant is %+v", g)
				}
				w.disk.put(client())
				pass(time.Hour)
				if g := w.grant(); g.State != attache.GrantActive {
					t.Errorf("with the client corrected the state is %s (%s)", g.State, g.ErrorCode)
				}
			})
		})
	}
}

func TestWithoutARefreshTokenThereIsAnEnd(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.authorized()
		c.Grant.RefreshToken = secret.Text{}
		w.disk.put(client(), c)
		pass(59 * time.Minute)
		if g, err := w.fresh(0); err != nil || g.State != attache.GrantActive {
			t.Errorf("before the end: %s, %v", g.State, err)
		}
		if _, err := w.fresh(1); err == nil {
			t.Error("a token that the upstream refused is given out again")
		}
		pass(2 * time.Minute)
		if g := w.grant(); g.State != attache.GrantNeedsReauth || g.ErrorCode != oauth.CodeNoRefreshToken {
			t.Errorf("after the end: %s, %s", g.State, g.ErrorCode)
		}
		if n := len(w.provider.seen()); n != 0 {
			t.Errorf("%d calls", n)
		}
	})
}

func TestRateLimitsAreObeyed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(client(), w.authorized())
		w.provider.next(says(429, "", "Retry-After: 7200"))
		pass(55 * time.Minute)
		if n := len(w.provider.seen()); n != 1 {
			t.Fatalf("%d calls", n)
		}
		pass(65 * time.Minute) // the token has expired; the provider still must not be asked
		var state *oauth.StateError
		if _, err := w.fresh(0); !errors.As(err, &state) || state.State != attache.GrantRetrying || !state.RetryAt.After(time.Now()) {
			t.Errorf("a request gets %v", err)
		}
		if n := len(w.provider.seen()); n != 1 {
			t.Errorf("%d calls before the time that the provider named", n)
		}
		pass(80 * time.Minute)
		if g, err := w.fresh(0); err != nil || g.Generation != 2 {
			t.Errorf("afterwards a request gets %v", err)
		}
	})
}

func TestClientCredentialsNeedNobody(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := connection()
		c.Scope = "just this"
		w.disk.put(client(credentials), c)
		pass(time.Second)
		g, err := w.fresh(0)
		if err != nil || g.State != attache.GrantActive || g.Scope != "just this" || !g.RefreshToken.IsZero() {
			t.Fatalf("the grant is %+v, %v", g, err)
		}
		pass(24 * time.Hour)
		if n := len(w.provider.seen()); n < 25 || n > 31 {
			t.Errorf("%d calls in a day of tokens that live an hour", n)
		}
		if g := w.grant(); g.Intent != nil || g.Generation < 25 {
			t.Errorf("the grant is %+v", g)
		}
	})
}

func TestARefusalOfClientCredentialsWaitsForAnEdit(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.provider.next(says(400, `{"error":"invalid_grant"}`))
		w.disk.put(client(credentials), connection())
		pass(24 * time.Hour)
		if g := w.grant(); g.State != attache.GrantConfigError || g.ErrorCode != "invalid_grant" || len(w.provider.seen()) != 1 {
			t.Errorf("the state is %s (%s)", g.State, g.ErrorCode)
		}
		w.disk.put(client(credentials))
		pass(time.Second)
		if g := w.grant(); g.State != attache.GrantActive || g.Generation != 1 {
			t.Errorf("after an edit the state is %s", g.State)
		}
	})
}

func TestAConnectionThatNobodyAuthorizedIsLeftAlone(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(client(), connection())
		pass(24 * time.Hour)
		var state *oauth.StateError
		if _, err := w.fresh(0); !errors.As(err, &state) || state.State != attache.GrantPending {
			t.Errorf("a request gets %v", err)
		}
		if n := len(w.provider.seen()); n != 0 {
			t.Errorf("%d calls", n)
		}
	})
}

func TestAnIdleGrantIsKeptAlive(t *testing.T) {
	for sentence, c := range map[string]struct {
		keepalive time.Duration
		expires   bool
		want      int // refreshes in 30 days
	}{
		"every week, if nothing else is said":   {0, true, 4},
		"as often as the client says":           {24 * time.Hour, true, 32},
		"also when the token's life is unknown": {0, false, 4},
		"not when it is switched off":           {-1, true, 0},
	} {
		t.Run(sentence, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.provider.life = 365 * 24 * time.Hour
				c0 := w.authorized()
				if !c.expires {
					c0.Grant.ExpiresAt = time.Time{}
				}
				w.disk.put(client(func(o *attache.OAuthClient) { o.Provider.Keepalive = c.keepalive }), c0)
				pass(30 * 24 * time.Hour)
				if n := w.provider.family("a").count - 1; n < c.want-1 || n > c.want+1 {
					t.Errorf("%d refreshes, want about %d", n, c.want)
				}
			})
		})
	}
}

func TestStatesAreToldWithWhatIsKnown(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(client(), w.authorized())
		w.provider.next(says(503, "", "Retry-After: 30"))
		pass(57 * time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.steps) != 4 {
			t.Fatalf("%d steps", len(w.steps))
		}
		got := w.steps[1]
		if got.RetryAt.Before(time.Now().Add(-20*time.Minute)) || got.Took < 0 {
			t.Errorf("the next try is at %v", got.RetryAt)
		}
		got.RetryAt, got.Took = time.Time{}, 0
		want := oauth.Transition{
			Integration: "bot", Connection: "crm",
			From: attache.GrantRefreshing, To: attache.GrantRetrying, Generation: 1, Code: "http_503",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the step (-want +got):\n%s", diff)
		}
	})
}
