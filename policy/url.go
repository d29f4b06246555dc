package policy

import (
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"

	"attache"
)

const (
	maxURL = 2048

	// placeholder is the one word in an OAuth client's URLs that stands for
	// something else: the subdomain of the connection.
	placeholder = "{subdomain}"

	urlFix         = "write it as the provider documents it, such as https://example.com/oauth/token"
	placeholderFix = "write it as one whole label of the host, such as https://{subdomain}.example.com/oauth/token"
)

// An endpoint is a URL that somebody typed, parsed.
type endpoint struct {
	text  string // the URL, its host in canonical form
	query url.Values
}

// parseEndpoint accepts an https URL with a host, without user information and
// fragment. {subdomain} may stand for one whole label of the host, with at least
// a name below a public suffix behind it: so whatever label it is filled with,
// the host stays below a name that one owner has registered. Suffixes of the
// list's private part are let through, other than in an allowed domain: they
// have one owner as well, and https://{subdomain}.myshopify.com is how it is done.
func parseEndpoint(field, s string) (endpoint, error) {
	if len(s) > maxURL {
		return endpoint{}, refuse(field, "is longer than 2048 characters", "")
	}
	if strings.ContainsFunc(s, notInURL) {
		return endpoint{}, refuse(field, "has a character that no URL has",
			"escape it with %, or write the host in A-labels (xn--)")
	}
	rest, ok := strings.CutPrefix(s, "https://")
	if !ok {
		return endpoint{}, refuse(field, "does not begin with https://", urlFix)
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, rest := rest[:end], rest[end:]
	switch {
	case authority == "":
		return endpoint{}, refuse(field, "has no host", urlFix)
	case strings.Contains(authority, "@"):
		return endpoint{}, refuse(field, "has user information", "leave it out")
	case strings.Contains(rest, "#"):
		return endpoint{}, refuse(field, "has a fragment", "leave out # and what comes after it")
	}
	origin, err := parseOrigin(field, authority)
	if err != nil {
		return endpoint{}, err
	}
	if strings.ContainsAny(rest, "{}") {
		return endpoint{}, refuse(field, "has braces behind its host", placeholderFix)
	}
	u, err := url.Parse("https://host" + rest)
	if err != nil {
		return endpoint{}, refuse(field, "has a path that cannot be read", urlFix)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return endpoint{}, refuse(field, "has a query that cannot be read", urlFix)
	}
	return endpoint{origin + rest, query}, nil
}

// parseOrigin is the canonical https://host:port of an authority that may have
// the placeholder.
func parseOrigin(field, authority string) (string, error) {
	before, after, templated := strings.Cut(authority, placeholder)
	if strings.ContainsAny(before+after, "{}") ||
		templated && (before != "" && !strings.HasSuffix(before, ".") || !strings.HasPrefix(after, ".")) {
		return "", refuse(field, "has braces other than {subdomain} as one whole label of its host", placeholderFix)
	}
	if !templated {
		t, err := parseTarget(field, "https", authority)
		return t.String(), err
	}
	t, err := parseTarget(field, "https", before+"x"+after)
	if err != nil {
		return "", err
	}
	labels := strings.Split(t.Host, ".")
	at := strings.Count(before, ".")
	if coversRegistry(strings.Join(labels[at+1:], ".")) {
		return "", refuse(field, "has {subdomain} directly below a public suffix, where anybody can own a name",
			"put the provider's own domain behind it, such as {subdomain}.example.com")
	}
	labels[at] = placeholder
	t.Host = strings.Join(labels, ".")
	return t.String(), nil
}

// coversRegistry is [coversSuffix] for those suffixes below which a name is for
// anybody to register: the list's public part, and top levels that it does not
// have.
func coversRegistry(host string) bool {
	return isRegistry(host) || isRegistry("0."+host)
}

func isRegistry(host string) bool {
	suffix, public := publicsuffix.PublicSuffix(host)
	return suffix == host && (public || !strings.Contains(suffix, "."))
}

// notInURL reports what RFC 3986 lets into no URL; braces have their own error.
func notInURL(r rune) bool {
	return r <= ' ' || '~' < r || strings.ContainsRune("\"<>\\^`|", r)
}

// parseSubdomain accepts one DNS label (RFC 1123, section 2.1), and lowers it.
func parseSubdomain(field, s string) (string, error) {
	label := strings.ToLower(s)
	if label == "" || !isASCII(s) || len(label) > maxLabel || strings.ContainsFunc(label, notInHost) || strings.Contains(label, "_") ||
		label[0] == '-' || label[len(label)-1] == '-' {
		return "", refuse(field, "is not one label of a host name",
			"give letters, digits and hyphens between them, at most 63, such as acme for acme.example.com")
	}
	return label, nil
}

// CheckSubdomain refuses an oauth connection without the subdomain that the URLs
// of its client need.
func CheckSubdomain(c *attache.Connection, client *attache.OAuthClient) error {
	if c.Subdomain != "" {
		return nil
	}
	p := &client.Provider
	for _, u := range []string{client.AuthURL, client.TokenURL, p.Issuer, p.RefreshURL, p.RevocationURL, p.DeviceURL} {
		if strings.Contains(u, placeholder) {
			return refuse("oauth_url_subdomain", "is empty, but the URLs of the OAuth client have {subdomain}",
				"give the label that stands for it, such as acme")
		}
	}
	return nil
}
