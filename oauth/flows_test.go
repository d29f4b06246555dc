package oauth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"attache"
	"attache/oauth"
)

const callback = "http://127.0.0.1:49152/callback"

func (w *world) begin() (oauth.Authorization, url.Values) {
	w.t.Helper()
	a, err := w.flows.Begin(context.Background(), oauth.Start{Integration: "bot", Connection: "crm", By: "ada", RedirectURL: callback})
	if err != nil {
		w.t.Fatal(err)
	}
	u, err := url.Parse(a.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	return a, u.Query()
}

func TestAPersonAuthorizesAConnection(t *testing.T) {
	for sentence, answer := range map[string]string{
		"with the address of the browser": callback + "?code=c0de&state=STATE&iss=https%3A%2F%2Fexample.com",
		"with the query":                  "?state=STATE&code=c0de",
		"with the code alone":             "c0de",
		"with spaces around the code":     "  c0de\n",
		"with the code as in an address":  "c0d%65",
	} {
		t.Run(sentence, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.disk.put(client(func(c *attache.OAuthClient) { c.Provider.Issuer = "https://example.com" }), connection())
				a, q := w.begin()
				if a.State != q.Get("state") || len(a.State) != 43 || !a.ExpiresAt.Equal(time.Now().Add(10*time.Minute)) {
					t.Errorf("the flow is %+v", a)
				}
				answer := strings.ReplaceAll(answer, "STATE", a.State)
				gone, leave := context.WithCancel(t.Context())
				leave() // a browser that is closed takes nothing along
				done, err := w.flows.Finish(gone, "ada", a.State, answer)
				if err != nil || done.Connection != "crm" {
					t.Fatal(err)
				}
				g := w.grant()
				if g.State != attache.GrantActive || g.Generation != 1 || g.Scope != "read write" || g.RefreshToken.IsZero() {
					t.Errorf("the grant is %+v", g)
				}
				sent := w.provider.seen()[0].form
				if sent.Get("code") != "c0de" || sent.Get("redirect_uri") != callback || len(sent.Get("code_verifier")) != 43 {
					t.Errorf("the exchange is %v", sent)
				}
				if _, err := w.flows.Finish(t.Context(), "ada", a.State, answer); !errors.Is(err, oauth.ErrUnknownFlow) {
					t.Errorf("the state works twice: %v", err)
				}
				pass(3 * time.Hour)
				if g := w.grant(); g.Generation < 3 {
					t.Error("the grant is not refreshed")
				}
				if got := w.path(); !strings.HasPrefix(got, "pending active refreshing active") {
					t.Errorf("states %q", got)
				}
			})
		})
	}
}

func TestAnAuthorizationThatFailsChangesNothing(t *testing.T) {
	for sentence, c := range map[string]struct {
		by, answer string
		wait       time.Duration
		exchange   http.HandlerFunc
		code       string // of the error; empty: there is no such flow
		calls      int
	}{
		"the person says no":             {"ada", "?error=access_denied&error_description=x&state=STATE", 0, nil, "access_denied", 0},
		"the provider fails":             {"ada", "?error=server_error&state=STATE", 0, nil, "server_error", 0},
		"another provider answers":       {"ada", "?code=c&state=STATE&iss=https%3A%2F%2Fevil.example", 0, nil, oauth.CodeIssuerMismatch, 0},
		"another person answers":         {"eve", "?code=c&state=STATE", 0, nil, "", 0},
		"another state comes back":       {"ada", "?code=c&state=other", 0, nil, "", 0},
		"it takes more than ten minutes": {"ada", "?code=c&state=STATE", 10 * time.Minute, nil, "", 0},
		"the code is refused":            {"ada", "?code=c&state=STATE", 0, says(400, `{"error":"invalid_grant"}`), "invalid_grant", 1},
		"the client is refused":          {"ada", "?code=c&state=STATE", 0, says(401, `{"error":"invalid_client"}`), "invalid_client", 1},
		"the exchange answers HTML":      {"ada", "?code=c&state=STATE", 0, says(200, `<html>`), oauth.CodeMalformed, 1},
		"the scope is too long":          {"ada", "?code=c&state=STATE", 0, says(200, `{"access_token":"a","scope":"`+strings.Repeat("s", 256)+`"}`), oauth.CodeScopeTooLong, 1},
		"an error that repeats a code":   {"ada", "?code=c-" + canary + "&state=STATE", 0, says(400, `{"error":"c-`+canary+`"}`), oauth.CodeWithheld, 1},
	} {
		t.Run(sentence, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.disk.put(client(func(c *attache.OAuthClient) { c.Provider.Issuer = "https://example.com" }), w.authorized())
				before := w.grant()
				a, _ := w.begin()
				pass(c.wait)
				if c.exchange != nil {
					w.provider.next(c.exchange)
				}
				_, err := w.flows.Finish(t.Context(), c.by, a.State, strings.ReplaceAll(c.answer, "STATE", a.State))
				var failed *oauth.Error
				switch {
				case c.code == "" && !errors.Is(err, oauth.ErrUnknownFlow):
					t.Errorf("%v", err)
				case c.code != "" && (!errors.As(err, &failed) || failed.Code != c.code):
					t.Errorf("%v, want %s", err, c.code)
				}
				if text := fmt.Sprintf("%+v", err); strings.Contains(text, canary) {
					t.Errorf("the error shows a secret: %s", text)
				}
				after := w.grant()
				if !after.AccessToken.Equal(before.AccessToken) || !after.RefreshToken.Equal(before.RefreshToken) || after.State != before.State || after.Generation != before.Generation {
					t.Errorf("the grant became %+v", after)
				}
				if n := len(w.provider.seen()); n != c.calls {
					t.Errorf("%d calls", n)
				}
			})
		})
	}
}

func TestAnAuthorizationEndsInNoOtherConnection(t *testing.T) {
	// A connection of the same name, whose client is another provider's.
	anew := func(w *world) {
		w.disk.remove("bot", "crm")
		next := connection()
		next.CreatedAt, next.OAuthClient = time.Now(), "other"
		w.disk.put(client(func(c *attache.OAuthClient) { c.Name, c.TokenURL = "other", "https://example.com/other" }), next)
	}
	start := oauth.Start{Integration: "bot", Connection: "crm", By: "ada", RedirectURL: callback}
	for sentence, end := range map[string]func(*world) error{
		"with a redirect": func(w *world) error {
			a, _ := w.begin()
			anew(w)
			_, err := w.flows.Finish(context.Background(), "ada", a.State, "code")
			return err
		},
		"with a device code": func(w *world) error {
			w.provider.next(says(200, `{"device_code":"d","user_code":"u","verification_uri":"https://example.com/device","expires_in":900}`))
			a, err := w.flows.BeginDevice(context.Background(), start)
			if err != nil {
				return err
			}
			anew(w)
			pass(a.Interval)
			_, err = w.flows.Poll(context.Background(), "ada", a.State)
			return err
		},
		"while the provider thinks": func(w *world) error {
			w.provider.next(func(rw http.ResponseWriter, r *http.Request) {
				anew(w)
				w.provider.behave(rw, r.PostForm)
			})
			a, _ := w.begin()
			_, err := w.flows.Finish(context.Background(), "ada", a.State, "code")
			return err
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.disk.put(client(func(c *attache.OAuthClient) { c.Provider.DeviceURL = "https://example.com/device_authorization" }), connection())
				if err := end(w); !errors.Is(err, oauth.ErrUnknownFlow) && !errors.Is(err, attache.ErrNotFound) {
					t.Errorf("it ended with %v", err)
				}
				if g := w.grant(); !g.AccessToken.IsZero() {
					t.Error("the other connection has the grant")
				}
				for _, r := range w.provider.seen() {
					if r.path == "/other" {
						t.Errorf("the other provider got %v", r.form)
					}
				}
			})
		})
	}
}

func TestReauthorizationRevivesALostGrant(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(client(), w.authorized())
		w.provider.next(says(400, `{"error":"invalid_grant"}`))
		pass(2 * time.Hour)
		a, _ := w.begin()
		if _, err := w.flows.Finish(t.Context(), "ada", "", callback+"?code=c&state="+a.State); err != nil {
			t.Fatal(err)
		}
		if g, err := w.fresh(0); err != nil || g.Generation != 2 || g.Failures != 0 || g.ErrorCode != "" {
			t.Errorf("the grant is %+v, %v", g, err)
		}
	})
}

func TestFlowsThatCannotBegin(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		machine, key := connection(), connection()
		machine.Name, machine.OAuthClient = "machine", "machine"
		key.Name, key.Type = "key", attache.APIKey
		w.disk.put(client(), client(credentials, func(c *attache.OAuthClient) { c.Name = "machine" }), connection(), machine, key)
		start := oauth.Start{Integration: "bot", Connection: "crm", By: "ada", RedirectURL: callback}
		for field, change := range map[string]func(*oauth.Start){
			"redirect_uri": func(s *oauth.Start) { s.RedirectURL = "http://example.com/callback" },
			"grant_type":   func(s *oauth.Start) { s.Connection = "machine" },
			"type":         func(s *oauth.Start) { s.Connection = "key" },
		} {
			s := start
			change(&s)
			var wrong *attache.FieldError
			if _, err := w.flows.Begin(t.Context(), s); !errors.As(err, &wrong) || wrong.Field != field {
				t.Errorf("%s: %v", field, err)
			}
		}
		nobody := start
		nobody.Connection = "nobody"
		if _, err := w.flows.Begin(t.Context(), nobody); !errors.Is(err, attache.ErrNotFound) {
			t.Errorf("without a connection: %v", err)
		}
		var failed *oauth.Error
		if _, err := w.flows.BeginDevice(t.Context(), start); !errors.As(err, &failed) || failed.Code != oauth.CodeNoDeviceFlow {
			t.Errorf("without a device URL: %v", err)
		}
	})
}

func TestFlowsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(client(), connection())
		start := oauth.Start{Integration: "bot", Connection: "crm", By: "ada", RedirectURL: callback}
		states := map[string]bool{}
		for range 1000 {
			a, _ := w.begin()
			states[a.State] = true
		}
		if _, err := w.flows.Begin(t.Context(), start); !errors.Is(err, oauth.ErrTooManyFlows) {
			t.Errorf("one more than a thousand: %v", err)
		}
		if len(states) != 1000 {
			t.Errorf("%d states", len(states))
		}
		pass(10 * time.Minute)
		if _, err := w.flows.Begin(t.Context(), start); err != nil {
			t.Errorf("after ten minutes: %v", err)
		}
	})
}

func TestADeviceIsAuthorizedElsewhere(t *testing.T) {
	pending, slow := says(400, `{"error":"authorization_pending"}`), says(400, `{"error":"slow_down"}`)
	const device = `{"device_code":"dev-` + canary + `","user_code":"WDJB-MJHT","verification_uri":"https://example.com/device",` +
		`"verification_uri_complete":"https://example.com/device?user_code=WDJB-MJHT","expires_in":900,"interval":5}`
	for sentence, c := range map[string]struct {
		polls []http.HandlerFunc
		waits []int  // seconds, after each
		code  string // of the error that ends it; empty: it ends well
	}{
		"at once":                          {nil, nil, ""},
		"after a while":                    {[]http.HandlerFunc{pending, pending}, []int{5, 5}, ""},
		"with a slower pace":               {[]http.HandlerFunc{slow, pending, slow}, []int{10, 10, 15}, ""},
		"through an outage":                {[]http.HandlerFunc{says(503, ""), hangsUp, pending}, []int{10, 20, 20}, ""},
		"as slowly as it is asked":         {[]http.HandlerFunc{says(429, "", "Retry-After: 60")}, []int{60}, ""},
		"not, since nobody came":           {[]http.HandlerFunc{pending, says(400, `{"error":"expired_token"}`)}, []int{5}, "expired_token"},
		"not, since somebody says no":      {[]http.HandlerFunc{says(400, `{"error":"access_denied"}`)}, nil, "access_denied"},
		"not, since the client is refused": {[]http.HandlerFunc{says(401, `{"error":"invalid_client"}`)}, nil, "invalid_client"},
	} {
		t.Run(sentence, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.disk.put(client(func(c *attache.OAuthClient) { c.Provider.DeviceURL = "https://example.com/device_authorization" }), connection())
				w.provider.next(says(200, device))
				w.provider.next(c.polls...)
				a, err := w.flows.BeginDevice(t.Context(), oauth.Start{Integration: "bot", Connection: "crm", By: "ada"})
				if err != nil {
					t.Fatal(err)
				}
				if a.UserCode != "WDJB-MJHT" || a.URL != "https://example.com/device" || a.CompleteURL == "" || a.Interval != 5*time.Second {
					t.Errorf("the flow is %+v", a)
				}
				if _, err := w.flows.Poll(t.Context(), "eve", a.State); !errors.Is(err, oauth.ErrUnknownFlow) {
					t.Errorf("somebody else may poll: %v", err)
				}
				if p, err := w.flows.Poll(t.Context(), "ada", a.State); err != nil || p.Done || len(w.provider.seen()) != 1 {
					t.Errorf("too early a poll: %+v, %v", p, err)
				}
				pass(5 * time.Second)
				for i, want := range c.waits {
					p, err := w.flows.Poll(t.Context(), "ada", a.State)
					var failed *oauth.Error
					if p.Done || p.Interval != time.Duration(want)*time.Second || err != nil && !(errors.As(err, &failed) && failed.Kind == oauth.TryLater) {
						t.Errorf("poll %d: %+v, %v; want to wait %d s", i, p, err, want)
					}
					pass(p.Interval)
				}
				p, err := w.flows.Poll(t.Context(), "ada", a.State)
				var failed *oauth.Error
				switch {
				case c.code == "" && (err != nil || !p.Done || w.grant().State != attache.GrantActive):
					t.Errorf("at the end: %+v, %v, %s", p, err, w.grant().State)
				case c.code != "" && (!errors.As(err, &failed) || failed.Code != c.code || w.grant().State != ""):
					t.Errorf("at the end: %v", err)
				}
				if _, err := w.flows.Poll(t.Context(), "ada", a.State); !errors.Is(err, oauth.ErrUnknownFlow) {
					t.Errorf("after the end: %v", err)
				}
			})
		})
	}
}

func TestPollsAreAtLeastASecondApart(t *testing.T) {
	for answered, want := range map[string]time.Duration{
		`1e-9`: time.Second, `"0.5"`: time.Second, `1`: time.Second, `1.5`: 1500 * time.Millisecond,
		`0`: 5 * time.Second, `-1`: 5 * time.Second, `1e6`: time.Minute,
	} {
		t.Run(answered, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.disk.put(client(func(c *attache.OAuthClient) { c.Provider.DeviceURL = "https://example.com/device_authorization" }), connection())
				w.provider.next(says(200, `{"device_code":"x","user_code":"x","verification_uri":"https://example.com/","expires_in":900,"interval":`+answered+`}`))
				a, err := w.flows.BeginDevice(t.Context(), oauth.Start{Integration: "bot", Connection: "crm", By: "ada"})
				if err != nil || a.Interval != want {
					t.Errorf("an interval of %v, want %v: %v", a.Interval, want, err)
				}
			})
		})
	}
}

func TestDeviceAnswersThatAreRefused(t *testing.T) {
	for sentence, answer := range map[string]string{
		"without a code":          `{"user_code":"x","verification_uri":"https://example.com/","expires_in":900}`,
		"without a user code":     `{"device_code":"x","verification_uri":"https://example.com/","expires_in":900}`,
		"without an end":          `{"device_code":"x","user_code":"x","verification_uri":"https://example.com/"}`,
		"with a page over http":   `{"device_code":"x","user_code":"x","verification_uri":"http://example.com/","expires_in":900}`,
		"with a script as a page": `{"device_code":"x","user_code":"x","verification_uri":"javascript:alert(1)","expires_in":900}`,
		"with an escape":          `{"device_code":"x","user_code":"x","verification_uri":"https://example.com/\u001b[2J","expires_in":900}`,
		"with a long user code":   `{"device_code":"x","user_code":"` + strings.Repeat("x", 65) + `","verification_uri":"https://example.com/","expires_in":900}`,
	} {
		t.Run(sentence, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.disk.put(client(func(c *attache.OAuthClient) { c.Provider.DeviceURL = "https://example.com/device_authorization" }), connection())
				w.provider.next(says(200, answer))
				var failed *oauth.Error
				if a, err := w.flows.BeginDevice(t.Context(), oauth.Start{Integration: "bot", Connection: "crm", By: "ada"}); !errors.As(err, &failed) || failed.Code != oauth.CodeMalformed {
					t.Errorf("%+v, %v", a, err)
				}
			})
		})
	}
}
