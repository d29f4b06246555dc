package admin_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"attache"
	"attache/secret"
)

// browser is what a browser is to the UI: it keeps cookies, follows redirects and
// says where a form comes from. It runs no script.
type browser struct {
	t    testing.TB
	url  string
	http *http.Client
}

func (s *server) browser() *browser {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	must(s.t, err)
	return &browser{s.t, s.url, &http.Client{Jar: jar}}
}

// do sends a request, with form as its body where there is one, and returns the
// answer that all redirects lead to.
func (b *browser) do(method, path string, form url.Values, header ...string) answer {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, strings.NewReader(form.Encode()))
	must(b.t, err)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", b.url)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
		if name == "Host" {
			r.Host = value
		}
	}
	resp, err := b.http.Do(r)
	must(b.t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	must(b.t, err)
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func (b *browser) get(path string) answer {
	b.t.Helper()
	return b.do("GET", path, nil)
}

func (b *browser) signIn(token secret.Text) answer {
	b.t.Helper()
	return b.do("POST", "/sign-in", url.Values{"token": {token.Expose()}})
}

// cookie is the session's, or empty.
func (b *browser) cookie() string {
	b.t.Helper()
	at, err := url.Parse(b.url)
	must(b.t, err)
	for _, c := range b.http.Jar.Cookies(at) {
		if c.Name == "attache_session" {
			return c.Value
		}
	}
	return ""
}

// title is a page's heading.
func (a answer) title() string {
	_, after, _ := strings.Cut(a.body, "<h1>")
	title, _, _ := strings.Cut(after, "</h1>")
	return title
}

var uiPages = map[string]string{"/": "Overview", "/connections": "Connections", "/events": "Events", "/explain": "Explain"}

func TestEveryRoleMayLookAtEveryPage(t *testing.T) {
	s := start(t)
	for _, role := range []attache.Role{attache.RoleViewer, attache.RoleOperator, attache.RoleAdmin} {
		b := s.browser()
		b.signIn(s.token(role))
		for path, title := range uiPages {
			got := b.get(path)
			if got.status != 200 || got.title() != title {
				t.Errorf("%s as %s: %d %q", path, role, got.status, got.title())
			}
			if mark := `<a href="` + path + `" aria-current="page">`; strings.Count(got.body, `aria-current="page"`) != 1 || !strings.Contains(got.body, mark) {
				t.Errorf("%s does not mark itself in the navigation", path)
			}
			if !strings.Contains(got.body, `<li class="role">`+string(role)+`</li>`) {
				t.Errorf("%s does not say that the visitor is %s", path, role)
			}
		}
	}
}

func TestPagesAreForThoseWhoAreSignedIn(t *testing.T) {
	s := start(t)
	for path := range uiPages {
		for method, form := range map[string]url.Values{"GET": nil, "POST": {"integration": {"bot"}}} {
			if method == "POST" && path != "/explain" {
				continue
			}
			if got := s.browser().do(method, path, form); got.title() != "Sign in" {
				t.Errorf("%s %s leads strangers to %q", method, path, got.title())
			}
		}
		if got := s.raw("GET", path, "", as(s.token(attache.RoleAdmin))); got.status != http.StatusSeeOther {
			t.Errorf("%s takes a token in a header: %d", path, got.status)
		}
	}
	if got := s.raw("GET", "/api/v1/status", "", "Cookie: attache_session=x"); got.status != http.StatusUnauthorized {
		t.Errorf("the API answers a cookie with %d", got.status)
	}
	b := s.browser()
	b.signIn(s.token(attache.RoleAdmin))
	if got := b.get("/api/v1/status"); got.status != http.StatusUnauthorized {
		t.Errorf("the API takes the UI's session: %d", got.status)
	}
}

func TestEveryPageForbidsWhatItDoesNotNeed(t *testing.T) {
	s := start(t)
	b := s.browser()
	want := http.Header{
		"Cache-Control": {"no-store"},
		"Content-Security-Policy": {"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
			"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"},
		"Cross-Origin-Resource-Policy": {"same-origin"},
		"Referrer-Policy":              {"same-origin"},
		"X-Content-Type-Options":       {"nosniff"},
	}
	check := func(path string) {
		t.Helper()
		page := b.get(path)
		got := http.Header{}
		for name := range want {
			got[name] = page.header[name]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
		for _, inline := range []string{"<script>", "<style", " style=", " onclick=", "javascript:", "http-equiv", "//cdn", "hx-on"} {
			if strings.Contains(page.body, inline) {
				t.Errorf("%s contains %s", path, inline)
			}
		}
	}
	check("/sign-in")
	check("/nothing")
	b.signIn(s.token(attache.RoleViewer))
	for path := range uiPages {
		check(path)
	}
}

func TestPagesAskNoOtherHost(t *testing.T) {
	s := start(t)
	b := s.browser()
	b.signIn(s.token(attache.RoleViewer))
	for path := range uiPages {
		page := b.get(path).body
		for _, attribute := range []string{`href="`, `src="`, `action="`, `sse-connect="`} {
			for _, rest := range strings.Split(page, attribute)[1:] {
				if !strings.HasPrefix(rest, "/") && !strings.HasPrefix(rest, "#") || strings.HasPrefix(rest, "//") {
					t.Errorf("%s has %s%.40s", path, attribute, rest)
				}
			}
		}
	}
}

func TestAssetsAreAskedForAgainOnlyWhenTheyChange(t *testing.T) {
	s := start(t)
	for name, kind := range map[string]string{
		"ui.css": "text/css; charset=utf-8", "pico.min.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml",
		"htmx.min.js": "text/javascript; charset=utf-8", "htmx-sse.min.js": "text/javascript; charset=utf-8",
	} {
		got := s.raw("GET", "/assets/"+name, "")
		if got.status != 200 || got.header.Get("Content-Type") != kind || got.header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: %d %v", name, got.status, got.header)
		}
		if again := s.raw("GET", "/assets/"+name, "", "If-None-Match: "+got.header.Get("ETag")); again.status != http.StatusNotModified {
			t.Errorf("%s is sent again: %d", name, again.status)
		}
	}
	for _, path := range []string{"/assets/", "/assets/nothing.js", "/assets/../ui.go"} {
		if got := s.browser().get(path); got.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, got.status)
		}
	}
}

func TestWhatIsNotThereIsSaid(t *testing.T) {
	s := start(t)
	b := s.browser()
	b.signIn(s.token(attache.RoleViewer))
	for path, title := range map[string]string{
		"/nothing":                                   "There is no such page",
		"/connections?integration=nobody":            "It does not exist",
		"/connections?integration=a%20b%3c":          "It does not exist",
		"/connections?integration=bot&after=nothing": "The request breaks a rule",
	} {
		got := b.get(path)
		if got.status < 400 || got.status >= 500 || got.title() != title {
			t.Errorf("%s: %d %q, want %q", path, got.status, got.title(), title)
		}
	}
}

func TestAPageNamesTheMethodsThatItHas(t *testing.T) {
	s := start(t)
	for request, allow := range map[string]string{
		"POST /":                "GET, HEAD",
		"POST /connections":     "GET, HEAD",
		"DELETE /sign-in":       "GET, HEAD, POST",
		"GET /sign-out":         "POST",
		"PUT /assets/ui.css":    "GET, HEAD",
		"POST /oauth/callback":  "GET",
		"HEAD /oauth/callback":  "GET",
		"OPTIONS /events":       "GET, HEAD",
		"OPTIONS /no/such/page": "",
	} {
		method, path, _ := strings.Cut(request, " ")
		want := http.StatusMethodNotAllowed
		if allow == "" {
			want = http.StatusNotFound
		}
		if got := s.raw(method, path, ""); got.status != want || got.header.Get("Allow") != allow {
			t.Errorf("%s: answered %d with Allow: %q", request, got.status, got.header.Get("Allow"))
		}
	}
}

func TestAFormThatIsTooLargeIsSaid(t *testing.T) {
	s := start(t)
	b := s.browser()
	large := url.Values{"token": {strings.Repeat("x", 64<<10)}, "url": {"https://api.example.com"}}
	for _, path := range []string{"/sign-in", "/explain"} {
		if got := b.do("POST", path, large); got.status != http.StatusRequestEntityTooLarge || !strings.Contains(got.body, "A form may have 64 KiB.") {
			t.Errorf("%s: answered %d %s", path, got.status, got.body)
		}
		b.signIn(s.token(attache.RoleViewer))
	}
}

func TestTheOverviewShowsTheServer(t *testing.T) {
	s := start(t)
	b := s.browser()
	b.signIn(s.token(attache.RoleViewer))
	page := b.get("/").body
	status, err := s.client().Status(t.Context())
	must(t, err)
	for _, want := range []string{
		"1.2.3", "/data", "127.0.0.1:3128", "does not listen", status.CA.Fingerprint, status.CA.NotAfter.Format(time.DateTime),
		"<strong>0</strong> integrations", "No connections yet", "attache connection create", "attache token create",
		`export HTTPS_PROXY=&#39;http://default:ACCESS_TOKEN@127.0.0.1:3128&#39;`,
	} {
		if !strings.Contains(page, want) && !strings.Contains(strings.ReplaceAll(page, "'", "&#39;"), want) {
			t.Errorf("the overview lacks %q", want)
		}
	}
	ca, err := s.client().CA(t.Context())
	must(t, err)
	got := s.browser().get("/ca.pem") // by anybody
	if got.body != ca.PEM || !strings.Contains(got.header.Get("Content-Disposition"), "attache-ca.pem") {
		t.Errorf("the CA is sent as %v %s", got.header, got.body)
	}
}

func TestConnectionsAreShownByTypeAndPage(t *testing.T) {
	s := start(t)
	b := s.browser()
	b.signIn(s.token(attache.RoleViewer))
	if page := b.get("/connections").body; !strings.Contains(page, "attache integration create") {
		t.Error("without integrations, the page does not say how to make one")
	}
	must(t, s.store.CreateIntegration(t.Context(), attache.Integration{Name: "bot"}))
	if page := b.get("/connections").body; !strings.Contains(page, "attache connection create NAME --integration bot") {
		t.Error("without connections, the page does not say how to make one")
	}
	for i := range 51 {
		must(t, s.store.CreateConnection(t.Context(), attache.Connection{
			Integration: "bot", Name: fmt.Sprintf("key-%02d", i), Type: attache.APIKey, HeaderName: "X-Api-Key",
			AllowedDomain: "*.example.com", AllowedPorts: []uint16{443, 8443}, Credential: attache.Credential{APIKey: secret.New("k")},
		}))
	}
	must(t, s.store.CreateConnection(t.Context(), attache.Connection{
		Integration: "bot", Name: "git", Type: attache.BasicAuth, AllowedDomain: "git.example.com", AllowedPorts: []uint16{443},
		Credential: attache.Credential{Username: secret.New("u"), Password: secret.New("p")},
	}))
	first := b.get("/connections").body
	for _, want := range []string{
		`<h2 id="api_key">`, `<h2 id="basic_auth">`, "key-00", "key-48", "<code>*.example.com</code>", "443, 8443", "<code>X-Api-Key</code>",
		"api_key [redacted]", "username [redacted], password [redacted]", "<code>Authorization</code>",
	} {
		if !strings.Contains(first, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(first, "key-49") || strings.Contains(first, "bearer_token</h2>") {
		t.Error("the page shows too much")
	}
	_, after, _ := strings.Cut(first, `rel="next" href="`)
	next, _, _ := strings.Cut(after, `"`)
	second := b.get(strings.ReplaceAll(next, "&amp;", "&")).body
	if !strings.Contains(second, "key-49") || !strings.Contains(second, "key-50") || strings.Contains(second, "key-48") || strings.Contains(second, `rel="next"`) {
		t.Errorf("the next page, %s, is not the last: %s", next, second)
	}
}
