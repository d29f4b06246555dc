package oauth

import (
	"net/url"
	"strings"

	"attache"
	"attache/secret"
)

const (
	maxRedirect = 16 << 10 // bytes
	maxCode     = 8 << 10
)

// Redirect is what a provider's redirect back to us said (RFC 6749, sections
// 4.1.2 and 4.1.2.1; RFC 9207).
type Redirect struct {
	Code   secret.Text
	State  string // empty: only a code was given
	Issuer string // empty: the provider does not say
	Error  string // the provider's error code; empty: there is a code
}

// ParseRedirect reads what came back from a provider: the whole URL that the
// browser ended at, its query with the question mark, or the code alone, as a
// person copies it. Its errors, an [attache.FieldError] each, show none of it.
func ParseRedirect(s string) (Redirect, error) {
	s = strings.TrimSpace(s)
	if len(s) > maxRedirect || printable(s) != s {
		return Redirect{}, refuse("code", "is not what a provider sends back", "paste the address that the browser ended at, or the code in it")
	}
	if !strings.HasPrefix(s, "?") && !strings.Contains(s, "://") {
		return bareCode(s)
	}
	u, err := url.Parse(s)
	if err != nil {
		return Redirect{}, refuse("code", "is not a URL", "paste the whole address that the browser ended at")
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Redirect{}, refuse("code", "is not a URL with a query", "paste the whole address that the browser ended at")
	}
	for _, name := range []string{"code", "state", "iss", "error"} {
		if len(q[name]) > 1 {
			return Redirect{}, refuse("code", "has a parameter twice", "start again")
		}
	}
	r := Redirect{State: q.Get("state"), Issuer: q.Get("iss")}
	if code := q.Get("error"); code != "" {
		r.Error = errorCode(code, nil)
		return r, nil
	}
	if r.Code, err = parseCode(q.Get("code")); err != nil {
		return Redirect{}, err
	}
	return r, nil
}

// bareCode reads a code that was copied out of an address, where it may still be
// encoded.
func bareCode(s string) (Redirect, error) {
	if decoded, err := url.PathUnescape(s); err == nil {
		s = decoded
	}
	code, err := parseCode(s)
	return Redirect{Code: code}, err
}

// parseCode accepts the characters of RFC 6749, appendix A.11.
func parseCode(s string) (secret.Text, error) {
	if s == "" || len(s) > maxCode || printable(s) != s {
		return secret.Text{}, refuse("code", "is missing", "paste the whole address that the browser ended at, or the code in it")
	}
	return secret.New(s), nil
}

// checkIssuer holds an answer against who was asked (RFC 9207, section 2.4).
func (c *Client) checkIssuer(r Redirect) error {
	if want := c.registration.Provider.Issuer; want != "" && r.Issuer != "" && r.Issuer != want {
		return &Error{Kind: GrantRefused, Code: CodeIssuerMismatch, Unsent: true}
	}
	return nil
}

// checkRedirect accepts a callback URL: https anywhere, http on loopback (RFC
// 8252, section 7.3).
func checkRedirect(s string) error {
	u, err := url.Parse(s)
	if err == nil && u.User == nil && u.Fragment == "" && u.Hostname() != "" {
		if u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()) {
			return nil
		}
	}
	return &attache.FieldError{Field: "redirect_uri", Rule: "is neither https nor on loopback", Remedy: "write https://HOST/PATH or http://127.0.0.1:PORT/PATH"}
}
