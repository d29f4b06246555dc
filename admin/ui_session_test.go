package admin_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"attache"
	"attache/admin"
	"attache/audit"
	"attache/secret"
	"attache/store"
)

func TestASessionIsACookieThatSaysNothing(t *testing.T) {
	s := start(t)
	token := s.token(attache.RoleAdmin)
	set := map[bool]*http.Cookie{}
	for _, secure := range []bool{false, true} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "http://localhost/sign-in", strings.NewReader(url.Values{"token": {" " + token.Expose() + "\n"}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if secure {
			r.TLS = &tls.ConnectionState{}
		}
		w := httptest.NewRecorder()
		s.api.ServeHTTP(w, r)
		if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/" || len(w.Result().Cookies()) != 1 {
			t.Fatalf("a sign-in is answered with %d %v", w.Code, w.Header())
		}
		set[secure] = w.Result().Cookies()[0]
	}
	for secure, c := range set {
		if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Secure != secure || c.Path != "/" || c.MaxAge != 12*3600 || c.Domain != "" {
			t.Errorf("with TLS %v the cookie is %s", secure, c)
		}
		if len(c.Value) < 22 || strings.Contains(token.Expose(), c.Value) || c.Value == set[!secure].Value {
			t.Errorf("the session's id is %q", c.Value)
		}
	}
	if strings.Contains(s.log.String(), token.Expose()) || !strings.Contains(s.log.String(), "admin signed in") {
		t.Errorf("the log is %s", s.log)
	}
}

func TestBehindAReverseProxyWithTLSTheCookieIsForTLS(t *testing.T) {
	s := start(t)
	got := s.raw("POST", "/sign-in", url.Values{"token": {s.token(attache.RoleViewer).Expose()}}.Encode(),
		"Host: admin.example.com", "Origin: https://admin.example.com", "Content-Type: application/x-www-form-urlencoded")
	if cookie := got.header.Get("Set-Cookie"); got.status != http.StatusSeeOther || !strings.Contains(cookie, "; Secure") {
		t.Errorf("answered %d with the cookie %q", got.status, cookie)
	}
}

func TestAWrongTokenIsExplainedAndNeverShown(t *testing.T) {
	s := start(t)
	_, accessToken, _ := attache.NewToken(attache.AccessTokenPrefix)
	_, unknown, _ := attache.NewToken(attache.AdminTokenPrefix)
	for sentence, test := range map[string]struct {
		token secret.Text
		says  string
	}{
		"nothing":         {secret.Text{}, "those begin with attadmin_"},
		"something else":  {secret.New("hunter22hunter22"), "those begin with attadmin_"},
		"an access token": {accessToken, "It is an access token"},
		"a revoked token": {unknown, "may have been revoked"},
	} {
		t.Run(sentence, func(t *testing.T) {
			b := s.browser()
			got := b.signIn(test.token)
			if got.status != http.StatusUnauthorized || got.title() != "Sign in" || !strings.Contains(got.body, test.says) || b.cookie() != "" {
				t.Errorf("answered %d %s", got.status, got.body)
			}
			if text := test.token.Expose(); text != "" && strings.Contains(got.body+s.log.String(), text) {
				t.Error("the token is shown")
			}
		})
	}
}

func TestFailedSignInsCountLikeFailedCalls(t *testing.T) {
	s := start(t)
	good := s.token(attache.RoleViewer)
	for range 100 {
		if s.raw("GET", "/api/v1/status", "", "Authorization: Bearer wrong").status == http.StatusTooManyRequests {
			break
		}
	}
	got := s.browser().signIn(secret.New("wrong"))
	if got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") == "" || got.title() != "Sign in" {
		t.Errorf("after many failures: %d %v", got.status, got.header)
	}
	if got := s.browser().signIn(good); got.title() != "Overview" {
		t.Errorf("a valid token leads to %q meanwhile", got.title())
	}
}

func TestRevokingTheTokenEndsTheSession(t *testing.T) {
	s := start(t)
	b, other := s.browser(), s.browser()
	made, err := s.client().CreateAdminToken(t.Context(), attache.RoleViewer, time.Time{})
	must(t, err)
	b.signIn(made.Token.Text)
	other.signIn(s.token(attache.RoleViewer))
	if got := b.get("/events"); got.title() != "Events" {
		t.Fatalf("signed in, the page is %q", got.title())
	}
	must(t, s.client().RevokeAdminToken(t.Context(), made.ID))
	if got := b.get("/events"); got.title() != "Sign in" {
		t.Errorf("after the revocation, the page is %q", got.title())
	}
	if got := b.get("/events/stream"); !strings.Contains(got.body, "event: ended") {
		t.Errorf("after the revocation, the stream is %q", got.body)
	}
	if got := other.get("/events"); got.title() != "Events" {
		t.Errorf("another's session ended too: %q", got.title())
	}
}

func TestSigningOutEndsTheSession(t *testing.T) {
	s := start(t)
	b := s.browser()
	b.signIn(s.token(attache.RoleViewer))
	id := b.cookie()
	if got := b.get("/sign-in"); got.title() != "Overview" {
		t.Errorf("signed in, the page for signing in is %q", got.title())
	}
	if got := b.do("POST", "/sign-out", url.Values{}); got.title() != "Sign in" || b.cookie() != "" {
		t.Errorf("signing out leads to %q, with the cookie %q", got.title(), b.cookie())
	}
	if got := s.raw("GET", "/", "", "Cookie: attache_session="+id); got.status != http.StatusSeeOther {
		t.Errorf("the old cookie is answered with %d", got.status)
	}
}

func TestASignInEndsTheSessionBefore(t *testing.T) {
	s := start(t)
	b := s.browser()
	b.signIn(s.token(attache.RoleViewer))
	id := b.cookie()
	b.signIn(s.token(attache.RoleAdmin))
	if b.cookie() == id {
		t.Error("the session's id stays")
	}
	if got := s.raw("GET", "/", "", "Cookie: attache_session="+id); got.status != http.StatusSeeOther {
		t.Errorf("the session before is answered with %d", got.status)
	}
}

func TestOtherSitesCannotUseTheUI(t *testing.T) {
	s := start(t)
	b := s.browser()
	token := s.token(attache.RoleAdmin)
	b.signIn(token)
	form := url.Values{"token": {token.Expose()}, "integration": {"bot"}}
	for sentence, header := range map[string][]string{
		"another site":                     {"Sec-Fetch-Site: cross-site", "Origin: https://attacker.example"},
		"another port of this machine":     {"Sec-Fetch-Site: same-site", "Origin: http://127.0.0.1:1"},
		"another origin in an old browser": {"Sec-Fetch-Site: ", "Origin: https://attacker.example"},
		"no origin in an old browser":      {"Sec-Fetch-Site: ", "Origin: null"},
	} {
		for _, path := range []string{"/sign-in", "/sign-out", "/explain"} {
			got := b.do("POST", path, form, header...)
			if got.status != http.StatusForbidden || got.title() != "Requests from other sites are refused" {
				t.Errorf("%s posts to %s: %d %q", sentence, path, got.status, got.title())
			}
		}
	}
	if got := b.get("/"); got.title() != "Overview" {
		t.Errorf("then the page is %q", got.title())
	}
	for _, path := range []string{"/", "/sign-in", "/ca.pem", "/assets/ui.css"} {
		if got := b.do("GET", path, nil, "Host: rebound.attacker.example"); got.status != http.StatusMisdirectedRequest {
			t.Errorf("%s under a rebound name: %d", path, got.status)
		}
	}
}

// timed is a UI in a synctest bubble, where time passes when everybody waits.
type timed struct {
	t     *testing.T
	api   *admin.API
	store *store.Store
	ring  *audit.Ring
	token secret.Text
}

func newTimed(t *testing.T, tokenLife time.Duration) *timed {
	t.Helper()
	kept, err := store.Open(t.Context(), store.Options{Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(func() { must(t, kept.Close()) })
	id, token, hash := attache.NewToken(attache.AdminTokenPrefix)
	must(t, kept.CreateAdminToken(t.Context(), attache.AdminToken{
		ID: id, Role: attache.RoleViewer, Hash: hash, CreatedAt: time.Now(), ExpiresAt: time.Now().Add(tokenLife),
	}))
	ring := audit.NewRing(1000)
	api, err := admin.New(admin.Options{Store: kept, Events: fromRing(ring), Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	return &timed{t, api, kept, ring, token}
}

func (u *timed) do(ctx context.Context, method, path, session string, form url.Values) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, method, "http://localhost"+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.AddCookie(&http.Cookie{Name: "attache_session", Value: session})
	w := httptest.NewRecorder()
	u.api.ServeHTTP(w, r)
	return w
}

func (u *timed) signIn() (session string) {
	u.t.Helper()
	w := u.do(u.t.Context(), "POST", "/sign-in", "", url.Values{"token": {u.token.Expose()}})
	if w.Code != http.StatusSeeOther {
		u.t.Fatalf("a sign-in is answered with %d %s", w.Code, w.Body)
	}
	return w.Result().Cookies()[0].Value
}

func (u *timed) signedIn(session string) bool {
	return u.do(u.t.Context(), "GET", "/events", session, nil).Code == http.StatusOK
}

func TestASessionEnds(t *testing.T) {
	for sentence, test := range map[string]struct {
		every, until, tokenLife time.Duration
		ends                    bool
	}{
		"not while it is used":            {59 * time.Minute, 11 * time.Hour, 24 * time.Hour, false},
		"when it is not used for an hour": {time.Hour, time.Hour, 24 * time.Hour, true},
		"when it is twelve hours old":     {30 * time.Minute, 12 * time.Hour, 24 * time.Hour, true},
		"when its token expires":          {30 * time.Minute, 2 * time.Hour, 2 * time.Hour, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newTimed(t, test.tokenLife)
				session, began := u.signIn(), time.Now()
				good := true
				for good && time.Since(began) < test.until {
					<-time.After(test.every)
					good = u.signedIn(session)
				}
				if lasted := time.Since(began); good == test.ends || test.ends && lasted != test.until {
					t.Errorf("after %s the session is good: %v", lasted, good)
				}
			})
		})
	}
}

func TestAnOpenPageDoesNotProlongItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTimed(t, 24*time.Hour)
		session, began := u.signIn(), time.Now()
		w := u.do(t.Context(), "GET", "/events/stream", session, nil)
		if lasted := time.Since(began); lasted != time.Hour {
			t.Errorf("the stream lasted %s", lasted)
		}
		lines := bufio.NewScanner(w.Body)
		var last string
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "event: ") {
				last = lines.Text()
			}
		}
		if last != "event: ended" {
			t.Errorf("the stream ends with %q", last)
		}
	})
}

func TestSessionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTimed(t, 24*time.Hour)
		first, second := u.signIn(), u.signIn()
		<-time.After(time.Second)
		if !u.signedIn(first) {
			t.Fatal("the first session has ended")
		}
		for range 255 {
			u.signIn()
		}
		if !u.signedIn(first) || u.signedIn(second) {
			t.Errorf("of 257 sessions, that used last is good: %v; that used first: %v", u.signedIn(first), u.signedIn(second))
		}
	})
}
