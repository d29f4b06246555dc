package admin

import (
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"

	"attache"
)

// secure sets the headers of every answer: nothing of it may be cached, framed,
// sniffed or read by another site.
func secure(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
}

// trustPublicURL lets in what comes under the public URL.
func (a *API) trustPublicURL() error {
	if a.PublicURL == "" {
		return nil
	}
	u, err := url.Parse(a.PublicURL)
	if err == nil {
		err = a.cross.AddTrustedOrigin(a.PublicURL)
	}
	if err != nil {
		return fmt.Errorf("public URL: %w", err)
	}
	a.Hosts = append(slices.Clone(a.Hosts), u.Hostname())
	return nil
}

// checkOrigin refuses what a web page of another site makes a browser send: by
// cross-site request, or by a name of its own that it lets resolve to loopback
// (DNS rebinding).
func (a *API) checkOrigin(r *http.Request) *failure {
	if f := a.checkHost(r); f != nil {
		return f
	}
	if a.cross.Check(r) != nil {
		return fail(CodeCrossOrigin, "Only programs, and pages that this server itself serves, may call this API.")
	}
	return nil
}

func (a *API) checkHost(r *http.Request) *failure {
	if a.hostAllowed(r) {
		return nil
	}
	return fail(CodeHost, "Use localhost or an IP address, or configure the name in admin.public_url or admin.hosts.")
}

// UnderItsNames is h for requests whose Host header the API would take, for what is
// served beside the API and needs no token.
func (a *API) UnderItsNames(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := a.checkHost(r); f != nil {
			f.write(w)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// hostAllowed holds for every request but one that came to a loopback address
// under a name that was not allowed. A listener on another address may have any
// name, and a rebound one gains the page nothing there.
func (a *API) hostAllowed(r *http.Request) bool {
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok && !local.IP.IsLoopback() {
		return true
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil || strings.EqualFold(host, "localhost") {
		return true
	}
	return slices.ContainsFunc(a.Hosts, func(allowed string) bool { return strings.EqualFold(allowed, host) })
}

// serve answers a caller who is known.
func (a *API) serve(w http.ResponseWriter, r *http.Request, c caller) {
	if f := a.checkRoute(r); f != nil {
		f.write(w)
		return
	}
	a.mux.ServeHTTP(w, r.WithContext(withCaller(r.Context(), c)))
}

// checkRoute says of a request that no operation would answer why.
func (a *API) checkRoute(r *http.Request) *failure {
	if p := r.URL.EscapedPath(); path.Clean(p) != p {
		return fail(CodeUnknownRoute, "The path has an empty segment, a dot segment, or a slash at its end.")
	}
	if f := unrouted(a.mux, r, "See "+base+"/openapi.json for those that there are."); f != nil {
		return f
	}
	if ct := r.Header.Get("Content-Type"); ct != "" && r.ContentLength != 0 {
		if media, _, err := mime.ParseMediaType(ct); err != nil || media != "application/json" {
			return fail(CodeNotJSON, "Send Content-Type: application/json.")
		}
	}
	return nil
}

// unrouted is the failure of a request that a mux has no handler for. The detail is
// that of a path which has none for any method.
func unrouted(mux *http.ServeMux, r *http.Request, detail string) *failure {
	handler, pattern := mux.Handler(r)
	if pattern != "" {
		return nil
	}
	var probe headerOnly
	handler.ServeHTTP(&probe, r)
	if allow := probe.Header().Get("Allow"); allow != "" {
		return fail(attache.CodeMethodNotAllowed, "Its methods are "+allow+".").with("Allow", allow)
	}
	return fail(CodeUnknownRoute, detail)
}

// headerOnly finds out what the mux would answer. The mux's own answers are
// short texts; of the handlers only those run on it.
type headerOnly struct{ header http.Header }

func (w *headerOnly) Header() http.Header {
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}
func (*headerOnly) Write(b []byte) (int, error) { return len(b), nil }
func (*headerOnly) WriteHeader(int)             {}
