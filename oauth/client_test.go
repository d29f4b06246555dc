package oauth_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"attache"
	"attache/oauth"
	"attache/secret"
)

func TestRegistrationsThatAreRefused(t *testing.T) {
	endpoint := oauth.NewEndpoint(oauth.EndpointOptions{})
	for sentence, c := range map[string]struct {
		change func(*attache.OAuthClient)
		field  string // empty: it is accepted
	}{
		"the usual one":                           {func(*attache.OAuthClient) {}, ""},
		"a public client":                         {func(c *attache.OAuthClient) { c.ClientSecret = secret.Text{} }, ""},
		"a subdomain in front of a domain":        {func(c *attache.OAuthClient) { c.TokenURL = "https://{subdomain}.example.com/" }, ""},
		"a subdomain inside a label":              {func(c *attache.OAuthClient) { c.TokenURL = "https://login-{subdomain}.example.com/" }, ""},
		"a subdomain in front of a shop's suffix": {func(c *attache.OAuthClient) { c.TokenURL = "https://{subdomain}.myshopify.com/" }, ""},
		"a subdomain in the path":                 {func(c *attache.OAuthClient) { c.TokenURL = "https://example.com/{subdomain}/token" }, ""},
		"a subdomain in the query":                {func(c *attache.OAuthClient) { c.TokenURL = "https://example.com/token?t={subdomain}" }, ""},
		"a port":                                  {func(c *attache.OAuthClient) { c.TokenURL = "https://example.com:8443/token" }, ""},
		"a device URL in place of another":        {func(c *attache.OAuthClient) { c.AuthURL, c.Provider.DeviceURL = "", "https://example.com/device" }, ""},

		"a subdomain as the host":                  {func(c *attache.OAuthClient) { c.TokenURL = "https://{subdomain}/" }, "token_url"},
		"a subdomain below a public suffix":        {func(c *attache.OAuthClient) { c.TokenURL = "https://{subdomain}.com/" }, "token_url"},
		"a subdomain below a longer public suffix": {func(c *attache.OAuthClient) { c.TokenURL = "https://{subdomain}.co.uk/" }, "token_url"},
		"a subdomain as the top level":             {func(c *attache.OAuthClient) { c.TokenURL = "https://example.{subdomain}/" }, "token_url"},
		"a subdomain as part of the domain":        {func(c *attache.OAuthClient) { c.TokenURL = "https://my{subdomain}.example/" }, "token_url"},
		"a subdomain as the port":                  {func(c *attache.OAuthClient) { c.TokenURL = "https://example.com:{subdomain}/" }, "token_url"},
		"a subdomain as the user":                  {func(c *attache.OAuthClient) { c.TokenURL = "https://{subdomain}@example.com/" }, "token_url"},
		"a subdomain as the scheme":                {func(c *attache.OAuthClient) { c.TokenURL = "{subdomain}://example.com/" }, "token_url"},
		"a template of another name":               {func(c *attache.OAuthClient) { c.TokenURL = "https://{tenant}.example.com/" }, "token_url"},
		"plain http":                               {func(c *attache.OAuthClient) { c.TokenURL = "http://example.com/token" }, "token_url"},
		"plain http to loopback":                   {func(c *attache.OAuthClient) { c.TokenURL = "http://127.0.0.1/token" }, "token_url"},
		"no scheme":                                {func(c *attache.OAuthClient) { c.TokenURL = "example.com/token" }, "token_url"},
		"no host":                                  {func(c *attache.OAuthClient) { c.TokenURL = "https:///token" }, "token_url"},
		"no token URL":                             {func(c *attache.OAuthClient) { c.TokenURL = "" }, "token_url"},
		"a password":                               {func(c *attache.OAuthClient) { c.AuthURL = "https://u:p@example.com/" }, "auth_url"},
		"a fragment":                               {func(c *attache.OAuthClient) { c.AuthURL = "https://example.com/#x" }, "auth_url"},
		"no authorization URL":                     {func(c *attache.OAuthClient) { c.AuthURL = "" }, "auth_url"},
		"an authorization URL that nobody goes to": {func(c *attache.OAuthClient) { c.GrantType = attache.ClientCredentials }, "auth_url"},
		"a revocation URL without https":           {func(c *attache.OAuthClient) { c.Provider.RevocationURL = "http://example.com" }, "revocation_url"},
		"a refresh URL without https":              {func(c *attache.OAuthClient) { c.Provider.RefreshURL = "ftp://example.com" }, "refresh_url"},
		"a device URL without https":               {func(c *attache.OAuthClient) { c.Provider.DeviceURL = "http://example.com" }, "device_url"},
		"no client id":                             {func(c *attache.OAuthClient) { c.ClientID = "" }, "client_id"},
		"a grant type of another kind":             {func(c *attache.OAuthClient) { c.GrantType = "password" }, "grant_type"},
		"an authentication of another kind":        {func(c *attache.OAuthClient) { c.Provider.ClientAuth = "digest" }, "client_auth"},
		"basic without a secret":                   {func(c *attache.OAuthClient) { c.ClientSecret, c.Provider.ClientAuth = secret.Text{}, "basic" }, "client_secret"},
		"client credentials of nobody":             {func(c *attache.OAuthClient) { credentials(c); c.ClientSecret = secret.Text{} }, "client_auth"},
		"a private key that is missing":            {func(c *attache.OAuthClient) { c.Provider.ClientAuth = "private_key_jwt" }, "private_key"},
		"a private key that is none": {func(c *attache.OAuthClient) {
			c.Provider.ClientAuth, c.Provider.PrivateKey = "private_key_jwt", secret.New(canary)
		}, "private_key"},
		"a private key for nothing":                 {func(c *attache.OAuthClient) { c.Provider.PrivateKey = secret.New(canary) }, "private_key"},
		"a certificate that is none":                {func(c *attache.OAuthClient) { c.Provider.Certificate = secret.New(canary) }, "certificate"},
		"a state of one's own":                      {func(c *attache.OAuthClient) { c.Provider.AuthParams = map[string]string{"state": "x"} }, "auth_params"},
		"a refresh token of one's own":              {func(c *attache.OAuthClient) { c.Provider.TokenParams = map[string]string{"refresh_token": "x"} }, "token_params"},
		"an Authorization of one's own":             {func(c *attache.OAuthClient) { c.Provider.TokenHeaders = map[string]string{"authorization": "x"} }, "token_headers"},
		"a header with a line break":                {func(c *attache.OAuthClient) { c.Provider.TokenHeaders = map[string]string{"X": "a\r\nHost: b"} }, "token_headers"},
		"a header whose name is none":               {func(c *attache.OAuthClient) { c.Provider.TokenHeaders = map[string]string{"X Y": "a"} }, "token_headers"},
		"an escape of the terminal in the URL":      {func(c *attache.OAuthClient) { c.AuthURL = "https://example.com/\u202e" }, "auth_url"},
		"a host that a subdomain would take beyond": {func(c *attache.OAuthClient) { c.TokenURL = "https://{subdomain}.{subdomain}.com/" }, "token_url"},
	} {
		t.Run(sentence, func(t *testing.T) {
			err := endpoint.CheckClient(client(c.change))
			var field *attache.FieldError
			switch {
			case c.field == "" && err != nil:
				t.Errorf("it is refused: %v", err)
			case c.field != "" && (!errors.As(err, &field) || field.Field != c.field || field.Remedy == ""):
				t.Errorf("%v, want an error about %s", err, c.field)
			case err != nil && strings.Contains(err.Error(), canary):
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestPlainHTTPToLoopbackHasToBeAllowed(t *testing.T) {
	endpoint := oauth.NewEndpoint(oauth.EndpointOptions{PlainLoopback: true})
	for url, ok := range map[string]bool{
		"http://127.0.0.1:8080/token": true, "http://[::1]/token": true, "http://localhost/token": true,
		"http://example.com/token": false, "http://127.0.0.1.example.com/": false, "http://10.0.0.1/": false, "http://0.0.0.0/": false,
	} {
		err := endpoint.CheckClient(client(func(c *attache.OAuthClient) { c.TokenURL = url }))
		if (err == nil) != ok {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestASubdomainIsOneLabel(t *testing.T) {
	for s, want := range map[string]string{
		"acme": "acme", "ACME-2": "acme-2", "a": "a", strings.Repeat("a", 63): strings.Repeat("a", 63),
		"": "", "a.b": "", "-a": "", "a-": "", "a_b": "", "a/b": "", "a@b": "", "a:1": "", "a?": "", "a#": "", "a%2eb": "", "ä": "", "a b": "", "a\n": "",
		"{subdomain}": "", strings.Repeat("a", 64): "", "a\\b": "", "\u212a": "", // the Kelvin sign, a k in lower case
	} {
		got, err := oauth.ParseSubdomain(s)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q becomes %q, %v", s, got, err)
		}
	}
}

func TestAConnectionNeedsItsSubdomain(t *testing.T) {
	endpoint := oauth.NewEndpoint(oauth.EndpointOptions{})
	c := client(func(c *attache.OAuthClient) { c.TokenURL = "https://{subdomain}.example.com/" })
	for _, subdomain := range []string{"", "a.b", "evil.com/", "evil.com#"} {
		var field *attache.FieldError
		if _, err := endpoint.Client(c, subdomain); !errors.As(err, &field) || field.Field != "oauth_url_subdomain" {
			t.Errorf("%q: %v", subdomain, err)
		}
	}
	if _, err := endpoint.Client(client(), ""); err != nil {
		t.Errorf("without a template: %v", err)
	}
}

func TestEveryCodeOfOursIsExplained(t *testing.T) {
	for _, code := range []string{oauth.CodeInterrupted, oauth.CodeNoRefreshToken, oauth.CodeScopeTooLong, oauth.CodeTokenType, oauth.CodeClientMissing,
		oauth.CodeClientInvalid, oauth.CodeNotAuthorized, oauth.CodeTokenRefused, oauth.CodeIssuerMismatch, "invalid_grant", "invalid_client"} {
		err := &oauth.StateError{State: attache.GrantNeedsReauth, Code: code, RetryAt: time.Time{}}
		if oauth.Advice(code) == "" || !strings.Contains(err.Error(), oauth.Advice(code)) || !strings.Contains(err.Error(), code) {
			t.Errorf("%s is not explained: %v", code, err)
		}
	}
}
