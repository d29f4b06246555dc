package oauth

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	"attache"
	"attache/secret"
)

// newVerifier makes a code verifier (RFC 7636, section 4.1), or none where the
// provider fails on them.
func (c *Client) newVerifier() secret.Text {
	if c.registration.Provider.NoPKCE {
		return secret.Text{}
	}
	return secret.New(oauth2.GenerateVerifier())
}

// AuthorizationURL is where a person is sent to authorize a connection (RFC
// 6749, section 4.1.1). redirect is the callback URL that is registered; a zero
// verifier means no PKCE.
func (c *Client) AuthorizationURL(scope, redirect, state string, verifier secret.Text) string {
	r := c.registration
	config := oauth2.Config{
		ClientID:    r.ClientID,
		Endpoint:    oauth2.Endpoint{AuthURL: r.AuthURL},
		RedirectURL: redirect,
	}
	if scope = c.scope(scope); scope != "" {
		config.Scopes = []string{scope} // joined already
	}
	var options []oauth2.AuthCodeOption
	for name, value := range map[string]string{"audience": r.Provider.Audience, "resource": r.Provider.Resource} {
		if value != "" {
			options = append(options, oauth2.SetAuthURLParam(name, value))
		}
	}
	for name, value := range r.Provider.AuthParams {
		options = append(options, oauth2.SetAuthURLParam(name, value))
	}
	if !verifier.IsZero() {
		options = append(options, oauth2.S256ChallengeOption(verifier.Expose()))
	}
	return config.AuthCodeURL(state, options...)
}

// Exchange redeems an authorization code (RFC 6749, section 4.1.3). redirect and
// verifier are those of the authorization URL.
func (c *Client) Exchange(ctx context.Context, code secret.Text, redirect string, verifier secret.Text) (Token, error) {
	v := url.Values{"grant_type": {"authorization_code"}, "code": {code.Expose()}, "redirect_uri": {redirect}}
	if !verifier.IsZero() {
		v.Set("code_verifier", verifier.Expose())
	}
	return c.askToken(ctx, c.registration.TokenURL, v)
}

// Refresh spends a refresh token (RFC 6749, section 6). With an error, the Token
// may still hold the refresh token that comes next.
func (c *Client) Refresh(ctx context.Context, refresh secret.Text) (Token, error) {
	to := c.registration.Provider.RefreshURL
	if to == "" {
		to = c.registration.TokenURL
	}
	return c.askToken(ctx, to, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh.Expose()}})
}

// Credentials gets a token for the client itself (RFC 6749, section 4.4). An
// empty scope means the client's default scopes.
func (c *Client) Credentials(ctx context.Context, scope string) (Token, error) {
	v := url.Values{"grant_type": {"client_credentials"}}
	if scope = c.scope(scope); scope != "" {
		v.Set("scope", scope)
	}
	return c.askToken(ctx, c.registration.TokenURL, v)
}

// Revoke tells the provider that a token is no longer used (RFC 7009). Without a
// revocation URL there is nothing to do.
func (c *Client) Revoke(ctx context.Context, token secret.Text) error {
	to := c.registration.Provider.RevocationURL
	if to == "" || token.IsZero() {
		return nil
	}
	v := url.Values{"token": {token.Expose()}}
	a, sent, err := c.post(ctx, to, v)
	if err != nil {
		return err
	}
	if a.status < 300 && a.status >= 200 {
		return nil // with any body, or none
	}
	f, _ := parseFields(a)
	return failure(a, f, sent)
}

func (c *Client) askToken(ctx context.Context, to string, v url.Values) (Token, error) {
	p := c.registration.Provider
	for name, value := range map[string]string{"audience": p.Audience, "resource": p.Resource} {
		if value != "" {
			v.Set(name, value)
		}
	}
	for name, value := range p.TokenParams {
		v.Set(name, value)
	}
	a, sent, err := c.post(ctx, to, v)
	if err != nil {
		return Token{}, err
	}
	return parseToken(a, sent)
}

// post sends parameters with the client's authentication. It returns which
// secrets were among them.
func (c *Client) post(ctx context.Context, to string, v url.Values) (a answer, sent []string, err error) {
	if err := c.authenticate(v); err != nil {
		return answer{}, nil, err
	}
	body, kind := strings.NewReader(v.Encode()), "application/x-www-form-urlencoded"
	if c.registration.Provider.JSONBody {
		object := map[string]string{}
		for name := range v {
			object[name] = v.Get(name)
		}
		var b bytes.Buffer
		if err := json.NewEncoder(&b).Encode(object); err != nil {
			return answer{}, nil, err
		}
		body, kind = strings.NewReader(b.String()), "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, body)
	if err != nil {
		return answer{}, nil, &Error{Kind: ClientRefused, Code: CodeClientInvalid, Unsent: true}
	}
	for name, value := range c.registration.Provider.TokenHeaders {
		req.Header.Set(name, value)
	}
	req.Header.Set("Content-Type", kind)
	if c.registration.Provider.ClientAuth == attache.ClientAuthBasic {
		// Encoded, then joined: RFC 6749, section 2.3.1.
		req.SetBasicAuth(url.QueryEscape(c.registration.ClientID), url.QueryEscape(c.registration.ClientSecret.Expose()))
	}
	a, err = c.endpoint.send(req, c.certificate)
	return a, c.secretsOf(v), err
}

// authenticate adds what proves the client in the body.
func (c *Client) authenticate(v url.Values) error {
	switch c.registration.Provider.ClientAuth {
	case attache.ClientAuthPost:
		v.Set("client_secret", c.registration.ClientSecret.Expose())
		v.Set("client_id", c.registration.ClientID)
	case attache.ClientAuthNone:
		v.Set("client_id", c.registration.ClientID)
	case attache.ClientAuthPrivateKeyJWT:
		assertion, err := c.assertion(rand.Text())
		if err != nil {
			return &Error{Kind: ClientRefused, Code: CodeClientInvalid, Unsent: true}
		}
		v.Set("client_id", c.registration.ClientID)
		v.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		v.Set("client_assertion", assertion)
	}
	return nil
}

// secretsOf lists the secrets that a request with these parameters held.
func (c *Client) secretsOf(v url.Values) []string {
	all := []string{}
	for _, name := range []string{"code", "code_verifier", "refresh_token", "device_code", "token", "client_assertion"} {
		if value := v.Get(name); value != "" {
			all = append(all, value)
		}
	}
	if s := c.registration.ClientSecret; !s.IsZero() {
		all = append(all, s.Expose())
	}
	return all
}
