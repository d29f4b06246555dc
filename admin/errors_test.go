package admin_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"attache"
)

func problemOf(t *testing.T, a answer) attache.Problem {
	t.Helper()
	var p attache.Problem
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("Content-Type is %q", ct)
	}
	must(t, json.Unmarshal([]byte(a.body), &p))
	if p.Status != a.status || p.Type != "about:blank" || p.Title == "" || p.Detail == "" {
		t.Errorf("the problem document is incomplete: %s", a.body)
	}
	return p
}

// outcome is what a test expects of an error.
type outcome struct {
	Status int
	Code   attache.Code
	Fields []attache.ProblemField
}

func TestBadRequestsAreExplained(t *testing.T) {
	s := start(t)
	_, err := s.client().CreateIntegration(t.Context(), "bot")
	must(t, err)
	const (
		integrations = "POST /api/v1/integrations"
		bearer       = "POST /api/v1/integrations/bot/connections/bearer_token"
		apiKey       = "POST /api/v1/integrations/bot/connections/api_key"
		all          = "GET /api/v1/integrations/bot/connections/all"
		unknown      = "is not a field of this request"
		unknownHelp  = "leave it out, or correct its spelling"
	)
	field := func(name, rule, remedy string) []attache.ProblemField {
		return []attache.ProblemField{{Field: name, Rule: rule, Remedy: remedy}}
	}
	for sentence, test := range map[string]struct {
		request, body string
		want          outcome
	}{
		"no body":                 {integrations, "", outcome{400, "malformed", nil}},
		"a list":                  {integrations, "[]", outcome{400, "malformed", nil}},
		"not UTF-8":               {integrations, "{\"name\":\"\xff\"}", outcome{400, "malformed", nil}},
		"two objects":             {integrations, `{"name":"abc"}{}`, outcome{400, "malformed", nil}},
		"more than a mebibyte":    {integrations, `{"name":"` + strings.Repeat("x", 1<<20) + `"}`, outcome{413, "body_too_large", nil}},
		"an unknown field":        {integrations, `{"name":"abc","nome":1}`, outcome{422, "invalid", field("nome", unknown, unknownHelp)}},
		"a field in another case": {integrations, `{"Name":"abc","name":"abc"}`, outcome{422, "invalid", field("Name", unknown, unknownHelp)}},
		"an unknown field whose name is no name": {integrations, `{"name":"abc","<b> ":1}`,
			outcome{422, "invalid", field("(unnamed)", unknown, unknownHelp)}},
		"a field twice":    {integrations, `{"name":"abc","name":"abd"}`, outcome{422, "invalid", field("name", "appears twice", "send it once")}},
		"a number as name": {integrations, `{"name":17}`, outcome{422, "invalid", field("name", "has the wrong type", "send a string")}},
		"a number as secret": {bearer, `{"name":"abc","allowed_domain":"a.example.com","token":12345}`,
			outcome{422, "invalid", field("token", "has the wrong type", "send a string")}},
		"a port that is none": {bearer, `{"name":"abc","allowed_domain":"a.example.com","token":"t","allowed_ports":[65536]}`,
			outcome{422, "invalid", field("allowed_ports", "has the wrong type", "send a list of whole numbers up to 65535, such as [443]")}},
		"a time that is none": {"POST /api/v1/integrations/bot/tokens", `{"expires_at":"tomorrow"}`,
			outcome{422, "invalid", field("expires_at", "has the wrong type", "send a time as in 2026-01-31T12:00:00Z")}},
		"a time that has passed": {"POST /api/v1/integrations/bot/tokens", `{"expires_at":"2001-01-01T00:00:00Z"}`,
			outcome{422, "invalid", field("expires_at", "is not in the future", "leave it out for a token that does not expire")}},
		"a time that Go has for none": {"POST /api/v1/integrations/bot/tokens", `{"expires_at":"0001-01-01T00:00:00Z"}`,
			outcome{422, "invalid", field("expires_at", "is not in the future", "leave it out for a token that does not expire")}},
		"a time that Go has for none, for an admin token": {"POST /api/v1/admin-tokens", `{"role":"viewer","expires_at":"0001-01-01T00:00:00Z"}`,
			outcome{422, "invalid", field("expires_at", "is not in the future", "leave it out for a token that does not expire")}},
		"a time beyond the last year": {"POST /api/v1/integrations/bot/tokens", `{"expires_at":"9999-12-31T23:59:59-23:00"}`,
			outcome{422, "invalid", field("expires_at", "is after the year 9999 in UTC", "leave it out for a token that does not expire")}},
		"a role that is none": {"POST /api/v1/admin-tokens", `{"role":"root"}`,
			outcome{422, "invalid", field("role", "must be admin, operator or viewer", "")}},
		"the placeholder as the secret": {bearer, `{"name":"abc","allowed_domain":"a.example.com","token":"[redacted]"}`,
			outcome{422, "invalid", field("token", `is the placeholder "[redacted]", not a secret`, "send the credential itself: answers of this API never hold it")}},
		"another type's credential": {bearer, `{"name":"abc","allowed_domain":"a.example.com","token":"t","api_key":"k"}`,
			outcome{422, "invalid", field("api_key", unknown, unknownHelp)}},
		"a wildcard over a public suffix": {bearer, `{"name":"abc","allowed_domain":"*.com","token":"t"}`, outcome{422, "invalid", []attache.ProblemField{{Field: "allowed_domain"}}}},
		"three things wrong": {apiKey, `{"name":"a","allowed_domain":"localhost","header_name":"Cookie","api_key":"k"}`,
			outcome{422, "invalid", []attache.ProblemField{{Field: "name"}, {Field: "allowed_domain"}, {Field: "header_name"}}}},
		"a change of what never changes": {"PUT /api/v1/integrations/bot/connections/api_key/abc", `{"api_key":"k","header_name":"X-Key"}`,
			outcome{422, "invalid", field("header_name", "never changes after creation", "leave it out; to change it, delete the connection and create it again")}},
		"an integration's name that is none":   {integrations, `{"name":"a b"}`, outcome{422, "invalid", []attache.ProblemField{{Field: "name"}}}},
		"a page size beyond the most":          {all + "?page[size]=101", "", outcome{422, "invalid", field("page[size]", "is not valid", "expected number <= 100")}},
		"a page size that is no number":        {all + "?page%5Bsize%5D=many", "", outcome{422, "invalid", field("page[size]", "is not valid", "invalid integer")}},
		"a cursor of somebody else":            {all + "?page[after]=x", "", outcome{422, "invalid", field("page[after]", "is no cursor of this API", "pass meta.after_cursor of the page before")}},
		"an unknown parameter":                 {all + "?page=2", "", outcome{422, "invalid", field("page", "is not valid", "unknown query parameter")}},
		"a connection without its integration": {"POST /api/v1/integrations/nobody/connections/bearer_token", `{"name":"abc","allowed_domain":"a.example.com","token":"t"}`, outcome{404, "not_found", nil}},
		"a list without its integration":       {"GET /api/v1/integrations/nobody/connections/all", "", outcome{404, "not_found", nil}},
		"tokens without their integration":     {"GET /api/v1/integrations/nobody/tokens", "", outcome{404, "not_found", nil}},
		"a zero byte in a path":                {"POST /api/v1/integrations/b%00t/tokens", "{}", outcome{404, "not_found", nil}},
		"a taken name":                         {integrations, `{"name":"bot"}`, outcome{409, "already_exists", nil}},
		"an unknown type of connection":        {"POST /api/v1/integrations/bot/connections/oauth1", "{}", outcome{404, "unknown_route", nil}},
		"an unknown route":                     {"GET /api/v2/integrations", "", outcome{404, "unknown_route", nil}},
		"a slash at the end":                   {"GET /api/v1/integrations/", "", outcome{404, "unknown_route", nil}},
		"dots in a path":                       {"DELETE /api/v1/integrations/bot/tokens/..", "", outcome{404, "unknown_route", nil}},
		"a method that the route lacks":        {"PATCH /api/v1/integrations/bot", "{}", outcome{405, "method_not_allowed", nil}},
		"an explanation of no URL":             {"POST /api/v1/explain", `{"integration":"bot","url":"api.example.com"}`, outcome{422, "invalid", field("url", "is not an http or https URL", "write it as https://host/path")}},
		"an explanation for nobody":            {"POST /api/v1/explain", `{"integration":"nobody","url":"https://api.example.com"}`, outcome{404, "not_found", nil}},
		"a certificate that is none":           {"DELETE /api/v1/ca/abc", "", outcome{404, "not_found", nil}},
	} {
		t.Run(sentence, func(t *testing.T) {
			method, path, _ := strings.Cut(test.request, " ")
			got := s.raw(method, path, test.body, as(s.token(attache.RoleAdmin)), "Content-Type: application/json")
			p := problemOf(t, got)
			for i := range p.Errors { // the rule of a noun is told by package policy and tested there
				if i < len(test.want.Fields) && test.want.Fields[i].Rule == "" {
					p.Errors[i] = attache.ProblemField{Field: p.Errors[i].Field}
				}
			}
			if diff := cmp.Diff(test.want, outcome{p.Status, p.Code, p.Errors}); diff != "" {
				t.Errorf("%s\n%s", got.body, diff)
			}
		})
	}
}

func TestTheErrorsOfARequestAreBounded(t *testing.T) {
	s := start(t)
	viewer := s.token(attache.RoleViewer)
	var body, query strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&body, `"f%d":1,`, i)
		fmt.Fprintf(&query, "&f%d", i)
	}
	for where, got := range map[string]answer{
		"of a body":    s.raw("POST", "/api/v1/explain", "{"+body.String()+`"url":17}`, as(viewer)),
		"of a query":   s.raw("GET", "/api/v1/events?"+query.String()[1:], "", as(viewer)),
		"of one field": s.raw("POST", "/api/v1/explain", "{"+strings.Repeat(`"url":"https://a.example.com",`, 5000)+`"method":"GET"}`, as(viewer)),
	} {
		if p := problemOf(t, got); got.status != 422 || len(p.Errors) != 20 {
			t.Errorf("%s: answered %d with %d errors", where, got.status, len(p.Errors))
		}
	}
}

func TestMalformedJSONIsLocated(t *testing.T) {
	s := start(t)
	for body, want := range map[string]string{
		`{"name":"abc",}`:            "line 1, column 15.",
		"{\n  \"name\": \"abc\"\n":   "line 2, column 16.",
		"{\"name\": \"é\",\n  x":     "line 2, column 3.",
		"{\"name\": \"line\nbreak\"": "line 1, column 15.",
	} {
		got := s.raw("POST", "/api/v1/integrations", body, as(s.token(attache.RoleAdmin)))
		if p := problemOf(t, got); got.status != 400 || !strings.HasSuffix(p.Detail, want) {
			t.Errorf("%q: answered %d %s, want %s", body, got.status, p.Detail, want)
		}
	}
}

func TestAMethodThatIsNotAllowedNamesThoseThatAre(t *testing.T) {
	s := start(t)
	got := s.raw("PATCH", "/api/v1/integrations", "{}", as(s.token(attache.RoleAdmin)))
	if allow := got.header.Get("Allow"); got.status != http.StatusMethodNotAllowed || allow != "GET, HEAD, POST" {
		t.Errorf("answered %d with Allow: %q", got.status, allow)
	}
}

func TestWhatTheServerFailsAtIsLoggedAndNotTold(t *testing.T) {
	s := start(t)
	token := s.token(attache.RoleAdmin)
	c := s.client()
	must(t, s.store.Close())
	_, err := c.Integrations(t.Context())
	if err == nil {
		t.Fatal("a closed store answers")
	}
	got := s.raw("GET", "/api/v1/integrations", "", as(token))
	p := problemOf(t, got)
	if got.status != 500 || p.RequestID == "" {
		t.Errorf("answered %d %s", got.status, got.body)
	}
	if strings.Contains(got.body, "closed") {
		t.Errorf("the cause is in the answer: %s", got.body)
	}
	if !strings.Contains(s.log.String(), p.RequestID) || !strings.Contains(s.log.String(), "closed") {
		t.Errorf("the log lacks the request or its cause:\n%s", s.log)
	}
}
