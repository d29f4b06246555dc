package oauth

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"attache"
)

// Metadata is what an issuer says about itself (RFC 8414, OpenID Connect
// Discovery), as far as a registration needs it. URLs are checked; what is
// missing is empty.
type Metadata struct {
	Issuer        string
	AuthURL       string
	TokenURL      string
	RevocationURL string
	DeviceURL     string
	ClientAuths   []attache.ClientAuth // supported at the token endpoint; nil: not stated
}

// Discover asks an issuer for its metadata, at the place of RFC 8414 and then at
// that of OpenID Connect.
func (e *Endpoint) Discover(ctx context.Context, issuer string) (Metadata, error) {
	if strings.Contains(issuer, template) {
		return Metadata{}, refuse("issuer", "has {subdomain} in it, and cannot be asked", "give the URLs instead")
	}
	issuer, err := e.fill("issuer", issuer, "")
	if err != nil {
		return Metadata{}, err
	}
	u, err := url.Parse(issuer)
	if err != nil || u.RawQuery != "" || issuer == "" {
		return Metadata{}, refuse("issuer", "is not a URL without a query", "write https://HOST/PATH")
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	origin := u.Scheme + "://" + u.Host
	var failed error
	for _, at := range []string{
		origin + "/.well-known/oauth-authorization-server" + path,
		origin + path + "/.well-known/openid-configuration",
	} {
		m, err := e.discoverAt(ctx, issuer, at)
		if err == nil {
			return m, nil
		}
		failed = err
	}
	return Metadata{}, failed
}

func (e *Endpoint) discoverAt(ctx context.Context, issuer, at string) (Metadata, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return Metadata{}, refuse("issuer", "is not a URL", "write https://HOST/PATH")
	}
	a, err := e.send(req, nil)
	if err != nil {
		return Metadata{}, err
	}
	f, err := parseFields(a)
	if failed := failure(a, f, nil); failed != nil {
		return Metadata{}, failed
	}
	if err != nil {
		return Metadata{}, &Error{Kind: Malformed, Code: CodeMalformed, Status: a.status}
	}
	if f.text("issuer") != issuer {
		return Metadata{}, &Error{Kind: Malformed, Code: CodeIssuerMismatch, Status: a.status}
	}
	m := Metadata{Issuer: issuer}
	for name, to := range map[string]*string{
		"authorization_endpoint":        &m.AuthURL,
		"token_endpoint":                &m.TokenURL,
		"revocation_endpoint":           &m.RevocationURL,
		"device_authorization_endpoint": &m.DeviceURL,
	} {
		if *to, err = e.fill(name, f.text(name), ""); err != nil {
			return Metadata{}, err
		}
	}
	if m.TokenURL == "" {
		return Metadata{}, &Error{Kind: Malformed, Code: CodeMalformed, Status: a.status}
	}
	m.ClientAuths = clientAuths(f)
	return m, nil
}

func clientAuths(f fields) []attache.ClientAuth {
	var names []string
	if err := json.Unmarshal(f["token_endpoint_auth_methods_supported"], &names); err != nil {
		return nil
	}
	var all []attache.ClientAuth
	for _, name := range names {
		switch name {
		case "client_secret_basic":
			all = append(all, attache.ClientAuthBasic)
		case "client_secret_post":
			all = append(all, attache.ClientAuthPost)
		case "none":
			all = append(all, attache.ClientAuthNone)
		case "private_key_jwt":
			all = append(all, attache.ClientAuthPrivateKeyJWT)
		}
	}
	return all
}

// Fill sets what a registration leaves empty.
func (m Metadata) Fill(c *attache.OAuthClient) {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&c.Provider.Issuer, m.Issuer)
	set(&c.TokenURL, m.TokenURL)
	set(&c.Provider.RevocationURL, m.RevocationURL)
	if c.GrantType == attache.AuthorizationCode {
		set(&c.AuthURL, m.AuthURL)
		set(&c.Provider.DeviceURL, m.DeviceURL)
	}
	basic := slices.Contains(m.ClientAuths, attache.ClientAuthBasic)
	if c.Provider.ClientAuth == "" && !c.ClientSecret.IsZero() && !basic && slices.Contains(m.ClientAuths, attache.ClientAuthPost) {
		c.Provider.ClientAuth = attache.ClientAuthPost
	}
}
