package oauth

import (
	"crypto/tls"
	"net/http"
)

// SetTransport lets calls reach a provider without a connection, for tests that
// make very many.
func (e *Endpoint) SetTransport(t http.RoundTripper) {
	e.transport = func(*tls.Certificate) http.RoundTripper { return t }
}
