package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"time"
)

// pair is a certificate, with what issued it, and its key, both in PEM.
type pair struct{ Certificate, Key string }

// load makes them fit for crypto/tls.
func (p pair) load() (tls.Certificate, error) {
	return tls.X509KeyPair([]byte(p.Certificate), []byte(p.Key))
}

// authority is the CA of the bench: it signs for the origin and nginx, and squid,
// mitmproxy and goproxy sign with its key.
type authority struct {
	pair
	certificate tls.Certificate
}

func newAuthority() (*authority, error) {
	template := &x509.Certificate{
		Subject:  pkix.Name{CommonName: "Attaché bench CA"},
		IsCA:     true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	p, err := issue(template, nil)
	if err != nil {
		return nil, err
	}
	certificate, err := p.load()
	return &authority{p, certificate}, err
}

// server issues a certificate for names, which may be wildcards.
func (a *authority) server(names ...string) (pair, error) {
	return issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: names[0]},
		DNSNames:    names,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, &a.certificate)
}

// issue completes a template and signs it, with its own key where by is nil.
func issue(template *x509.Certificate, by *tls.Certificate) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		return pair{}, err
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(48 * time.Hour)
	template.BasicConstraintsValid = true
	parent, signer := template, any(key)
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return pair{}, err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	return pair{
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		Key:         string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})),
	}, err
}

// pool is the certificates of a PEM text, to trust.
func pool(text string) (*x509.CertPool, error) {
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM([]byte(text)) {
		return nil, errors.New("there is no certificate to trust")
	}
	return p, nil
}
