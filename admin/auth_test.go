package admin_test

import (
	"context"
	"encoding/base64"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"attache"
	"attache/admin"
	"attache/secret"
)

func TestEachRoleMayDoWhatItIsFor(t *testing.T) {
	s := start(t)
	const connections, clients = "/api/v1/integrations/bot/connections/", "/api/v1/integrations/bot/oauth/clients"
	operations := map[attache.Role][]string{
		attache.RoleViewer: {
			"GET /api/v1/integrations", "GET /api/v1/integrations/bot", "GET /api/v1/integrations/bot/tokens",
			"GET " + connections + "all", "GET " + connections + "api_key", "GET " + connections + "api_key/one",
			"GET " + connections + "basic_auth", "GET " + connections + "basic_auth/one",
			"GET " + connections + "bearer_token", "GET " + connections + "bearer_token/one",
			"GET " + connections + "oauth", "GET " + connections + "oauth/one", "GET " + clients, "GET " + clients + "/one",
			"POST /api/v1/explain", "GET /api/v1/events", "GET /api/v1/status", "GET /api/v1/ca",
			"GET /api/services/zis/registry/integrations", "GET /api/services/zis/integrations/bot/connections/all",
		},
		attache.RoleOperator: {
			"POST /api/v1/integrations/bot/tokens", "DELETE /api/v1/integrations/bot/tokens/one",
			"POST " + connections + "api_key", "PUT " + connections + "api_key/one", "DELETE " + connections + "api_key/one",
			"POST " + connections + "basic_auth", "PUT " + connections + "basic_auth/one", "DELETE " + connections + "basic_auth/one",
			"POST " + connections + "bearer_token", "PUT " + connections + "bearer_token/one", "DELETE " + connections + "bearer_token/one",
			"POST " + connections + "oauth", "DELETE " + connections + "oauth/one",
			"POST " + connections + "oauth/one/authorize", "POST " + connections + "oauth/one/authorize/finish",
			"POST " + connections + "oauth/one/authorize/poll",
			"POST " + clients, "PATCH " + clients + "/one", "DELETE " + clients + "/one",
			"POST /api/services/zis/integrations/bot/connections/api_key", "POST /api/services/zis/connections/oauth/clients/bot",
		},
		attache.RoleAdmin: {
			"POST /api/v1/integrations", "DELETE /api/v1/integrations/bot",
			"GET /api/v1/admin-tokens", "POST /api/v1/admin-tokens", "DELETE /api/v1/admin-tokens/one",
			"POST " + connections + "oauth/one/export", "POST " + connections + "oauth/one/export/confirm", "POST " + connections + "oauth/import",
			"POST /api/v1/ca/rotate", "DELETE /api/v1/ca/" + strings.Repeat("0", 64),
			"POST /api/services/zis/registry/bot",
		},
	}
	covered := 0
	for _, all := range operations {
		for _, op := range all {
			if strings.Contains(op, "/api/v1/") {
				covered++
			}
		}
	}
	described := 0
	for _, methods := range s.described().Paths {
		described += len(methods)
	}
	if covered != described {
		t.Errorf("the table has %d operations of /api/v1, the API %d", covered, described)
	}
	rank := map[attache.Role]int{attache.RoleViewer: 1, attache.RoleOperator: 2, attache.RoleAdmin: 3}
	for has := range rank {
		token := s.token(has)
		for needs, all := range operations {
			for _, op := range all {
				method, path, _ := strings.Cut(op, " ")
				got := s.raw(method, path, "{}", as(token), "Content-Type: application/json")
				refused := got.status == http.StatusForbidden
				if may := rank[has] >= rank[needs]; refused == may {
					t.Errorf("%s as %s: status %d, allowed: %v", op, has, got.status, may)
				}
				if refused && !strings.Contains(got.header.Get("WWW-Authenticate"), `error="insufficient_scope", scope="`+string(needs)+`"`) {
					t.Errorf("%s as %s: WWW-Authenticate %q", op, has, got.header.Get("WWW-Authenticate"))
				}
			}
		}
	}
}

func TestATokenIsAskedForOverTCP(t *testing.T) {
	s := start(t)
	good := s.token(attache.RoleViewer)
	revoked, err := s.client().CreateAdminToken(t.Context(), attache.RoleAdmin, time.Time{})
	must(t, err)
	must(t, s.client().RevokeAdminToken(t.Context(), revoked.ID))
	_, accessToken, _ := attache.NewToken(attache.AccessTokenPrefix)
	id, expired, hash := attache.NewToken(attache.AdminTokenPrefix)
	must(t, s.store.CreateAdminToken(t.Context(), attache.AdminToken{
		ID: id, Role: attache.RoleAdmin, Hash: hash, CreatedAt: time.Now(), ExpiresAt: time.Now().Add(-time.Second),
	}))
	basic := func(user string, password secret.Text) string {
		return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password.Expose()))
	}
	for sentence, test := range map[string]struct {
		header []string
		status int
		code   string
		says   string
	}{
		"a bearer token passes":                    {[]string{as(good)}, 200, "", ""},
		"the scheme's case does not matter":        {[]string{"Authorization: bEARER " + good.Expose()}, 200, "", ""},
		"the password of basic passes (curl -u)":   {[]string{basic("me@example.com/token", good)}, 200, "", ""},
		"no token is asked for":                    {nil, 401, "admin_token_required", `Bearer realm="attache"`},
		"another scheme is asked to change":        {[]string{"Authorization: Digest x"}, 401, "admin_token_required", `Bearer realm="attache"`},
		"two headers are refused":                  {[]string{as(good), as(good)}, 401, "admin_token_required", `Bearer realm="attache"`},
		"an unknown token is refused":              {[]string{as(revoked.Token.Text)}, 401, "admin_token_invalid", `error="invalid_token"`},
		"an expired token is refused":              {[]string{as(expired)}, 401, "admin_token_invalid", `error="invalid_token"`},
		"an access token is told from one":         {[]string{as(accessToken)}, 401, "admin_token_invalid", `error="invalid_token"`},
		"a token with a typing error is refused":   {[]string{as(good) + "x"}, 401, "admin_token_invalid", `error="invalid_token"`},
		"the token as the user name is not enough": {[]string{basic(good.Expose(), secret.New("x"))}, 401, "admin_token_invalid", `error="invalid_token"`},
	} {
		t.Run(sentence, func(t *testing.T) {
			got := s.raw("GET", "/api/v1/integrations", "", test.header...)
			if got.status != test.status || !strings.Contains(got.body, test.code) {
				t.Errorf("answered %d %s, want %d %s", got.status, got.body, test.status, test.code)
			}
			if says := got.header.Get("WWW-Authenticate"); !strings.Contains(says, test.says) || test.says == "" && says != "" {
				t.Errorf("WWW-Authenticate is %q, want %q in it", says, test.says)
			}
		})
	}
}

func TestFailedAttemptsAreLimitedAndNobodyIsLockedOut(t *testing.T) {
	s := start(t)
	good := s.token(attache.RoleViewer)
	var got answer
	for range 100 {
		if got = s.raw("GET", "/api/v1/status", "", "Authorization: Bearer wrong"); got.status != 401 {
			break
		}
	}
	if got.status != 429 || got.header.Get("Retry-After") == "" {
		t.Errorf("after 100 failures: %d %v, want 429 with Retry-After", got.status, got.header)
	}
	if logged := strings.Count(s.log.String(), "admin authentication failed"); logged == 0 || logged > 30 {
		t.Errorf("%d failures in the log, want some and not all", logged)
	}
	if got := s.raw("GET", "/api/v1/status", "", as(good)); got.status != 200 {
		t.Errorf("a valid token gets %d meanwhile", got.status)
	}
}

func TestChangesAreLoggedWithWhoMadeThem(t *testing.T) {
	s := start(t)
	token := s.token(attache.RoleAdmin)
	s.raw("POST", "/api/v1/integrations", `{"name":"bot"}`, as(token))
	s.raw("GET", "/api/v1/integrations", "", as(token))
	s.raw("GET", "/api/v1/admin-tokens", "", as(token))
	tokens, err := s.client().AdminTokens(t.Context())
	must(t, err)
	want := `"operation":"create-integration","at":"/api/v1/integrations/bot","by":"` + tokens[0].ID + `"`
	if !strings.Contains(s.log.String(), want) {
		t.Errorf("the log lacks %s:\n%s", want, s.log)
	}
	if strings.Contains(s.log.String(), "list-") {
		t.Error("reading is logged as a change")
	}
}

func TestPagesOfOtherSitesAreRefused(t *testing.T) {
	s := start(t)
	token := as(s.token(attache.RoleAdmin))
	for sentence, test := range map[string]struct {
		method string
		header []string
		status int
	}{
		"a loopback address is a host":                       {"GET", []string{"Host: 127.0.0.1:3129"}, 200},
		"an IPv6 address is a host":                          {"GET", []string{"Host: [::1]"}, 200},
		"localhost is a host":                                {"GET", []string{"Host: LOCALHOST:3129"}, 200},
		"a configured name is a host":                        {"GET", []string{"Host: admin.example.com"}, 200},
		"a name that resolves to loopback is no host":        {"GET", []string{"Host: rebound.attacker.example:3129"}, 421},
		"a name that begins like localhost is no host":       {"GET", []string{"Host: localhost.attacker.example"}, 421},
		"a program sends no Origin and passes":               {"POST", nil, 201},
		"a post from another site is refused":                {"POST", []string{"Sec-Fetch-Site: cross-site"}, 403},
		"a post from another origin is refused":              {"POST", []string{"Origin: https://attacker.example"}, 403},
		"a page of another port on this machine is refused":  {"POST", []string{"Sec-Fetch-Site: same-site"}, 403},
		"a browser's form cannot post, whatever its headers": {"POST", []string{"Content-Type: text/plain"}, 415},
	} {
		t.Run(sentence, func(t *testing.T) {
			body := ""
			if test.method == "POST" {
				body = `{"role":"viewer"}`
			}
			got := s.raw(test.method, "/api/v1/admin-tokens", body, append(test.header, token)...)
			if got.status != test.status {
				t.Errorf("answered %d %s, want %d", got.status, got.body, test.status)
			}
		})
	}
}

func TestAnotherAddressMayHaveAnyName(t *testing.T) {
	s := start(t)
	r := httptest.NewRequestWithContext(t.Context(), "GET", "http://attache.internal/api/v1/status", nil)
	r.Header.Set("Authorization", "Bearer "+s.token(attache.RoleViewer).Expose())
	local := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 3129}
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local)))
	if w.Code != 200 {
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
}

func TestEveryAnswerForbidsCachingFramingAndSniffing(t *testing.T) {
	s := start(t)
	want := http.Header{
		"Cache-Control":                {"no-store"},
		"Content-Security-Policy":      {"default-src 'none'; frame-ancestors 'none'"},
		"Cross-Origin-Resource-Policy": {"same-origin"},
		"Referrer-Policy":              {"no-referrer"},
		"X-Content-Type-Options":       {"nosniff"},
	}
	for _, path := range []string{"/api/v1/status", "/api/v1/nothing", "/api/v1/openapi.json"} {
		for _, header := range []string{as(s.token(attache.RoleViewer)), "Accept: */*"} {
			got := http.Header{}
			for name := range want {
				got[name] = s.raw("GET", path, "", header).header[name]
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", path, diff)
			}
		}
	}
}

func TestAHostWithAPortIsRefusedAtTheStart(t *testing.T) {
	for host, ok := range map[string]bool{
		"admin.example.com": true, "admin.example.com:3129": false, "https://admin.example.com": false, "": false,
	} {
		if _, err := admin.New(admin.Options{Hosts: []string{host}}); ok != (err == nil) {
			t.Errorf("%q: %v", host, err)
		}
	}
}
