package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"syscall"

	"code.dny.dev/ssrf"

	"attache"
	"attache/wire"
)

// explainFailure says why the upstream could not be reached or did not answer,
// in words that are safe to show. connected tells whether a connection was there.
func explainFailure(err error, target attache.Target, connected bool) problem {
	host := target.Host
	var dns *net.DNSError
	switch {
	case errors.Is(err, errOwnAddress):
		return problem{attache.CodeProxyLoop, host + " is this proxy itself; it does not call itself."}
	case errors.Is(err, ssrf.ErrProhibitedIP), errors.Is(err, ssrf.ErrProhibitedNetwork):
		return problem{attache.CodeDestinationRefused, host + " is at a private, loopback or reserved address. Where that is meant, allow its range with upstream.allow_private (--allow-private)."}
	case errors.Is(err, errParent):
		return problem{attache.CodeConnectionRefused, "The parent proxy (upstream.proxy) would not open a tunnel to " + host + "."}
	case errors.As(err, &dns) && dns.IsTimeout:
		return problem{attache.CodeDNSTimeout, "The name server did not answer for " + host + ". Try again; look at the proxy's resolver if it stays."}
	case errors.As(err, &dns):
		return problem{attache.CodeDNSError, host + " does not resolve. Look for a typing error in the host name, or at the proxy's resolver."}
	case errors.Is(err, syscall.ECONNREFUSED):
		return problem{attache.CodeConnectionRefused, target.Addr() + " refused the connection: nothing listens there, or a firewall rejects it."}
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return problem{attache.CodeUnroutable, host + " cannot be reached from here: there is no route to it."}
	}
	if why, ok := explainTLS(err, host); ok {
		return why
	}
	switch {
	case wire.IsTimeout(err) && connected:
		return problem{attache.CodeResponseTimeout, host + " accepted the request and did not answer in time (upstream.response_timeout)."}
	case wire.IsTimeout(err):
		return problem{attache.CodeConnectionTimeout, target.Addr() + " did not answer in time (upstream.connect_timeout, upstream.tls_timeout)."}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		return problem{attache.CodeConnectionTerminated, host + " closed the connection before it answered."}
	case connected:
		return problem{attache.CodeProtocolError, "What " + host + " sent is not an HTTP response that can be passed on."}
	}
	return problem{attache.CodeTLSError, "No secure connection to " + host + " could be made."}
}

// explainTLS is explainFailure for what goes wrong in a handshake.
func explainTLS(err error, host string) (problem, bool) {
	var (
		unknown  x509.UnknownAuthorityError
		name     x509.HostnameError
		invalid  x509.CertificateInvalidError
		verify   *tls.CertificateVerificationError
		header   tls.RecordHeaderError
		protocol *net.OpError
	)
	certificate := func(why string) (problem, bool) {
		return problem{attache.CodeCertificateError, "The certificate of " + host + " " + why}, true
	}
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return certificate("has expired or is not valid yet. It is for the host's operator to renew; look at this machine's clock too.")
	case errors.As(err, &name):
		return certificate("is for another name. Look for a typing error in the host name.")
	case errors.As(err, &unknown):
		return certificate("is signed by an authority that is not trusted here. Where it is your own, name its certificate in upstream.ca_file.")
	case errors.As(err, &verify):
		return certificate("cannot be verified.")
	case errors.As(err, &header):
		return problem{attache.CodeTLSError, host + " does not speak TLS on this port."}, true
	case errors.As(err, &protocol) && (protocol.Op == "remote error" || protocol.Op == "local error"):
		return problem{attache.CodeTLSError, host + " and the proxy could not agree on a TLS handshake."}, true
	}
	return problem{}, false
}
