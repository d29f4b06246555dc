package main

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"attache"
	"attache/certs"
	"attache/client"
	"attache/configs"
)

// keyPair writes a certificate for 127.0.0.1, of an authority of its own, as
// listen_tls takes it.
func keyPair(t *testing.T) (certs.Authority, configs.ListenTLS) {
	t.Helper()
	ca, err := certs.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	minter := certs.NewMinter(certs.MinterOptions{})
	minter.Use(ca)
	pair, err := minter.Leaf(t.Context(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name, kind string, der []byte) string {
		return write(t, filepath.Join(t.TempDir(), name), string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
	}
	return ca, configs.ListenTLS{
		CertificateFile: file("cert.pem", "CERTIFICATE", pair.Leaf.Raw), KeyFile: file("key.pem", "PRIVATE KEY", key),
	}
}

func TestAProxyThatSpeaksTLSIsReachedThroughTLS(t *testing.T) {
	ca, files := keyPair(t)
	s := newTestServer(t, func(cfg *configs.Config) { cfg.ListenTLS = files })
	defer running(t, s)()
	c, err := client.New(client.Options{Socket: s.socket.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	issued := grant{user: defaultIntegration}
	if err := issued.locate(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if _, err := issued.issue(t.Context(), c, defaultIntegration, time.Time{}); err != nil {
		t.Fatal(err)
	}
	token := newAccessToken()
	l, err := takeLease(t.Context(), s.cfg.DataDir, defaultIntegration, token)
	if err != nil {
		t.Fatal(err)
	}
	defer l.end()
	for how, g := range map[string]grant{
		"of env": issued,
		"of run": {user: defaultIntegration, token: token.text, proxyURL: l.ProxyURL, ca: l.CA},
	} {
		t.Run("with the variables "+how, func(t *testing.T) {
			transport, err := g.transport()
			if err != nil {
				t.Fatal(err)
			}
			defer transport.CloseIdleConnections()
			transport.TLSClientConfig.RootCAs.AddCert(ca.Certificate())
			// The proxy refuses its own address, in its own words.
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address(s.listeners.proxy)+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if code := resp.Header.Get("Attache-Error"); code != string(attache.CodeProxyLoop) || !strings.HasPrefix(g.proxyURL, "https://") {
				t.Errorf("%s answers %q", g.proxyURL, code)
			}
		})
	}
}
