package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// ErrHost is returned for what is neither a canonical host name (lower case,
// A-labels, no trailing dot) nor an IP address.
var ErrHost = errors.New("no certificate can be made for this host")

// maxHost is the longest name that DNS can carry, in bytes.
const maxHost = 253

// sign makes a certificate for host that lives until life from now, or as long
// as the authority where that is shorter.
//
// The host is in the subject alternative names only. The subject is empty (a
// common name ends at 64 bytes, a host name at 253), which makes that extension
// critical (RFC 5280, 4.2.1.6).
//
// Each leaf has its own key. Making one costs less than the signature does, and
// a key that leaks speaks for one host, for three days.
func (a Authority) sign(host string, life time.Duration) (*tls.Certificate, error) {
	if a.certificate == nil {
		return nil, ErrNoAuthority
	}
	now := time.Now()
	template := &x509.Certificate{
		NotBefore:             later(now.Add(-backdate), a.certificate.NotBefore),
		NotAfter:              earlier(now.Add(life), a.certificate.NotAfter),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if now.After(template.NotAfter) {
		return nil, ErrExpired
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() == "" {
		template.IPAddresses = []net.IP{ip.Unmap().AsSlice()}
	} else if canonical(host) {
		template.DNSNames = []string{host}
	} else {
		return nil, ErrHost
	}

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key of leaf certificate: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("sign leaf certificate: %w", err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read back leaf certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: parsed}, nil
}

// canonical reports whether host could be a name in DNS, in the only spelling
// that is certified. A "*" would make the leaf a wildcard.
func canonical(host string) bool {
	if len(host) == 0 || len(host) > maxHost {
		return false
	}
	for _, c := range []byte(host) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

func later(t, u time.Time) time.Time {
	if t.After(u) {
		return t
	}
	return u
}

func earlier(t, u time.Time) time.Time {
	if t.Before(u) {
		return t
	}
	return u
}
