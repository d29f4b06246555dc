package certs_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"attache/certs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newAuthority(t testing.TB) certs.Authority {
	t.Helper()
	a, err := certs.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestAuthorityIsACertificateAuthorityForTenYears(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	a, err := certs.NewAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	c := a.Certificate()
	if !c.IsCA || !c.BasicConstraintsValid || !c.MaxPathLenZero {
		t.Errorf("basic constraints: CA %t, valid %t, path length 0 %t", c.IsCA, c.BasicConstraintsValid, c.MaxPathLenZero)
	}
	if want := x509.KeyUsageCertSign | x509.KeyUsageCRLSign; c.KeyUsage != want {
		t.Errorf("key usage %b, want %b", c.KeyUsage, want)
	}
	if want := now.Add(-time.Hour); !c.NotBefore.Equal(want) {
		t.Errorf("not before %s, want %s", c.NotBefore, want)
	}
	if want := now.AddDate(10, 0, 0); !c.NotAfter.Equal(want) {
		t.Errorf("not after %s, want %s", c.NotAfter, want)
	}
	if len(c.SubjectKeyId) == 0 {
		t.Error("no subject key identifier")
	}
	if got := c.SerialNumber.BitLen(); c.SerialNumber.Sign() <= 0 || got < 100 || got > 159 {
		t.Errorf("serial number of %d bits, want a positive random one that fits 20 bytes", got)
	}
	if !regexp.MustCompile(`^Attaché CA [0-9A-F]{8}$`).MatchString(c.Subject.CommonName) {
		t.Errorf("name %q", c.Subject.CommonName)
	}
	for _, e := range c.Extensions {
		if id := e.Id.String(); (id == "2.5.29.15" || id == "2.5.29.19") && !e.Critical {
			t.Errorf("extension %s is not critical", id)
		}
	}
}

func TestTwoAuthoritiesCanBeToldApart(t *testing.T) {
	a, b := newAuthority(t).Certificate(), newAuthority(t).Certificate()
	if a.Subject.CommonName == b.Subject.CommonName {
		t.Errorf("both are named %q", a.Subject.CommonName)
	}
	if a.SerialNumber.Cmp(b.SerialNumber) == 0 {
		t.Error("both have the same serial number")
	}
}

func TestParseAuthority(t *testing.T) {
	good := newAuthority(t)
	old, err := certs.NewAuthority(time.Now().AddDate(-11, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	selfSigned := func(template x509.Certificate) []byte {
		template.NotAfter = time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}

	tests := map[string]struct {
		der  []byte
		key  crypto.Signer
		want error
	}{
		"what was made is read back": {good.Certificate().Raw, good.Key(), nil},
		"another key":                {good.Certificate().Raw, key, certs.ErrWrongKey},
		"an expired authority":       {old.Certificate().Raw, old.Key(), certs.ErrExpired},
		"a certificate that is no CA": {
			selfSigned(x509.Certificate{BasicConstraintsValid: true, SubjectKeyId: []byte{1}, KeyUsage: x509.KeyUsageCertSign}),
			key, certs.ErrNotAuthority,
		},
		"a CA that may not sign certificates": {
			selfSigned(x509.Certificate{BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCRLSign}),
			key, certs.ErrNotAuthority,
		},
		"a certificate without basic constraints": {
			selfSigned(x509.Certificate{KeyUsage: x509.KeyUsageCertSign}),
			key, certs.ErrNotAuthority,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a, err := certs.ParseAuthority(tt.der, tt.key)
			if !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if err == nil && !bytes.Equal(a.PEM(), good.PEM()) {
				t.Error("read back another certificate")
			}
		})
	}

	if _, err := certs.ParseAuthority([]byte("not DER"), key); err == nil {
		t.Error("accepted what is no certificate")
	}
}

func TestAuthorityNeverPrintsItsKey(t *testing.T) {
	key := newKey(t)
	raw, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthorityWithKey(t, key)
	nested := struct {
		A certs.Authority
		a certs.Authority
		p *certs.Authority
	}{a, a, &a}

	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&out, verb+"\n", a)
		fmt.Fprintf(&out, verb+"\n", &a)
		fmt.Fprintf(&out, verb+"\n", nested)
	}
	encoded, err := json.Marshal(nested)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(encoded)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("", "a", a, "p", &a, "nested", nested)
	slog.New(slog.NewTextHandler(&out, nil)).Info("", "a", a, "p", &a, "nested", nested)

	for form, secret := range map[string]string{
		"decimal":     new(big.Int).SetBytes(raw).String(),
		"hexadecimal": fmt.Sprintf("%x", raw),
		"HEXADECIMAL": fmt.Sprintf("%X", raw),
		"bytes":       strings.Trim(fmt.Sprint(raw), "[]"),
		"raw":         string(raw),
	} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the key was printed in %s", form)
		}
	}
	if want := a.Certificate().Subject.CommonName + ", until "; !strings.Contains(out.String(), want) {
		t.Errorf("the name was not printed:\n%s", out.String())
	}
	if got := fmt.Sprint(certs.Authority{}); got != "no CA" {
		t.Errorf("the zero Authority prints as %q", got)
	}
}

// newAuthorityWithKey makes an authority whose key is given, through the
// certificate of another one.
func newAuthorityWithKey(t testing.TB, key crypto.Signer) certs.Authority {
	t.Helper()
	template := newAuthority(t).Certificate()
	template.SubjectKeyId, template.PublicKey = nil, key.Public()
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a, err := certs.ParseAuthority(der, key)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
