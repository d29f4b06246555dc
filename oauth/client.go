package oauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/publicsuffix"

	"attache"
)

// template is what a connection's subdomain takes the place of in URLs.
const template = "{subdomain}"

// Client is an OAuth client as one connection uses it: its URLs are filled in
// and checked, its keys are read. It may be used by several goroutines.
type Client struct {
	endpoint     *Endpoint
	registration attache.OAuthClient // URLs filled in
	key          crypto.Signer       // with private_key_jwt
	certificate  *tls.Certificate    // nil: none
}

// Client checks a registration and fills a connection's subdomain into its URLs.
// What is wrong is an [attache.FieldError].
func (e *Endpoint) Client(c attache.OAuthClient, subdomain string) (*Client, error) {
	p := &c.Provider
	if subdomain != "" {
		var err error
		if subdomain, err = ParseSubdomain(subdomain); err != nil {
			return nil, err
		}
	}
	for _, u := range []struct {
		field string
		url   *string
	}{
		{"auth_url", &c.AuthURL},
		{"token_url", &c.TokenURL},
		{"refresh_url", &p.RefreshURL},
		{"revocation_url", &p.RevocationURL},
		{"device_url", &p.DeviceURL},
		{"issuer", &p.Issuer},
	} {
		var err error
		if *u.url, err = e.fill(u.field, *u.url, subdomain); err != nil {
			return nil, err
		}
	}
	if p.ClientAuth == "" {
		p.ClientAuth = attache.ClientAuthBasic
		if c.ClientSecret.IsZero() {
			p.ClientAuth = attache.ClientAuthNone
		}
	}
	for _, check := range []func(*attache.OAuthClient) error{checkGrantType, checkAuthentication, checkParameters} {
		if err := check(&c); err != nil {
			return nil, err
		}
	}
	client := &Client{endpoint: e, registration: c}
	return client, client.readKeys()
}

// CheckClient checks a registration as [Endpoint.Client] does, without a
// connection that uses it.
func (e *Endpoint) CheckClient(c attache.OAuthClient) error {
	_, err := e.Client(c, "subdomain")
	return err
}

// ParseSubdomain accepts one DNS label, for {subdomain} (rule O5), and returns it
// in lower case.
func ParseSubdomain(s string) (string, error) {
	strange := strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
	})
	if s == "" || len(s) > 63 || strange || s[0] == '-' || s[len(s)-1] == '-' {
		return "", refuse("oauth_url_subdomain", "is not one label of a domain name", "use 1 to 63 letters, digits and hyphens, such as acme")
	}
	return strings.ToLower(s), nil
}

// fill puts the subdomain into a URL and checks what comes out. A label cannot
// hold a character that structures a URL, so it cannot leave its place; and the
// place is checked not to decide whose host it is.
func (e *Endpoint) fill(field, text, subdomain string) (string, error) {
	if text == "" {
		return "", nil
	}
	if strings.Contains(text, template) {
		if subdomain == "" {
			return "", refuse("oauth_url_subdomain", "is needed by the "+field+" of the OAuth client", "give the connection a subdomain")
		}
		const marker = "subdomain-template"
		marked, err := url.Parse(strings.ReplaceAll(text, template, marker))
		if err != nil || marked.Scheme == marker || ownsHost(marked.Hostname(), marker) {
			return "", refuse(field, "lets {subdomain} choose whose host it is", "put it in front of a domain, such as https://{subdomain}.example.com")
		}
		text = strings.ReplaceAll(text, template, subdomain)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || strings.ContainsAny(text, "{}") || printable(text) != text:
		return "", refuse(field, "is not a URL", "write https://HOST/PATH")
	case u.User != nil || u.Fragment != "":
		return "", refuse(field, "has a user name, a password or a fragment", "leave them out")
	case u.Scheme == "https":
		return text, nil
	case u.Scheme == "http" && e.options.PlainLoopback && isLoopback(u.Hostname()):
		return text, nil
	}
	return "", refuse(field, "is not https", "write https://HOST/PATH")
}

// ownsHost tells whether the label is part of what somebody registers: of
// example.com, but not in front of it, nor in front of a suffix that a company
// hands out names below.
func ownsHost(host, label string) bool {
	if !strings.Contains(host, label) {
		return false
	}
	if suffix, icann := publicsuffix.PublicSuffix(host); !icann && strings.Contains(suffix, ".") && !strings.Contains(suffix, label) {
		return false
	}
	registered, err := publicsuffix.EffectiveTLDPlusOne(host)
	return err != nil || strings.Contains(registered, label)
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func checkGrantType(c *attache.OAuthClient) error {
	switch {
	case c.ClientID == "":
		return refuse("client_id", "is empty", "take it from the provider's page of the client")
	case c.TokenURL == "":
		return refuse("token_url", "is empty", "take it from the provider's documentation")
	}
	switch c.GrantType {
	case attache.AuthorizationCode:
		if c.AuthURL == "" && c.Provider.DeviceURL == "" {
			return refuse("auth_url", "is empty", "take it from the provider's documentation")
		}
	case attache.ClientCredentials:
		if c.AuthURL != "" {
			return refuse("auth_url", "is not used by the grant type client_credentials", "leave it out")
		}
	default:
		return refuse("grant_type", "is not authorization_code or client_credentials", "use one of them")
	}
	return nil
}

func checkAuthentication(c *attache.OAuthClient) error {
	hasKey := !c.Provider.PrivateKey.IsZero()
	switch c.Provider.ClientAuth {
	case attache.ClientAuthBasic, attache.ClientAuthPost:
		if c.ClientSecret.IsZero() {
			return refuse("client_secret", "is empty", "give it, or use the client_auth none")
		}
	case attache.ClientAuthNone:
		if c.GrantType == attache.ClientCredentials && c.Provider.Certificate.IsZero() {
			return refuse("client_auth", "is none, and client_credentials without a credential are nobody's", "give a client secret, a private key or a certificate")
		}
	case attache.ClientAuthPrivateKeyJWT:
		if !hasKey {
			return refuse("private_key", "is empty", "give a private key in PKCS #8 and PEM")
		}
		return nil
	default:
		return refuse("client_auth", "is not basic, post, none or private_key_jwt", "use one of them")
	}
	if hasKey {
		return refuse("private_key", "is used by the client_auth private_key_jwt alone", "leave it out")
	}
	return nil
}

// Parameters that are ours to set.
var (
	ownAuthParams  = []string{"response_type", "client_id", "redirect_uri", "state", "code_challenge", "code_challenge_method"}
	ownTokenParams = []string{
		"grant_type", "code", "redirect_uri", "code_verifier", "refresh_token", "device_code", "token",
		"client_id", "client_secret", "client_assertion", "client_assertion_type",
	}
	ownHeaders = []string{
		"authorization", "host", "content-length", "content-type", "transfer-encoding", "connection",
		"te", "trailer", "upgrade", "expect", "accept", "accept-encoding", "proxy-authorization",
	}
)

func checkParameters(c *attache.OAuthClient) error {
	p := c.Provider
	for name := range p.AuthParams {
		if name == "" || slices.Contains(ownAuthParams, name) {
			return refuse("auth_params", "sets a parameter that is ours", "leave it out")
		}
	}
	for name := range p.TokenParams {
		if name == "" || slices.Contains(ownTokenParams, name) {
			return refuse("token_params", "sets a parameter that is ours", "leave it out")
		}
	}
	for name, value := range p.TokenHeaders {
		if slices.Contains(ownHeaders, strings.ToLower(name)) {
			return refuse("token_headers", "sets a header that is ours", "leave it out")
		}
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return refuse("token_headers", "is not a header", "use a name of letters, digits and hyphens, and a value on one line")
		}
	}
	return nil
}

// readKeys reads the private key and the client certificate.
func (c *Client) readKeys() error {
	p := c.registration.Provider
	if p.ClientAuth == attache.ClientAuthPrivateKeyJWT {
		key, err := p.PrivateKey.PrivateKey()
		if err != nil {
			return refuse("private_key", "is not a private key in PKCS #8 and PEM", "give one")
		}
		if algorithm(key) == "" {
			return refuse("private_key", "is neither RSA of at least 2048 bits, EC on P-256 nor Ed25519", "make another key")
		}
		c.key = key
	}
	if !p.Certificate.IsZero() {
		pem := []byte(p.Certificate.Expose())
		certificate, err := tls.X509KeyPair(pem, pem)
		if err != nil {
			return refuse("certificate", "is not a certificate with its key", "give the chain and the private key in PEM, one after the other")
		}
		c.certificate = &certificate
	}
	return nil
}

// algorithm names how a key signs (RFC 7518, section 3.1; RFC 8037), or is empty.
func algorithm(key crypto.Signer) string {
	switch public := key.Public().(type) {
	case *ecdsa.PublicKey:
		if public.Params().BitSize == 256 {
			return "ES256"
		}
	case *rsa.PublicKey:
		if public.Size() >= 256 {
			return "RS256"
		}
	case ed25519.PublicKey:
		return "EdDSA"
	}
	return ""
}

// hostOf is the host where an OAuth client's tokens come from. It is for telling
// providers apart, so it is the same for all subdomains, and checks nothing.
func hostOf(tokenURL string) string {
	u, err := url.Parse(strings.ReplaceAll(tokenURL, template, "any"))
	if err != nil {
		return ""
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), u.Port())
}

// scope joins the words of what a connection asks for, or of the client's
// default scopes, as the provider wants them.
func (c *Client) scope(asked string) string {
	if asked == "" {
		asked = c.registration.DefaultScopes
	}
	separator := c.registration.Provider.ScopeSeparator
	if separator == "" {
		separator = " "
	}
	return strings.Join(strings.Fields(asked), separator)
}

func refuse(field, rule, remedy string) error {
	return &attache.FieldError{Field: field, Rule: rule, Remedy: remedy}
}
