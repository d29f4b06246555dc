package oauth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

const (
	defaultTimeout = 30 * time.Second
	maxAnswer      = 1 << 20 // bytes of a body
	maxAnswerHead  = 64 << 10
)

// EndpointOptions say how providers are reached. The zero value reaches them
// over the internet with the system's roots.
type EndpointOptions struct {
	// DialContext opens connections; the guard against private addresses belongs
	// in it. Nil: a plain dialer.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// Roots are the authorities that providers' certificates are verified
	// against. Nil: the system's.
	Roots *x509.CertPool
	// PlainLoopback also allows http:// to localhost, 127.0.0.0/8 and [::1], for
	// tests and development. Everything else is https always.
	PlainLoopback bool
	// Timeout bounds one call in all, its answer included. Zero: 30 s.
	Timeout time.Duration
	// Now is the wall clock. Nil: time.Now.
	Now func() time.Time
}

// Endpoint calls providers. Its methods may be called from several goroutines.
//
// No call follows a redirect, goes through a proxy, or is repeated by the
// transport: connections are not kept, since a pooled one that has gone stale
// would leave open whether a refresh token was spent.
type Endpoint struct {
	options EndpointOptions
	// transport makes one for a client certificate, or for none. Tests replace it.
	transport func(*tls.Certificate) http.RoundTripper
}

// NewEndpoint makes an Endpoint.
func NewEndpoint(o EndpointOptions) *Endpoint {
	if o.DialContext == nil {
		o.DialContext = new(net.Dialer).DialContext
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	// net/http goes on dialling for a while when the request has ended.
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, o.Timeout)
		defer cancel()
		return o.DialContext(ctx, network, address)
	}
	sessions := tls.NewLRUClientSessionCache(256)
	h1 := new(http.Protocols)
	h1.SetHTTP1(true)
	return &Endpoint{o, func(certificate *tls.Certificate) http.RoundTripper {
		config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots, ClientSessionCache: sessions}
		if certificate != nil {
			// A session would carry one client's identity into another's call.
			config.Certificates, config.ClientSessionCache = []tls.Certificate{*certificate}, nil
		}
		return &http.Transport{
			DialContext:            dial,
			TLSHandshakeTimeout:    o.Timeout,
			TLSClientConfig:        config,
			MaxResponseHeaderBytes: maxAnswerHead,
			DisableCompression:     true,
			DisableKeepAlives:      true,
			Protocols:              h1,
		}
	}}
}

// answer is what a provider sent back.
type answer struct {
	status int
	header http.Header
	body   []byte
	asked  time.Time // just before the request was made, on the wall clock
}

// send makes one request. Its errors are an [Error].
func (e *Endpoint) send(req *http.Request, certificate *tls.Certificate) (answer, error) {
	ctx, cancel := context.WithTimeout(req.Context(), e.options.Timeout)
	defer cancel()
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	req = req.WithContext(ctx)
	req.GetBody = nil // nothing may send a secret a second time
	req.Header.Set("Accept", "application/json")
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "attache")
	}

	a := answer{asked: e.options.Now()}
	// RoundTrip, not Client.Do: it neither follows redirects nor wraps errors in
	// the URL.
	resp, err := e.transport(certificate).RoundTrip(req)
	if err != nil {
		return answer{}, unreached(ctx, err, connected.Load())
	}
	defer resp.Body.Close()
	a.status, a.header = resp.StatusCode, resp.Header
	a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return answer{}, unreached(ctx, err, true)
	case len(a.body) > maxAnswer:
		return answer{}, &Error{Kind: Malformed, Code: CodeAnswerTooLong, Status: a.status}
	}
	return a, nil
}

// unreached classifies what kept an answer from us. The text of most errors of
// net/http may hold what the other side sent, and is dropped.
func unreached(ctx context.Context, err error, connected bool) *Error {
	e := &Error{Kind: TryLater, Code: CodeNetwork, Unsent: !connected}
	var dial *net.OpError
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	var timeout net.Error
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
		e.Code = CodeTimeout
	case errors.As(err, &dns):
		e.Code, e.cause = CodeDNS, dns
	case errors.As(err, &certificate):
		e.Code, e.cause = CodeTLS, certificate.Err
	case errors.As(err, &alert), errors.As(err, &record):
		e.Code = CodeTLS
	case !connected && errors.As(err, &dial) && dial.Op == "dial":
		e.cause = dial
	}
	return e
}
