// Package certs is the installation's own certificate authority and the leaf
// certificates that it signs, so that a client which trusts the authority can
// be answered in the name of any host.
//
// An [Authority] is one CA certificate and its key. A [Minter] makes leaves
// with it: each with a fresh key from crypto/rand, for one host name or address,
// living three days at most, minted once and kept in a bounded cache.
//
// What is served is the leaf alone. The authority is a trust anchor that a
// client either has or does not have; sending it would change nothing but the
// size of each handshake.
package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// Why [ParseAuthority] refuses a certificate and its key.
var (
	// ErrWrongKey: the key is not the one that the certificate certifies.
	ErrWrongKey = errors.New("the key does not belong to the CA certificate")
	// ErrNotAuthority: leaves that it signs would be refused by clients.
	ErrNotAuthority = errors.New("not a CA certificate")
	// ErrExpired: its time is over; rotate to a new authority.
	ErrExpired = errors.New("the CA certificate has expired")
)

const (
	// backdate lets clients whose clock is behind accept what was just made.
	backdate = time.Hour
	// authorityYears is how long an authority lives.
	authorityYears = 10
)

// Authority is a CA certificate and the key that signs with it. It is immutable
// and may be copied. It prints as its name and expiry, never its key. The zero
// Authority is none: a Minter that uses it answers [ErrNoAuthority].
type Authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// NewAuthority makes a self-signed CA with a new P-256 key. Path length 0: it
// signs leaves and no further CA. The name ends in random digits, so that two
// installations, or one before and after a rotation, can be told apart in a
// trust store. It lives for ten years from now.
func NewAuthority(now time.Time) (Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Authority{}, fmt.Errorf("make CA key: %w", err)
	}
	var tag [4]byte
	_, _ = rand.Read(tag[:])
	// Without a serial number and a subject key identifier in the template, the
	// library makes them: 159 random bits (RFC 5280, 4.1.2.2) and a hash of the key.
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: fmt.Sprintf("Attaché CA %X", tag)},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(authorityYears, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return Authority{}, fmt.Errorf("sign CA certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return Authority{}, fmt.Errorf("read back CA certificate: %w", err)
	}
	return Authority{certificate, key}, nil
}

// ParseAuthority puts a stored certificate (DER) and its key together again. It
// refuses with [ErrWrongKey], [ErrNotAuthority] or [ErrExpired].
func ParseAuthority(der []byte, key crypto.Signer) (Authority, error) {
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return Authority{}, fmt.Errorf("read CA certificate: %w", err)
	}
	public, ok := certificate.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !certificate.BasicConstraintsValid || !certificate.IsCA:
		return Authority{}, fmt.Errorf("%w: CA is not among its basic constraints", ErrNotAuthority)
	case certificate.KeyUsage&x509.KeyUsageCertSign == 0:
		return Authority{}, fmt.Errorf("%w: its key usage does not allow it to sign certificates", ErrNotAuthority)
	case len(certificate.SubjectKeyId) == 0:
		// Its leaves would have no authority key identifier, which strict clients demand.
		return Authority{}, fmt.Errorf("%w: it has no subject key identifier", ErrNotAuthority)
	case !ok || !public.Equal(key.Public()):
		return Authority{}, ErrWrongKey
	case time.Now().After(certificate.NotAfter):
		return Authority{}, fmt.Errorf("%w on %s", ErrExpired, certificate.NotAfter.Format(time.DateOnly))
	}
	return Authority{certificate, key}, nil
}

// Certificate is the CA certificate; its Raw field is what [ParseAuthority]
// reads.
func (a Authority) Certificate() *x509.Certificate { return a.certificate }

// Key signs as the authority. It is for those who store it sealed.
func (a Authority) Key() crypto.Signer { return a.key }

// PEM is the CA certificate as a client's trust store wants it. Two of them
// concatenated make clients trust both, during a rotation.
func (a Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// String is the authority's name and expiry.
func (a Authority) String() string {
	if a.certificate == nil {
		return "no CA"
	}
	return a.certificate.Subject.CommonName + ", until " + a.certificate.NotAfter.Format(time.DateOnly)
}

// Format implements [fmt.Formatter], for every verb alike, so that none can
// reach the key.
func (a Authority) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, a.String()) }

// LogValue implements [slog.LogValuer].
func (a Authority) LogValue() slog.Value { return slog.StringValue(a.String()) }
