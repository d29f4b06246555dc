package proxy

import (
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"

	"attache"
	"attache/policy"
	"attache/wire"
)

// hopByHop are the fields that end at this hop (RFC 9110, section 7.6.1, and
// those that practice added). What begins with Proxy- ends here too.
var hopByHop = map[string]bool{
	"Connection":        true,
	"Keep-Alive":        true,
	"Te":                true,
	"Trailer":           true,
	"Transfer-Encoding": true,
	"Upgrade":           true,
	"Http2-Settings":    true,
}

// strip removes from a request what must not be passed on: hop-by-hop fields,
// those that Connection names, those that are for the proxy; and, where strips
// is given because a credential will be injected, every credential that the
// client supplied. An upgrade and "TE: trailers", which gRPC needs, stay.
func strip(r *http.Request, strips *policy.StripSet, cookies bool) {
	h := r.Header
	upgrade := upgradeOf(r)
	trailers := hasToken(h["Te"], "trailers")
	named := h["Connection"]
	for k := range h {
		if hopByHop[k] || isOurs(k) || strings.HasPrefix(k, "Proxy-") || hasToken(named, k) ||
			strips != nil && strips.Has(k) || cookies && k == "Cookie" {
			delete(h, k)
		}
	}
	if upgrade != "" {
		h["Connection"] = []string{"Upgrade"}
		h["Upgrade"] = []string{upgrade}
	}
	if trailers {
		h["Te"] = []string{"trailers"}
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = []string{""} // or the transport names itself
	}
	r.Trailer = nil
	r.Close = false // that is between the client and us
}

// inject gives the request its credential. This and [appendCredential] are the
// injector: the one place of the data plane where a credential is exposed.
func inject(h http.Header, d attache.Decision) {
	h[d.Header] = []string{d.Value.Expose()}
}

// appendCredential is inject for a head that is written as bytes.
func appendCredential(head []byte, d attache.Decision) []byte {
	head = append(head, d.Header...)
	head = append(head, ": "...)
	head = append(head, d.Value.Expose()...)
	return append(head, "\r\n"...)
}

// relayable removes from an answer what ends at this hop or could be taken for
// the proxy's own word, and keeps our server from adding what is not there.
func relayable(h http.Header) {
	named := h["Connection"]
	for k := range h {
		if !isRelayed(k) || hasToken(named, k) {
			delete(h, k)
		}
	}
	for _, k := range []string{"Date", "Content-Type"} {
		if _, ok := h[k]; !ok {
			h[k] = nil
		}
	}
}

// isRelayed tells whether a field of an answer goes beyond this hop. Of those that
// begin with Proxy-, Proxy-Status does (RFC 9209).
func isRelayed(name string) bool {
	return !hopByHop[name] && !isOurs(name) && (!strings.HasPrefix(name, "Proxy-") || name == "Proxy-Status")
}

// isRelayedField is isRelayed for a field as it came. What package wire takes out
// need not be looked for.
func isRelayedField(f *wire.Field) bool {
	ends := false
	switch len(f.Name) {
	case len("te"):
		ends = f.Is("te")
	case len("trailer"): // and so is Upgrade
		ends = f.Is("trailer") || f.Is("upgrade")
	case len("http2-settings"):
		ends = f.Is("http2-settings")
	}
	return !ends && (!isForProxy(f) || f.Is("proxy-status"))
}

// isForProxy tells whether a field belongs between a client and a proxy.
func isForProxy(f *wire.Field) bool { return f.HasPrefix("proxy-") || f.HasPrefix("attache-") }

// isTrailer tells whether a field that is relayed means anything after a body.
func isTrailer(name string) bool { return isRelayed(name) && httpguts.ValidTrailerHeader(name) }

func isNoTrailer(name string, _ []string) bool { return !isTrailer(name) }

// isOurs tells whether a field belongs between a client and this proxy.
func isOurs(name string) bool { return strings.HasPrefix(name, "Attache-") }

// upgradeOf is the protocol that a request wants to switch to. It is never h2c:
// requests in what follows would pass unseen. With a body there is none, because the
// upstream may switch before it has got the whole of that, and the rest would be mixed
// with what follows; a server need not switch (RFC 9110, section 7.8).
func upgradeOf(r *http.Request) string {
	h := r.Header
	if r.Body != http.NoBody || !hasToken(h["Connection"], "upgrade") || hasToken(h["Upgrade"], "h2c") {
		return ""
	}
	return h.Get("Upgrade")
}

// hasToken looks for a token in a field that is a comma-separated list.
func hasToken(values []string, token string) bool {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}
