package attache

import "net/http"

// Code names why the proxy itself answered. It is stable: clients, dashboards
// and alerts match on it. The zero Code means that the upstream answered.
type Code string

// Codes of who is it.
const (
	CodeTokenMissing Code = "access_token_missing"
	CodeTokenInvalid Code = "access_token_invalid" // malformed, unknown, revoked, expired, or not of that integration
)

// Codes of what is refused by policy.
const (
	CodeBadTarget           Code = "bad_target"           // not a host and port
	CodeBadRequest          Code = "bad_request"          // no request that may be sent on
	CodeRequestTimeout      Code = "request_timeout"      // the client stopped inside its request
	CodeAuthorityMismatch   Code = "authority_mismatch"   // Host, :authority or SNI differ from the tunnel's target
	CodeMethodNotAllowed    Code = "method_not_allowed"   // CONNECT inside a tunnel
	CodePlaintextRefused    Code = "plaintext_refused"    // a connection covers the host, but not over http
	CodeTraceRefused        Code = "trace_refused"        // TRACE would send the credential back
	CodeAmbiguousConnection Code = "ambiguous_connection" // two connections fit equally well
	CodeUnknownConnection   Code = "unknown_connection"   // the named connection does not exist
	CodeConnectionMismatch  Code = "connection_mismatch"  // the named connection is for another host or port
	CodeNoConnection        Code = "no_connection"        // nothing covers the host, and unmatched is deny
	CodeDestinationRefused  Code = "destination_refused"  // a private, loopback or reserved address
	CodeProxyLoop           Code = "proxy_loop"           // the target is this proxy
)

// Codes of what went wrong on the way.
const (
	CodeCredentialUnavailable Code = "credential_unavailable" // nothing was sent
	CodeOverloaded            Code = "overloaded"             // a bound of ours is reached
	CodeDNSError              Code = "dns_error"
	CodeDNSTimeout            Code = "dns_timeout"
	CodeConnectionRefused     Code = "connection_refused"
	CodeConnectionTimeout     Code = "connection_timeout"
	CodeConnectionTerminated  Code = "connection_terminated"
	CodeUnroutable            Code = "destination_unroutable"
	CodeCertificateError      Code = "certificate_error" // untrusted, expired, for another name
	CodeTLSError              Code = "tls_error"
	CodeResponseTimeout       Code = "response_timeout"
	CodeProtocolError         Code = "protocol_error"
	CodeUpstreamProxyAuth     Code = "upstream_proxy_auth" // the upstream answered 407
	CodeClientGone            Code = "client_gone"         // nobody saw the answer
	CodeClientTLS             Code = "client_tls_error"    // the client broke off our handshake with it
	CodeInternal              Code = "internal_error"
)

// codes says how each code surfaces: HTTP status, Proxy-Status error type
// (RFC 9209, section 2.3; empty where none fits), and title.
var codes = map[Code]struct {
	status      int
	proxyStatus string
	title       string
}{
	CodeTokenMissing: {407, "", "An access token is needed"},
	CodeTokenInvalid: {407, "", "The access token is not valid"},

	CodeBadTarget:           {400, "http_request_error", "The target is not a host and a port"},
	CodeBadRequest:          {400, "http_request_error", "The request cannot be sent on"},
	CodeRequestTimeout:      {408, "http_request_error", "The request did not arrive in time"},
	CodeAuthorityMismatch:   {421, "http_request_denied", "The request is for another host than its tunnel"},
	CodeMethodNotAllowed:    {405, "http_request_denied", "The method is not allowed here"},
	CodePlaintextRefused:    {403, "http_request_denied", "Credentials are not sent over plain http"},
	CodeTraceRefused:        {403, "http_request_denied", "TRACE gets no credential"},
	CodeAmbiguousConnection: {403, "http_request_denied", "More than one connection fits"},
	CodeUnknownConnection:   {403, "http_request_denied", "The named connection does not exist"},
	CodeConnectionMismatch:  {403, "http_request_denied", "The named connection is for another host"},
	CodeNoConnection:        {403, "http_request_denied", "No connection covers this host"},
	CodeDestinationRefused:  {403, "destination_ip_prohibited", "The destination's address is refused"},
	CodeProxyLoop:           {403, "proxy_loop_detected", "The target is this proxy"},

	CodeCredentialUnavailable: {503, "proxy_internal_error", "The credential is not available"},
	CodeOverloaded:            {503, "connection_limit_reached", "The proxy is at its limit"},
	CodeDNSError:              {502, "dns_error", "The host name does not resolve"},
	CodeDNSTimeout:            {504, "dns_timeout", "The name server did not answer"},
	CodeConnectionRefused:     {502, "connection_refused", "The upstream refused the connection"},
	CodeConnectionTimeout:     {504, "connection_timeout", "The upstream did not answer"},
	CodeConnectionTerminated:  {502, "connection_terminated", "The upstream closed the connection"},
	CodeUnroutable:            {502, "destination_ip_unroutable", "The upstream cannot be reached"},
	CodeCertificateError:      {502, "tls_certificate_error", "The upstream's certificate is not trusted"},
	CodeTLSError:              {502, "tls_protocol_error", "The TLS handshake with the upstream failed"},
	CodeResponseTimeout:       {504, "http_response_timeout", "The upstream took too long"},
	CodeProtocolError:         {502, "http_protocol_error", "The upstream did not answer in HTTP"},
	CodeUpstreamProxyAuth:     {502, "http_response_incomplete", "The upstream asked for proxy credentials"},
	CodeClientGone:            {499, "", "The client went away"},
	CodeClientTLS:             {400, "tls_protocol_error", "The TLS handshake with the client failed"},
	CodeInternal:              {500, "proxy_internal_error", "The proxy failed"},
}

// Codes lists every code, for documentation and tests, in no order.
func Codes() []Code {
	all := make([]Code, 0, len(codes))
	for c := range codes {
		all = append(all, c)
	}
	return all
}

// Status is the HTTP status that goes with the code; 500 for an unknown code.
func (c Code) Status() int {
	if k, ok := codes[c]; ok {
		return k.status
	}
	return http.StatusInternalServerError
}

// ProxyStatus is the error type of RFC 9209 that goes with the code, or empty.
func (c Code) ProxyStatus() string { return codes[c].proxyStatus }

// Title is the code in words: the title of a problem document (RFC 9457).
func (c Code) Title() string { return codes[c].title }

// Problem is a problem document (RFC 9457) as the proxy and the API answer it.
type Problem struct {
	Type      string         `json:"type"` // a URI reference; "about:blank" where the code says it all
	Title     string         `json:"title"`
	Status    int            `json:"status"`
	Code      Code           `json:"code"`
	Detail    string         `json:"detail,omitempty"`
	RequestID string         `json:"request_id,omitempty"`
	Errors    []ProblemField `json:"errors,omitempty"` // the API: what is wrong with which field
}

// ProblemField is a [FieldError] in a [Problem].
type ProblemField struct {
	Field  string `json:"field"`
	Rule   string `json:"rule"`
	Remedy string `json:"remedy,omitempty"`
}
