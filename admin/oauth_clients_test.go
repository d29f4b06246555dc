package admin_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"attache"
	"attache/client"
	"attache/secret"
)

// refusal is the server's problem, if that is what err is.
func refusal(t testing.TB, err error) attache.Problem {
	t.Helper()
	var refused *client.Error
	if !errors.As(err, &refused) {
		t.Fatalf("the server did not refuse: %v", err)
	}
	return refused.Problem
}

func TestAnOAuthClientLivesItsLife(t *testing.T) {
	s := startOAuth(t)
	c := s.client()
	ask := crm()
	ask.Registration = client.Registration{
		Name: "other", GrantType: attache.AuthorizationCode, ClientID: "id-1", DefaultScopes: "read write",
		AuthURL: "https://{subdomain}.example.com/authorize", TokenURL: "https://{subdomain}.example.com/token",
		Issuer: "https://{subdomain}.example.com", RefreshURL: "https://example.com/refresh", RevocationURL: "https://example.com/revoke",
		DeviceURL: "https://example.com/device", ClientAuth: attache.ClientAuthPost, PKCE: new(bool), ScopeSeparator: ",",
		AuthParams: map[string]string{"prompt": "consent"}, TokenParams: map[string]string{"realm": "x"},
		TokenHeaders: map[string]string{"X-Tenant": "y"}, TokenBody: "json", Audience: "api", Resource: "https://api.example.com/", Keepalive: "24h0m0s",
	}
	want := client.OAuthClient{Registration: ask.Registration, CallbackURL: callbackURL}
	times := cmpopts.IgnoreFields(client.OAuthClient{}, "CreatedAt", "UpdatedAt")
	created, err := c.CreateOAuthClient(t.Context(), "bot", ask)
	must(t, err)
	if diff := cmp.Diff(want, created, times); diff != "" {
		t.Error(diff)
	}
	if _, err := c.CreateOAuthClient(t.Context(), "bot", ask); !errors.Is(err, attache.ErrExists) {
		t.Errorf("created again: %v", err)
	}
	shown, err := c.OAuthClient(t.Context(), "bot", "other")
	must(t, err)
	all, err := c.OAuthClients(t.Context(), "bot")
	must(t, err)
	if diff := cmp.Diff([]client.OAuthClient{created, created}, []client.OAuthClient{shown, all[1]}); diff != "" {
		t.Error(diff)
	}

	changed, err := c.UpdateOAuthClient(t.Context(), "bot", "other", client.OAuthClientUpdate{ClientSecret: outgoing("another")})
	must(t, err)
	if diff := cmp.Diff(want, changed, times); diff != "" {
		t.Error(diff)
	}
	changed, err = c.UpdateOAuthClient(t.Context(), "bot", "other", client.OAuthClientUpdate{ClientID: "id-2"})
	must(t, err)
	kept, err := s.store.OAuthClient(t.Context(), "bot", "other")
	must(t, err)
	if changed.ClientID != "id-2" || kept.ClientID != "id-2" || !kept.ClientSecret.Equal(secret.New("another")) || changed.UpdatedAt.Before(changed.CreatedAt) {
		t.Errorf("changed to %+v, stored as %+v", changed, kept)
	}

	must(t, c.DeleteOAuthClient(t.Context(), "bot", "other"))
	if err := c.DeleteOAuthClient(t.Context(), "bot", "other"); !errors.Is(err, attache.ErrNotFound) {
		t.Errorf("deleted again: %v", err)
	}
}

func TestTheIssuerFillsInWhatIsMissing(t *testing.T) {
	s := startOAuth(t)
	got, err := s.client().OAuthClient(t.Context(), "bot", "crm")
	must(t, err)
	pkce := true
	want := client.Registration{
		Name: "crm", GrantType: attache.AuthorizationCode, ClientID: "the-client", DefaultScopes: "read write", Issuer: issuer,
		AuthURL: "https://example.com/authorize", TokenURL: "https://example.com/token", RevocationURL: "https://example.com/revoke",
		DeviceURL: "https://example.com/device", ClientAuth: attache.ClientAuthBasic, PKCE: &pkce, TokenBody: "form",
	}
	if diff := cmp.Diff(want, got.Registration); diff != "" {
		t.Error(diff)
	}
}

func TestAClientIsNotDeletedWhileItIsUsed(t *testing.T) {
	s := startOAuth(t)
	c := s.client()
	err := c.DeleteOAuthClient(t.Context(), "bot", "crm")
	if p := refusal(t, err); !errors.Is(err, attache.ErrReferenced) || p.Status != http.StatusConflict || !strings.Contains(p.Detail, `"tickets"`) {
		t.Errorf("deleting it is answered with %+v", p)
	}
	must(t, c.DeleteConnection(t.Context(), "bot", attache.OAuth, "tickets"))
	must(t, c.DeleteOAuthClient(t.Context(), "bot", "crm"))
}

func TestBadOAuthRequestsAreExplained(t *testing.T) {
	s := startOAuth(t)
	simple, uses := crm(), tickets()
	simple.Name, simple.Issuer, simple.AuthURL, simple.TokenURL = "simple", "", "https://example.com/authorize", "https://example.com/token"
	uses.Name, uses.OAuthClient = "simple", "simple"
	_, err := s.client().CreateOAuthClient(t.Context(), "bot", simple)
	must(t, err)
	_, err = s.client().CreateConnection(t.Context(), "bot", attache.OAuth, uses)
	must(t, err)
	const (
		clients     = "POST /api/v1/integrations/bot/oauth/clients"
		change      = "PATCH /api/v1/integrations/bot/oauth/clients/crm"
		connections = "POST /api/v1/integrations/bot/connections/oauth"
		authorize   = "POST /api/v1/integrations/bot/connections/oauth/tickets/authorize"
		good        = `"name":"abc","client_id":"id","client_secret":"s","auth_url":"https://example.com/a","token_url":"https://example.com/t"`
	)
	field := func(name, rule string) outcome {
		return outcome{422, "invalid", []attache.ProblemField{{Field: name, Rule: rule}}}
	}
	for sentence, test := range map[string]struct {
		request, body string
		want          outcome
	}{
		"an issuer that is nobody":           {clients, `{"name":"abc","client_id":"id","client_secret":"s","issuer":"https://example.com/nobody"}`, field("issuer", "did not tell its URLs (http_404)")},
		"a duration that is none":            {clients, `{` + good + `,"keepalive":"weekly"}`, field("keepalive", "is not a duration")},
		"a body of another kind":             {clients, `{` + good + `,"token_body":"xml"}`, field("token_body", "must be form or json")},
		"parameters that are no object":      {clients, `{` + good + `,"auth_params":"a=b"}`, field("auth_params", "has the wrong type")},
		"a switch that is none":              {clients, `{` + good + `,"pkce":"no"}`, field("pkce", "has the wrong type")},
		"a public client without saying so":  {clients, strings.Replace(`{`+good+`}`, `"client_secret":"s",`, "", 1), field("client_secret", "is empty")},
		"two things wrong":                   {clients, `{` + good + `,"keepalive":"weekly","audience":"\n"}`, outcome{422, "invalid", []attache.ProblemField{{Field: "keepalive", Rule: "is not a duration"}, {Field: "audience"}}}},
		"a client of nobody":                 {"POST /api/v1/integrations/nobody/oauth/clients", `{` + good + `}`, outcome{404, "not_found", nil}},
		"a change of nothing":                {change, `{}`, field("client_id", "is missing, and so is every secret")},
		"a change to no id":                  {change, `{"client_id":""}`, field("client_id", "is empty")},
		"a change to no secret":              {change, `{"client_secret":""}`, field("client_secret", "is empty")},
		"a change to the placeholder":        {change, `{"client_secret":"[redacted]"}`, field("client_secret", `is the placeholder "[redacted]", not a secret`)},
		"a change of what never changes":     {change, `{"token_url":"https://example.com/t"}`, field("token_url", "never changes after creation")},
		"a change to another proof":          {change, `{"client_id":"id","private_key":"k"}`, field("private_key", "is only for client_auth private_key_jwt")},
		"a change of the way to prove it":    {change, `{"client_auth":"private_key_jwt"}`, field("client_auth", "never changes after creation")},
		"a certificate where there was none": {change, `{"certificate":"c"}`, field("certificate", "can be replaced, and neither added nor removed")},
		"a change of nobody":                 {"PATCH /api/v1/integrations/bot/oauth/clients/nobody", `{"client_id":"id"}`, outcome{404, "not_found", nil}},
		"a connection with a token":          {connections, `{"name":"abc","allowed_domain":"a.example.com","oauth_client":"crm","token":"t"}`, field("token", "cannot be given: a connection of type oauth is authorized, not made from an existing token")},
		"a connection with a refresh token":  {connections, `{"name":"abc","allowed_domain":"a.example.com","oauth_client":"crm","refresh_token":"t"}`, field("refresh_token", "cannot be given: a connection of type oauth is authorized, not made from an existing token")},
		"a connection with another's client": {connections, `{"name":"abc","allowed_domain":"a.example.com","oauth_client":"nobody"}`, field("oauth_client", "names no OAuth client of this integration")},
		"a connection's replacement":         {"PUT /api/v1/integrations/bot/connections/oauth/tickets", `{"token":"t"}`, outcome{405, "method_not_allowed", nil}},
		"a flow that is none":                {authorize, `{"flow":"implicit"}`, field("flow", "must be code or device")},
		"a redirect with a device code":      {authorize, `{"flow":"device","redirect_url":"http://127.0.0.1:1/"}`, field("redirect_url", "is only for the flow code")},
		"a device code that nobody gives":    {"POST /api/v1/integrations/bot/connections/oauth/simple/authorize", `{"flow":"device"}`, field("flow", "cannot be device: the OAuth client has no device_url")},
		"the authorization of nobody":        {"POST /api/v1/integrations/bot/connections/oauth/nobody/authorize", `{"flow":"code"}`, outcome{404, "not_found", nil}},
		"an answer to nothing":               {authorize + "/finish", `{"answer":"code"}`, outcome{404, "unknown_authorization", nil}},
		"a poll for nothing":                 {authorize + "/poll", `{"state":"x"}`, outcome{404, "unknown_authorization", nil}},
	} {
		t.Run(sentence, func(t *testing.T) {
			method, path, _ := strings.Cut(test.request, " ")
			p := problemOf(t, s.raw(method, path, test.body, as(s.token(attache.RoleOperator)), "Content-Type: application/json"))
			for i := range p.Errors { // remedies are told elsewhere, and so are the rules of package policy
				p.Errors[i].Remedy = ""
				if i < len(test.want.Fields) && test.want.Fields[i].Rule == "" {
					p.Errors[i].Rule = ""
				}
			}
			if diff := cmp.Diff(test.want, outcome{p.Status, p.Code, p.Errors}); diff != "" {
				t.Errorf("%+v\n%s", p, diff)
			}
		})
	}
}

func TestASubdomainIsAskedForWhereTheClientNeedsIt(t *testing.T) {
	s := startOAuth(t)
	c := s.client()
	template := crm()
	template.Name, template.Issuer = "shops", ""
	template.AuthURL, template.TokenURL = "https://{subdomain}.example.com/authorize", "https://{subdomain}.example.com/token"
	_, err := c.CreateOAuthClient(t.Context(), "bot", template)
	must(t, err)
	ask := tickets()
	ask.Name, ask.OAuthClient = "shop", "shops"
	_, err = c.CreateConnection(t.Context(), "bot", attache.OAuth, ask)
	if p := refusal(t, err); len(p.Errors) != 1 || p.Errors[0].Field != "oauth_url_subdomain" {
		t.Errorf("without one: %+v", p)
	}
	ask.Subdomain = "Acme"
	made, err := c.CreateConnection(t.Context(), "bot", attache.OAuth, ask)
	must(t, err)
	if made.Subdomain != "acme" {
		t.Errorf("it is shown as %q", made.Subdomain)
	}
}

func TestWithoutProvidersTheRestOfTheAPIWorks(t *testing.T) {
	s := start(t)
	c := s.client()
	_, err := c.CreateIntegration(t.Context(), "bot")
	must(t, err)
	_, err = c.CreateOAuthClient(t.Context(), "bot", crm())
	if p := refusal(t, err); p.Status != http.StatusServiceUnavailable || p.Code != "oauth_unavailable" {
		t.Errorf("an issuer cannot be asked: %+v", p)
	}
	ask := crm()
	ask.AuthURL, ask.TokenURL = "https://example.com/authorize", "https://example.com/token"
	_, err = c.CreateOAuthClient(t.Context(), "bot", ask)
	must(t, err)
	_, err = c.CreateConnection(t.Context(), "bot", attache.OAuth, tickets())
	must(t, err)
	_, begin := c.Authorize(t.Context(), "bot", "tickets", client.Authorize{Flow: client.CodeFlow})
	_, finish := c.FinishAuthorization(t.Context(), "bot", "tickets", "state", secret.New("code"))
	_, poll := c.PollAuthorization(t.Context(), "bot", "tickets", "state")
	for _, err := range []error{begin, finish, poll} {
		if p := refusal(t, err); p.Status != http.StatusServiceUnavailable || p.Code != "oauth_unavailable" {
			t.Errorf("%+v", p)
		}
	}
	if got := s.browser().get("/oauth/callback?code=c&state=s"); got.status != http.StatusServiceUnavailable {
		t.Errorf("the callback answers %d", got.status)
	}
	must(t, c.DeleteConnection(t.Context(), "bot", attache.OAuth, "tickets"))
	must(t, c.DeleteOAuthClient(t.Context(), "bot", "crm"))
}

// pemOf is a new private key in PKCS #8, and a certificate of it with the key
// behind, both in PEM.
func pemOf(t testing.TB, curve elliptic.Curve) (key, certificate secret.Text) {
	t.Helper()
	made, err := ecdsa.GenerateKey(curve, rand.Reader)
	must(t, err)
	key, err = secret.FromPrivateKey(made)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, made.Public(), made)
	must(t, err)
	return key, secret.Concat(secret.New(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))), key)
}

func TestAClientsKeyAndCertificateCanBeReplaced(t *testing.T) {
	s := startOAuth(t)
	c := s.client()
	oldKey, oldCertificate := pemOf(t, elliptic.P256())
	newKey, newCertificate := pemOf(t, elliptic.P256())
	unusable, _ := pemOf(t, elliptic.P521())
	ask := crm()
	ask.Name, ask.ClientAuth, ask.ClientSecret = "signed", attache.ClientAuthPrivateKeyJWT, secret.Outgoing{}
	ask.PrivateKey.Text, ask.Certificate.Text = oldKey, oldCertificate
	_, err := c.CreateOAuthClient(t.Context(), "bot", ask)
	must(t, err)
	for _, step := range []struct {
		sentence         string
		change           client.OAuthClientUpdate
		refused          string // the field; empty: none
		key, certificate secret.Text
	}{
		{"a key", client.OAuthClientUpdate{PrivateKey: secret.Outgoing{Text: newKey}}, "", newKey, oldCertificate},
		{"a certificate", client.OAuthClientUpdate{Certificate: secret.Outgoing{Text: newCertificate}}, "", newKey, newCertificate},
		{"a key that nobody signs with", client.OAuthClientUpdate{PrivateKey: secret.Outgoing{Text: unusable}}, "private_key", newKey, newCertificate},
		{"a certificate without a key", client.OAuthClientUpdate{Certificate: outgoing("7b1f")}, "certificate", newKey, newCertificate},
		{"a secret, which is not used", client.OAuthClientUpdate{ClientSecret: outgoing("7b1f")}, "client_secret", newKey, newCertificate},
		{"the id alone", client.OAuthClientUpdate{ClientID: "another"}, "", newKey, newCertificate},
	} {
		_, err := c.UpdateOAuthClient(t.Context(), "bot", "signed", step.change)
		if step.refused == "" {
			must(t, err)
		} else if p := refusal(t, err); len(p.Errors) != 1 || p.Errors[0].Field != step.refused {
			t.Errorf("%s: refused with %+v", step.sentence, p)
		}
		kept, err := s.store.OAuthClient(t.Context(), "bot", "signed")
		must(t, err)
		if !kept.Provider.PrivateKey.Equal(step.key) || !kept.Provider.Certificate.Equal(step.certificate) {
			t.Errorf("%s: not what is stored afterwards", step.sentence)
		}
	}
	if got := s.raw("PATCH", "/api/v1/integrations/bot/oauth/clients/signed", `{"certificate":""}`, as(s.token(attache.RoleOperator))); got.status != http.StatusUnprocessableEntity {
		t.Errorf("that there is none is answered with %d", got.status)
	}
	leaks(t, "the log", s.log.String())
}
