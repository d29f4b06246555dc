package proxy

import (
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"

	"attache/policy"
)

// isFor tells whether a Host or :authority, and the SNI before it, name the
// tunnel's target. A request without Host (HTTP/1.0) is for the target.
func (t *tunnel) isFor(host, scheme string) bool {
	if t.otherName {
		return false
	}
	if host == "" || host == t.authority || host == t.target.Host && scheme == "https" && t.target.Port == 443 {
		return true
	}
	named, err := policy.ParseTarget(scheme, host)
	return err == nil && named.Host == t.target.Host && named.Port == t.target.Port
}

// sendable tells whether a request line can be made of the request that every
// server reads alike. Over HTTP/2, method and path come without one.
func sendable(r *http.Request) bool {
	for i := range len(r.RequestURI) {
		if c := r.RequestURI[i]; c <= ' ' || c == 0x7f {
			return false
		}
	}
	return r.URL.Opaque == "" && httpguts.ValidHeaderFieldName(r.Method)
}

// exactURL is the request's URL at the target's origin, with the path byte for
// byte as the client wrote it; whole where it is sent as an absolute URL.
func exactURL(origin string, r *http.Request, whole bool) *url.URL {
	u := *r.URL
	u.User, u.Opaque = nil, ""
	u.Scheme, u.Host, _ = strings.Cut(origin, "://")
	raw, _, _ := strings.Cut(r.RequestURI, "?")
	if _, rest, absolute := strings.Cut(raw, "://"); absolute && raw[0] != '/' {
		host, _, _ := strings.Cut(rest, "/")
		raw = rest[len(host):]
	}
	// An Opaque that begins with // would be sent as an absolute URL.
	if strings.HasPrefix(raw, "/") && !strings.HasPrefix(raw, "//") && raw != u.EscapedPath() {
		u.Opaque = raw
		if whole {
			u.Opaque = "//" + u.Host + raw
		}
	}
	return &u
}
