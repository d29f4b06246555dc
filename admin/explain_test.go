package admin_test

import (
	"net/http"
	"strings"
	"testing"

	"attache"
	"attache/client"
	"attache/secret"
)

func TestExplainKnowsWhetherThereIsAToken(t *testing.T) {
	s := startOAuth(t)
	c := s.as(attache.RoleOperator)
	ask := client.Question{Integration: "bot", URL: "https://" + tickets().AllowedDomain + "/"}
	got, err := c.Explain(t.Context(), ask)
	must(t, err)
	if got.Action != attache.Deny || got.Code != attache.CodeCredentialUnavailable || len(got.Strips) != 0 ||
		!strings.Contains(got.Reason, "pending") || got.Connection != "tickets" {
		t.Errorf("before it is authorized: %+v", got)
	}

	begun := s.begin(c)
	_, err = c.FinishAuthorization(t.Context(), "bot", "tickets", begun.State, secret.New(s.provider.consent(begun.AuthorizationURL)))
	must(t, err)
	got, err = c.Explain(t.Context(), ask)
	must(t, err)
	if got.Action != attache.Inject || got.Header != "Authorization" || got.Value != secret.Redacted || len(got.Strips) == 0 {
		t.Errorf("after it is authorized: %+v", got)
	}
}

func TestExplainATunnelWhoseConnectionIsChosenLater(t *testing.T) {
	s := start(t)
	c := s.client()
	_, err := c.CreateIntegration(t.Context(), "bot")
	must(t, err)
	for _, name := range []string{"one", "two"} {
		ask := kinds[attache.BearerToken].make
		ask.Name, ask.AllowedDomain = name, "api.example.com"
		_, err := c.CreateConnection(t.Context(), "bot", attache.BearerToken, ask)
		must(t, err)
	}
	got, err := c.Explain(t.Context(), client.Question{
		Integration: "bot", Method: http.MethodConnect, URL: "https://api.example.com/",
	})
	must(t, err)
	if got.Action != attache.Inject || got.Connection != "" || len(got.Candidates) != 2 {
		t.Errorf("explained as %+v", got)
	}
}
