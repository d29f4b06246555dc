package policy

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"attache"
)

const (
	maxClientID  = 1024 // bytes
	maxScope     = 255
	maxParams    = 32
	maxParamName = 128
	maxParam     = 1024 // bytes of a value
	minRSA       = 2048 // bits (RFC 7518, section 3.3)

	minKeepalive, maxKeepalive = time.Hour, 365 * 24 * time.Hour

	isEmpty  = "is empty"
	leaveOut = "leave it out"
)

// CheckOAuthClient is the one validator of an OAuth client that is about to be
// created or has got another client id or secret, and brings it to canonical form
// in place. What discovery finds, the caller fills in before. That the
// integration exists and the name is free, only the store can know.
//
// The error joins one [attache.FieldError] for each thing that is wrong.
func CheckOAuthClient(c *attache.OAuthClient) error {
	var errs faults
	_, err := ParseName("name", c.Name)
	errs.note(err)
	if c.GrantType != attache.AuthorizationCode && c.GrantType != attache.ClientCredentials {
		errs.note(refuse("grant_type", "must be authorization_code or client_credentials", ""))
	}
	errs.note(checkClientID(c.ClientID))
	checkClientAuth(c, &errs)
	checkEndpoints(c, &errs)
	c.DefaultScopes, err = parseScope("default_scopes", c.DefaultScopes)
	errs.note(err)
	checkRequests(&c.Provider, &errs)
	return errors.Join(errs...)
}

func checkClientID(id string) error {
	const field = "client_id"
	switch {
	case id == "":
		return refuse(field, isEmpty, "give the one that the provider has assigned")
	case len(id) > maxClientID:
		return refuse(field, "is longer than 1024 characters", "")
	}
	return checkPrintable(field, id)
}

// checkPrintable is for client ids and secrets (RFC 6749, appendices A.1 and A.2).
func checkPrintable(field, v string) error {
	if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || '~' < r }) {
		return refuse(field, "has a character other than printable ASCII, such as a line break", "")
	}
	return nil
}

// checkClientAuth holds what a client proves itself with against the way in which
// it does. What would never be sent is not stored either.
func checkClientAuth(c *attache.OAuthClient, errs *faults) {
	p := &c.Provider
	needsSecret, needsKey := false, false
	switch p.ClientAuth {
	case "", attache.ClientAuthBasic, attache.ClientAuthPost:
		needsSecret = true
	case attache.ClientAuthPrivateKeyJWT:
		needsKey = true
	case attache.ClientAuthNone:
		if c.GrantType == attache.ClientCredentials && p.Certificate.IsZero() {
			errs.note(refuse("client_auth", "is none, and a client without credentials gets no token by client_credentials",
				"use another client_auth, or give a certificate"))
		}
	default:
		errs.note(refuse("client_auth", "must be basic, post, none or private_key_jwt", ""))
		return
	}
	switch {
	case needsSecret && c.ClientSecret.IsZero():
		errs.note(refuse("client_secret", isEmpty, "give it, or say client_auth none for a public client"))
	case !needsSecret && !c.ClientSecret.IsZero():
		errs.note(refuse("client_secret", "is not used with this client_auth", leaveOut))
	case c.ClientSecret.Len() > maxCredential:
		errs.note(refuse("client_secret", "is longer than 16 KiB", ""))
	default:
		errs.note(c.ClientSecret.Check(func(v string) error { return checkPrintable("client_secret", v) }))
	}
	switch {
	case needsKey:
		errs.note(checkPrivateKey(p))
	case !p.PrivateKey.IsZero():
		errs.note(refuse("private_key", "is only for client_auth private_key_jwt", leaveOut))
	}
	errs.note(checkCertificate(p))
}

func checkPrivateKey(p *attache.Provider) error {
	const field, remedy = "private_key", "`openssl pkcs8 -topk8 -nocrypt` makes one of most other forms"
	if p.PrivateKey.Len() > maxCredential {
		return refuse(field, "is longer than 16 KiB", "")
	}
	if p.PrivateKey.IsZero() {
		return refuse(field, isEmpty, "give a private key in PKCS #8 and PEM")
	}
	key, err := p.PrivateKey.PrivateKey()
	if err != nil {
		return refuse(field, "is not a private key in PKCS #8 and PEM", remedy)
	}
	switch key := key.(type) {
	case ed25519.PrivateKey:
		return nil
	case *ecdsa.PrivateKey:
		if key.Curve == elliptic.P256() {
			return nil
		}
	case *rsa.PrivateKey:
		if key.N.BitLen() >= minRSA {
			return nil
		}
	}
	return refuse(field, "is neither RSA of at least 2048 bits, EC on P-256 nor Ed25519", "make another key")
}

func checkCertificate(p *attache.Provider) error {
	const field = "certificate"
	if p.Certificate.IsZero() {
		return nil
	}
	if p.Certificate.Len() > maxCredential {
		return refuse(field, "is longer than 16 KiB", "")
	}
	return p.Certificate.Check(func(v string) error {
		if _, err := tls.X509KeyPair([]byte(v), []byte(v)); err != nil {
			return refuse(field, "is not a certificate chain and its private key in PEM", "put one behind the other, the certificate first")
		}
		return nil
	})
}

// checkEndpoints checks the URLs, and brings those that are only sent to into
// canonical form. The issuer stays as it is: it is compared as text.
func checkEndpoints(c *attache.OAuthClient, errs *faults) {
	p := &c.Provider
	for _, e := range []struct {
		field     string
		url       *string
		needed    bool
		forPeople bool // of no use where nobody authorizes
	}{
		{"auth_url", &c.AuthURL, c.GrantType == attache.AuthorizationCode, true},
		{"token_url", &c.TokenURL, true, false},
		{"refresh_url", &p.RefreshURL, false, true},
		{"revocation_url", &p.RevocationURL, false, false},
		{"device_url", &p.DeviceURL, false, true},
	} {
		switch {
		case *e.url == "" && e.needed:
			errs.note(refuse(e.field, isEmpty, urlFix))
		case *e.url == "":
		case e.forPeople && c.GrantType == attache.ClientCredentials:
			errs.note(refuse(e.field, "is only for the grant type authorization_code", leaveOut))
		default:
			parsed, err := parseEndpoint(e.field, *e.url)
			if err == nil {
				*e.url = parsed.text
				err = checkParams(e.field, queryNames(parsed.query))
			}
			errs.note(err)
		}
	}
	if p.Issuer == "" {
		return
	}
	_, err := parseEndpoint("issuer", p.Issuer)
	if err == nil && strings.Contains(p.Issuer, "?") {
		err = refuse("issuer", "has a query", leaveOut)
	}
	errs.note(err)
}

// queryNames are the parameters that a URL has already.
func queryNames(q url.Values) map[string]string {
	names := make(map[string]string, len(q))
	for name := range q {
		names[name] = ""
	}
	return names
}

// checkRequests checks what a provider wants in the requests, or how.
func checkRequests(p *attache.Provider, errs *faults) {
	if !slices.Contains([]string{"", " ", ",", "+", ";", "|"}, p.ScopeSeparator) {
		errs.note(refuse("scope_separator", "must be a space or one of , + ; |", ""))
	}
	errs.note(checkParams("auth_params", p.AuthParams))
	errs.note(checkParams("token_params", p.TokenParams))
	errs.note(checkTokenHeaders(p.TokenHeaders))
	errs.note(checkParam("audience", p.Audience))
	if p.Resource != "" {
		// RFC 8707, section 2.
		u, err := url.Parse(p.Resource)
		if err != nil || len(p.Resource) > maxURL || !u.IsAbs() || strings.Contains(p.Resource, "#") {
			errs.note(refuse("resource", "is not an absolute URI without a fragment", "write it as the provider documents it"))
		}
	}
	if k := p.Keepalive; k != 0 && (k < minKeepalive || k > maxKeepalive) {
		errs.note(refuse("keepalive", "must be from 1 hour to 365 days", "leave it out for 7 days"))
	}
}

// parseScope accepts scopes of RFC 6749's characters (section 3.3), and parts
// them by one space. There may be none.
func parseScope(field, s string) (string, error) {
	const remedy = "give the scopes that the provider documents, separated by spaces"
	scope := strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' }), " ")
	if len(scope) > maxScope {
		return s, refuse(field, "is longer than 255 characters", "ask for fewer scopes")
	}
	if strings.ContainsFunc(scope, func(r rune) bool { return r < ' ' || '~' < r || r == '"' || r == '\\' }) {
		return s, refuse(field, "has a character that no scope has", remedy)
	}
	return scope, nil
}

// protocolParams are set by the protocol, or have a field of their own. A second
// one would at best be refused by the provider, and at worst change what is asked.
var protocolParams = []string{
	"access_token", "assertion", "audience", "client_assertion", "client_assertion_type", "client_id",
	"client_secret", "code", "code_challenge", "code_challenge_method", "code_verifier", "device_code",
	"grant_type", "password", "redirect_uri", "refresh_token", "request", "request_uri", "resource",
	"response_type", "scope", "state", "token", "username",
}

// checkParams checks parameters that are added to a request.
func checkParams(field string, params map[string]string) error {
	if len(params) > maxParams {
		return refuse(field, "has more than 32 parameters", "")
	}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		// RFC 6749, appendix A, calls these name-char; brackets are in use as well.
		if name == "" || len(name) > maxParamName || strings.ContainsFunc(name, notInParam) {
			return refuse(field, "has a parameter whose name is not 1 to 128 characters of letters, digits and - . _ [ ] :", "")
		}
		if lower := strings.ToLower(name); slices.Contains(protocolParams, lower) {
			return refuse(field, "has the parameter "+lower+", which the protocol sets itself or which has a field of its own", leaveOut)
		}
		if err := checkParam(field, params[name]); err != nil {
			return err
		}
	}
	return nil
}

func notInParam(r rune) bool { return !isAlphanumeric(r) && !strings.ContainsRune("-._[]:", r) }

func checkParam(field, v string) error {
	switch {
	case len(v) > maxParam:
		return refuse(field, "has a value longer than 1024 bytes", "")
	case !utf8.ValidString(v) || strings.ContainsFunc(v, unicode.IsControl):
		return refuse(field, "has a value with a control character, such as a line break, or that is not UTF-8", "")
	}
	return nil
}

// transportHeaders are those that nobody but the HTTP client may set in a token
// request, beside [framingHeaders]: hop by hop (RFC 9110, section 7.6.1), or
// about how the bytes travel.
var transportHeaders = []string{
	"accept-encoding", "connection", "expect", "host", "proxy-authenticate", "proxy-authorization", "te",
	"trailer", "transfer-encoding", "upgrade",
}

// checkTokenHeaders checks headers that are added to token requests. They are
// shown, so they must not carry a credential.
func checkTokenHeaders(headers map[string]string) error {
	const field = "token_headers"
	if len(headers) > maxParams {
		return refuse(field, "has more than 32 headers", "")
	}
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		lower, v := strings.ToLower(name), headers[name]
		form, _ := fold(name)
		_, credential := known[form]
		switch {
		case len(name) > maxHeader || !httpguts.ValidHeaderFieldName(name):
			return refuse(field, "has a header whose name is none, or longer than 128 characters", "")
		case slices.Contains(framingHeaders, lower) || slices.Contains(transportHeaders, lower):
			return refuse(field, "has the header "+lower+", which frames the message or belongs to one connection", leaveOut)
		case credential || lower == "cookie":
			return refuse(field, "has a header that carries credentials, and what is in these headers is shown", "use client_auth, or certificate")
		case seen[lower]:
			return refuse(field, "has one header twice, spelled differently", "")
		case len(v) > maxParam:
			return refuse(field, "has a value longer than 1024 bytes", "")
		case strings.Trim(v, " \t") != v || !httpguts.ValidHeaderFieldValue(v):
			return refuse(field, "has a value that no header can carry: with white space at an end, or a control character", "")
		}
		seen[lower] = true
	}
	return nil
}

// checkOAuth is the part of [CheckConnection] about what only connections of type
// oauth have.
func checkOAuth(c *attache.Connection, errs *faults) {
	if c.Type != attache.OAuth {
		for _, f := range []struct{ name, value string }{
			{"oauth_client", c.OAuthClient}, {"oauth_url_subdomain", c.Subdomain}, {"permission_scope", c.Scope},
		} {
			if f.value != "" {
				errs.note(refuse(f.name, "is only for connections of type oauth", leaveOut))
			}
		}
		return
	}
	_, err := ParseName("oauth_client", c.OAuthClient)
	errs.note(err)
	if c.Subdomain != "" {
		label, err := parseSubdomain("oauth_url_subdomain", c.Subdomain)
		if err == nil {
			c.Subdomain = label
		}
		errs.note(err)
	}
	c.Scope, err = parseScope("permission_scope", c.Scope)
	errs.note(err)
}
