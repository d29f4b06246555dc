package admin_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"attache"
)

// canary is a secret with every character that an encoder might rewrite.
const canary = `Canary"<&>\7b1f/é`

// forms are how a secret might show.
func forms(s string) []string {
	quoted, _ := json.Marshal(s)
	return []string{
		s, strings.Trim(string(quoted), `"`), strings.ReplaceAll(s, `"`, `\"`), url.QueryEscape(s), url.PathEscape(s),
		base64.StdEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s)),
		base64.StdEncoding.EncodeToString([]byte("user:" + s)),
		"7b1f", // the middle of it, in which nothing is escaped
	}
}

func leaks(t testing.TB, where, text string) {
	t.Helper()
	for _, form := range forms(canary) {
		if strings.Contains(text, form) {
			t.Errorf("%s shows the secret as %q:\n%s", where, form, text)
		}
	}
}

// TestNoSecretComesOut puts a canary into every secret field, rightly and
// wrongly, and looks for it in every answer and in the log.
func TestNoSecretComesOut(t *testing.T) {
	s := start(t)
	token := as(s.token(attache.RoleAdmin))
	quoted, err := json.Marshal(canary)
	must(t, err)
	const one = "/api/v1/integrations/bot/connections/"
	ascii := `"Canary7b1f"` // for those fields that take no other
	credentials := map[string]string{
		"api_key":      `"api_key":` + ascii,
		"basic_auth":   `"username":` + string(quoted) + `,"password":` + string(quoted),
		"bearer_token": `"token":` + ascii,
	}
	var calls [][3]string
	calls = append(calls, [3]string{"POST", "/api/v1/integrations", `{"name":"bot"}`})
	for kind, credential := range credentials {
		header := ""
		if kind == "api_key" {
			header = `"header_name":"X-Api-Key",`
		}
		good := fmt.Sprintf(`{"name":"my_%s","allowed_domain":"api.example.com",%s%s}`, kind, header, credential)
		calls = append(calls,
			[3]string{"POST", one + kind, good},
			[3]string{"POST", one + kind, good}, // taken
			[3]string{"POST", "/api/services/zis/integrations/bot/connections/" + kind, strings.Replace(good, "my_", "zis_", 1)},
			[3]string{"POST", one + kind, strings.Replace(good, "api.example.com", "*.com", 1)},
			[3]string{"POST", one + kind, good + "x"},
			[3]string{"POST", one + kind, strings.Replace(good, `"name"`, `"nome"`, 1)},
			[3]string{"POST", one + kind, strings.Replace(good, credential, strings.ReplaceAll(credential, `:"`, `:["`)+`]`, 1)},
			[3]string{"PUT", one + kind + "/my_" + kind, `{` + credential + `}`},
			[3]string{"PUT", one + kind + "/my_" + kind, `{` + credential + `,"name":` + string(quoted) + `}`},
			[3]string{"PUT", one + kind + "/nobody", `{` + credential + `}`},
			[3]string{"GET", one + kind + "/my_" + kind, ""},
			[3]string{"GET", one + kind, ""},
			[3]string{"PATCH", one + kind + "/my_" + kind, `{` + credential + `}`},
		)
	}
	for _, body := range []string{
		`{"name":` + string(quoted) + `,"allowed_domain":` + string(quoted) + `,"header_name":` + string(quoted) + `,"api_key":` + string(quoted) + `}`,
		`{"name":"abc","allowed_ports":` + string(quoted) + `,"api_key":{"x":` + string(quoted) + `},"strip_cookies":` + string(quoted) + `}`,
		`{"api_key":"` + canary, `["` + canary + `"]`, canary, `{"` + canary + `":1}`,
	} {
		calls = append(calls, [3]string{"POST", one + "api_key", body}, [3]string{"POST", "/api/v1/explain", body},
			[3]string{"POST", "/api/v1/admin-tokens", body}, [3]string{"POST", "/api/v1/integrations/bot/tokens", body})
	}
	secretPath := url.PathEscape(canary)
	calls = append(calls,
		[3]string{"POST", "/api/v1/explain", `{"integration":"bot","url":"https://api.example.com/"}`},
		[3]string{"POST", "/api/v1/explain", `{"integration":"bot","connection":"my_basic_auth","url":"https://api.example.com/"}`},
		[3]string{"POST", "/api/v1/explain", `{"integration":"bot","url":"https://u:7b1f@api.example.com/7b1f?7b1f"}`},
		[3]string{"GET", one + "all", ""},
		[3]string{"GET", one + "all?page[after]=" + url.QueryEscape(canary) + "&page[size]=" + url.QueryEscape(canary), ""},
		[3]string{"GET", one + "api_key/" + secretPath, ""},
		[3]string{"DELETE", "/api/v1/integrations/" + secretPath, ""},
		[3]string{"DELETE", "/api/v1/ca/" + secretPath, ""},
		[3]string{"GET", "/" + secretPath, ""},
		[3]string{"GET", "/api/v1/status", ""},
		[3]string{"GET", "/api/v1/events", ""},
		[3]string{"GET", "/api/v1/integrations", ""},
		[3]string{"GET", "/api/v1/integrations/bot/tokens", ""},
	)
	statuses := map[int]int{}
	for _, call := range calls {
		got := s.raw(call[0], call[1], call[2], token)
		statuses[got.status]++
		leaks(t, strings.Join(call[:2], " "), fmt.Sprint(got.status, got.header, got.body))
		leaks(t, "a refused token", fmt.Sprint(s.raw(call[0], "/api/v1/status", "", "Authorization: Bearer attadmin_"+base64.StdEncoding.EncodeToString([]byte(canary)))))
	}
	leaks(t, "the log", s.log.String())
	for _, status := range []int{200, 201, 400, 404, 405, 409, 422} {
		if statuses[status] == 0 {
			t.Errorf("no call was answered with %d: %v", status, statuses)
		}
	}
}

func FuzzBodiesAreAnsweredWithoutTheirValues(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", `{"name":"abc","allowed_domain":"a.example.com","header_name":"X-Key","api_key":"7b1f"}`,
		`{"name":["7b1f"]}`, `{"api_key":"7b1f","api_key":"7b1f"}`, `{"allowed_ports":[1,"7b1f"]}`, `{"api_key":"7b1f\ud800"}`,
		`{"name":"abc","client_id":"id","client_secret":"7b1f","auth_params":{"a":"7b1f"},"pkce":0,"keepalive":"7b1f"}`,
	} {
		f.Add([]byte(seed))
	}
	s := startOAuth(f)
	routes := [][2]string{
		{"POST", "/api/v1/integrations/bot/connections/api_key"}, {"POST", "/api/v1/explain"},
		{"PUT", "/api/v1/integrations/bot/connections/basic_auth/abc"}, {"POST", "/api/v1/admin-tokens"},
		{"POST", "/api/v1/integrations/bot/oauth/clients"}, {"PATCH", "/api/v1/integrations/bot/oauth/clients/abc"},
		{"POST", "/api/v1/integrations/bot/connections/oauth"}, {"POST", "/api/v1/integrations/bot/connections/oauth/abc/authorize"},
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, route := range routes {
			w := httptest.NewRecorder()
			s.api.Trusted().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), route[0], route[1], strings.NewReader(string(body))))
			answered := w.Body.String()
			if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
				t.Errorf("%v answered %d %s", route, w.Code, answered)
			}
			if w.Code >= 400 && strings.Contains(answered, "7b1f") && !named(body, "7b1f") {
				t.Errorf("%v answered with a value: %s", route, answered)
			}
		}
	})
}

// named reports whether a field's name holds the text: names are shown.
func named(body []byte, text string) bool {
	var object map[string]json.RawMessage
	if json.Unmarshal(body, &object) != nil {
		return false
	}
	for name := range object {
		if strings.Contains(name, text) {
			return true
		}
	}
	return false
}
