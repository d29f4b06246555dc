package admin_test

import (
	"encoding/json"
	"html"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"

	"attache"
	"attache/secret"
)

// hostile are texts that a stranger may put into an event.
var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' autofocus onfocus='alert(1)`, `</td></tr></table>`,
	`{{.}}`, `&lt;`, "a\r\n\r\nevent: ended\r\ndata: x", "a\nevent: ended\ndata: x", "a\revent: ended", "\x1b[2J", "a\u202egnp.exe", "\xff\xfe", "\x00",
	`javascript:alert(1)`, strings.Repeat("x", 1024),
}

// escaped is a hostile text as a page may show it.
func escaped(s string) string {
	return html.EscapeString(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s))
}

// sameText ignores how a character reference is written.
func sameText(page string) string {
	return strings.NewReplacer("&#43;", "+").Replace(page)
}

func TestHostileEventsAreEscaped(t *testing.T) {
	s := start(t)
	b := s.browser()
	b.signIn(s.token(attache.RoleViewer))
	for i, h := range hostile {
		s.ring.Record(&attache.Event{
			ID: string(rune('a' + i)), Time: time.Now(), Kind: attache.RequestEvent, Decision: attache.Deny, Code: attache.CodeBadTarget,
			Method: h, Target: h, Path: h, Integration: h, Connection: h, Reason: h,
		})
	}
	page := sameText(b.get("/events").body)
	stream := sameText(firstRows(t, b))
	for where, text := range map[string]string{"the page": page, "the stream": stream} {
		for _, h := range hostile {
			if got := strings.Count(text, escaped(h)); got < 6 {
				t.Errorf("%s shows %q %d times rightly", where, h, got)
			}
		}
		for _, bad := range []string{"<script>alert", "<img", "onfocus='", "\x1b", "\u202e", "\x00", "\r", "\xff", "\nevent: ended"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s contains %q", where, bad)
			}
		}
	}
}

// TestHostileNamesAreEscaped puts such texts where only a damaged store or a
// later bug could: rules keep them from being names.
func TestHostileNamesAreEscaped(t *testing.T) {
	s := start(t)
	b := s.browser()
	b.signIn(s.token(attache.RoleViewer))
	const name = `<b>"'&bot`
	must(t, s.store.CreateIntegration(t.Context(), attache.Integration{Name: name}))
	for _, path := range []string{"/connections?integration=" + url.QueryEscape(name), "/explain"} {
		if page := b.get(path).body; strings.Contains(page, "<b>") {
			t.Errorf("%s: %s", path, page)
		}
	}
	for _, field := range []string{"integration", "connection", "method", "url"} {
		form := url.Values{"integration": {"bot"}, "url": {"https://api.example.com/"}}
		form.Set(field, `"><b>`)
		if page := b.do("POST", "/explain", form).body; strings.Contains(page, "<b>") {
			t.Errorf("%s: %s", field, page)
		}
	}
}

// TestNoPageShowsASecret looks for a canary, which is in every secret field, in
// every page, and for what a visitor typed by mistake.
func TestNoPageShowsASecret(t *testing.T) {
	s := start(t)
	token := s.token(attache.RoleAdmin)
	must(t, s.store.CreateIntegration(t.Context(), attache.Integration{Name: "bot"}))
	ascii := secret.New("Canary7b1f")
	must(t, s.store.CreateOAuthClient(t.Context(), attache.OAuthClient{Integration: "bot", Name: "crm", ClientSecret: ascii}))
	for name, c := range map[string]attache.Connection{
		"key":    {Type: attache.APIKey, HeaderName: "X-Api-Key", Credential: attache.Credential{APIKey: ascii}},
		"basic":  {Type: attache.BasicAuth, Credential: attache.Credential{Username: secret.New(canary), Password: secret.New(canary)}},
		"bearer": {Type: attache.BearerToken, Credential: attache.Credential{Token: ascii}},
		"oauth": {Type: attache.OAuth, OAuthClient: "crm", Grant: &attache.Grant{
			State: attache.GrantActive, AccessToken: ascii, RefreshToken: ascii, ExpiresAt: time.Now().Add(time.Hour),
		}},
	} {
		c.Integration, c.Name, c.AllowedDomain, c.AllowedPorts = "bot", name, attache.AllowedDomain(name+".example.com"), []uint16{443}
		must(t, s.store.CreateConnection(t.Context(), c))
	}
	b := s.browser()
	seen := map[string]answer{"a wrong token": b.signIn(secret.New("attadmin_" + canary)), "signing in": b.signIn(token)}
	for _, path := range []string{
		"/", "/connections", "/connections?integration=bot", "/events", "/explain", "/nothing", "/ca.pem",
		"/" + url.PathEscape(canary), "/connections?integration=" + url.QueryEscape(canary), "/connections?integration=bot&after=" + url.QueryEscape(canary),
	} {
		seen[path] = b.get(path)
	}
	for _, ask := range []string{
		"https://key.example.com/", "https://basic.example.com/", "https://bearer.example.com/", "http://bearer.example.com/", "https://oauth.example.com/",
		"https://user:7b1f@key.example.com/", "https://key.example.com/?key=7b1f", "https://key.example.com/#7b1f", "://7b1f@", "7b1f@:?7b1f",
	} {
		seen["explain "+ask] = b.do("POST", "/explain", url.Values{"integration": {"bot"}, "url": {ask}})
	}
	session := b.cookie()
	for where, got := range seen {
		header, err := json.Marshal(got.header)
		must(t, err)
		leaks(t, where, string(header)+got.body)
		if strings.Contains(string(header)+got.body, token.Expose()) || strings.Contains(got.body, session) {
			t.Errorf("%s shows the admin token or the session: %s", where, got.body)
		}
	}
	leaks(t, "the log", s.log.String())
	if strings.Contains(s.log.String(), token.Expose()) || strings.Contains(s.log.String(), session) {
		t.Errorf("the log shows the admin token or the session: %s", s.log)
	}
}
