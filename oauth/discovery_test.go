package oauth_test

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"attache"
	"attache/oauth"
)

func TestAnIssuerFillsTheURLsIn(t *testing.T) {
	const endpoints = `"authorization_endpoint":"https://example.com/a","token_endpoint":"https://example.com/t","revocation_endpoint":"https://example.com/r",` +
		`"device_authorization_endpoint":"https://example.com/d","token_endpoint_auth_methods_supported":["client_secret_post","none","tls_client_auth"]`
	found := oauth.Metadata{
		Issuer: "https://example.com/tenant", AuthURL: "https://example.com/a", TokenURL: "https://example.com/t",
		RevocationURL: "https://example.com/r", DeviceURL: "https://example.com/d",
		ClientAuths: []attache.ClientAuth{attache.ClientAuthPost, attache.ClientAuthNone},
	}
	good := says(200, `{"issuer":"https://example.com/tenant",`+endpoints+`}`)
	for sentence, c := range map[string]struct {
		answers []http.HandlerFunc
		paths   []string
		code    string // empty: it is found
	}{
		"where RFC 8414 puts it": {[]http.HandlerFunc{good}, []string{"/.well-known/oauth-authorization-server/tenant"}, ""},
		"where OpenID puts it": {[]http.HandlerFunc{says(404, "not here"), good},
			[]string{"/.well-known/oauth-authorization-server/tenant", "/tenant/.well-known/openid-configuration"}, ""},
		"nowhere":               {[]http.HandlerFunc{says(404, ""), says(404, "")}, nil, "http_404"},
		"somebody else's":       {repeat(says(200, `{"issuer":"https://example.com",`+endpoints+`}`), 2), nil, oauth.CodeIssuerMismatch},
		"without a token URL":   {repeat(says(200, `{"issuer":"https://example.com/tenant"}`), 2), nil, oauth.CodeMalformed},
		"a page":                {repeat(says(200, `<html>`), 2), nil, oauth.CodeMalformed},
		"a redirect":            {repeat(says(302, "", "Location: https://evil.example/"), 2), nil, oauth.CodeMalformed},
		"of endless length":     {repeat(says(200, string(make([]byte, 2<<20))), 2), nil, oauth.CodeAnswerTooLong},
		"with a plain http URL": {repeat(says(200, `{"issuer":"https://example.com/tenant","token_endpoint":"http://example.com/t"}`), 2), nil, "field"},
	} {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.provider.next(c.answers...)
				got, err := w.endpoint.Discover(t.Context(), "https://example.com/tenant")
				var failed *oauth.Error
				var field *attache.FieldError
				switch {
				case c.code == "":
					if diff := cmp.Diff(found, got); diff != "" || err != nil {
						t.Errorf("%v (-want +got):\n%s", err, diff)
					}
				case c.code == "field":
					if !errors.As(err, &field) {
						t.Errorf("%v", err)
					}
				case !errors.As(err, &failed) || failed.Code != c.code:
					t.Errorf("%v, want %s", err, c.code)
				}
				pass(time.Minute)
				for i, r := range w.provider.seen() {
					if c.paths != nil && r.path != c.paths[i] {
						t.Errorf("call %d is to %s", i, r.path)
					}
				}
			})
		})
	}
}

func TestWhatIsFilledInIsWhatIsEmpty(t *testing.T) {
	m := oauth.Metadata{Issuer: "i", AuthURL: "a", TokenURL: "t", RevocationURL: "r", DeviceURL: "d", ClientAuths: []attache.ClientAuth{attache.ClientAuthPost}}
	c := client(func(c *attache.OAuthClient) { c.AuthURL = "" })
	m.Fill(&c)
	want := client(func(c *attache.OAuthClient) {
		c.AuthURL = "a"
		c.Provider = attache.Provider{Issuer: "i", RevocationURL: "r", DeviceURL: "d", ClientAuth: attache.ClientAuthPost}
	})
	want.UpdatedAt = c.UpdatedAt
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("the client (-want +got):\n%s", diff)
	}
	machine := client(credentials)
	m.Fill(&machine)
	if machine.AuthURL != "" || machine.Provider.DeviceURL != "" {
		t.Error("client credentials get a URL for people")
	}
	for _, issuer := range []string{"", "example.com", "https://example.com?x=1", "https://{subdomain}.example.com", "http://example.com"} {
		var field *attache.FieldError
		if _, err := oauth.NewEndpoint(oauth.EndpointOptions{}).Discover(t.Context(), issuer); !errors.As(err, &field) {
			t.Errorf("%q: %v", issuer, err)
		}
	}
}
