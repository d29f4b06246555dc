package oauth_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"attache"
	"attache/oauth"
	"attache/secret"
)

// FuzzTokenAnswer: whatever a provider answers, there is a token that fits a
// header or an error that is fit to be shown, and never both nor neither.
func FuzzTokenAnswer(f *testing.F) {
	for _, body := range []string{
		`{"access_token":"a","refresh_token":"r","token_type":"Bearer","expires_in":3600,"scope":"x y"}`,
		`{"access_token":"a","expires_in":"1e9999"}`, `{"error":"invalid_grant"}`, `{"ok":false}`, `[]`, `null`, `<html>`, `access_token=a&scope=b`,
		`{"error":"refresh-` + canary + `"}`, `{"error":"0` + canary + `"}`, `{"access_token":"a\nb"}`, `{"scope":["\u0000"],"access_token":"x"}`, "{\"access_token\":\"\xff\"}",
	} {
		f.Add(200, "application/json", body)
		f.Add(400, "application/x-www-form-urlencoded", body)
	}
	f.Fuzz(func(t *testing.T, status int, kind, body string) {
		if status < 200 || status > 599 {
			return
		}
		w := newDirectWorld(t, nil)
		w.endpoint.SetTransport(direct{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		})})
		token, err := w.client(client()).Refresh(t.Context(), secret.New("refresh-"+canary))
		access := token.Access.Expose()
		switch {
		case (err == nil) == token.Access.IsZero():
			t.Errorf("a token of %d bytes, and the error %v", len(access), err)
		case err != nil && (strings.Contains(err.Error(), canary) || !utf8.ValidString(err.Error()) || len(err.Error()) > 400):
			t.Errorf("the error is not fit to be shown: %q", err)
		case strings.ContainsFunc(access, func(r rune) bool { return r <= ' ' || r > '~' }):
			t.Errorf("the token breaks a header: %q", access)
		case utf8.RuneCountInString(token.Scope) > 255:
			t.Errorf("a scope of %d characters", len(token.Scope))
		case !token.Expires.IsZero() && token.Expires.Before(token.Issued):
			t.Errorf("issued %v, expires %v", token.Issued, token.Expires)
		}
	})
}

// FuzzRedirect: what is pasted is a code, an error, or refused, and no refusal
// shows it.
func FuzzRedirect(f *testing.F) {
	for _, s := range []string{
		callback + "?code=c&state=s&iss=i", "?code=c", "c", "4%2F0Ab", "?error=access_denied&state=s", "", "?", "https://x/#code=c",
		"?code=a&code=b", "?code=%zz", "http://[::1", "\x1b[2J", "?state=s", "?error=a%0ab&code=c", "://", "?code=a;b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := oauth.ParseRedirect(s)
		switch {
		case err != nil && (r != oauth.Redirect{} || len(s) > 40 && strings.Contains(err.Error(), s)):
			t.Errorf("refused with %v, and yet %+v", err, r)
		case err == nil && r.Code.IsZero() == (r.Error == ""):
			t.Errorf("%q is neither a code nor an error, or both", s)
		case strings.ContainsFunc(r.Error, func(c rune) bool { return c < ' ' || c > '~' || c == '"' || c == '\\' }) || len(r.Error) > 64:
			t.Errorf("the error %q is not fit to be shown", r.Error)
		}
	})
}

// FuzzSubdomain: whatever the subdomain, a URL keeps its scheme, its host below
// the domain, its port and its path.
func FuzzSubdomain(f *testing.F) {
	for _, s := range []string{"acme", "a.b", "x/", "x@evil.com", "x#", "x?", "x:80", "%2e", "ä", "-", "x\\y", "{subdomain}", "\t"} {
		f.Add(s)
	}
	endpoint := oauth.NewEndpoint(oauth.EndpointOptions{})
	c := client(func(c *attache.OAuthClient) { c.AuthURL = "https://{subdomain}.example.com:8443/{subdomain}/authorize" })
	f.Fuzz(func(t *testing.T, s string) {
		ready, err := endpoint.Client(c, s)
		if err != nil {
			return
		}
		u, err := url.Parse(ready.AuthorizationURL("", callback, "s", secret.Text{}))
		if err != nil {
			t.Fatal(err)
		}
		label := strings.ToLower(s)
		if u.Scheme != "https" || u.Host != label+".example.com:8443" || u.Path != "/"+label+"/authorize" || strings.Contains(label, ".") || u.User != nil {
			t.Errorf("%q makes %s", s, u)
		}
	})
}
