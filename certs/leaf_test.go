package certs_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"attache/certs"
)

// hosts are the kinds of hosts that a leaf has to be accepted for.
var hosts = map[string]string{
	"a name":                                "api.example.com",
	"a name of one label":                   "localhost",
	"a name with an underscore":             "my_bucket.example.com",
	"an internationalized name":             "xn--bcher-kva.example",
	"a name longer than a common name":      strings.Repeat("a", 63) + "." + strings.Repeat("b", 63) + ".example.com",
	"a name of the greatest length, 253":    strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("b", 57) + ".com",
	"an IPv4 address":                       "192.0.2.7",
	"an IPv6 address":                       "2001:db8::7",
	"an IPv4 address mapped into IPv6":      "::ffff:192.0.2.8",
	"a name that is all digits in one part": "123.example.com",
}

func newMinter(t testing.TB, a certs.Authority, o certs.MinterOptions) *certs.Minter {
	t.Helper()
	m := certs.NewMinter(o)
	m.Use(a)
	return m
}

func leafFor(t testing.TB, m *certs.Minter, host string) *tls.Certificate {
	t.Helper()
	c, err := m.Leaf(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLeafSaysOnlyWhatItMust(t *testing.T) {
	a := newAuthority(t)
	c := leafFor(t, newMinter(t, a, certs.MinterOptions{}), "api.example.com")
	if len(c.Certificate) != 1 || !bytes.Equal(c.Certificate[0], c.Leaf.Raw) {
		t.Errorf("the chain has %d certificates, want the leaf alone", len(c.Certificate))
	}
	leaf := c.Leaf
	if got := leaf.Subject.String(); got != "" {
		t.Errorf("subject %q, want none", got)
	}
	if leaf.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("key usage %b", leaf.KeyUsage)
	}
	if len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("extended key usage %v", leaf.ExtKeyUsage)
	}
	if !bytes.Equal(leaf.AuthorityKeyId, a.Certificate().SubjectKeyId) {
		t.Error("the authority key identifier is not the authority's")
	}
	if leaf.IsCA {
		t.Error("the leaf is a CA")
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 72*time.Hour || life < 71*time.Hour {
		t.Errorf("valid for %s, want 72 h at most", life)
	}
	if since := time.Since(leaf.NotBefore); since < time.Hour || since > time.Hour+time.Minute {
		t.Errorf("dated back by %s, want an hour", since)
	}
}

func TestLeafLivesNoLongerThanItsAuthority(t *testing.T) {
	a, err := certs.NewAuthority(time.Now().AddDate(-10, 0, 0).Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	leaf := leafFor(t, newMinter(t, a, certs.MinterOptions{}), "api.example.com").Leaf
	if got, want := leaf.NotAfter, a.Certificate().NotAfter; !got.Equal(want) {
		t.Errorf("the leaf ends at %s, its authority at %s", got, want)
	}

	fresh := newMinter(t, newAuthority(t), certs.MinterOptions{LeafLife: 1000 * time.Hour})
	leaf = leafFor(t, fresh, "api.example.com").Leaf
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 72*time.Hour {
		t.Errorf("valid for %s although more than 72 h were asked for", life)
	}
}

func TestEveryLeafHasItsOwnKey(t *testing.T) {
	a := newAuthority(t)
	m := newMinter(t, a, certs.MinterOptions{})
	one, other := leafFor(t, m, "a.example"), leafFor(t, m, "b.example")
	m.Use(a)
	again := leafFor(t, m, "a.example")
	for name, c := range map[string]*tls.Certificate{"another host's": other, "a later one of the host's": again} {
		if one.PrivateKey.(*ecdsa.PrivateKey).Equal(c.PrivateKey) {
			t.Errorf("the key is also %s", name)
		}
		if one.Leaf.SerialNumber.Cmp(c.Leaf.SerialNumber) == 0 {
			t.Errorf("the serial number is also %s", name)
		}
	}
}

func TestLeafIsRefusedForWhatIsNoHost(t *testing.T) {
	m := newMinter(t, newAuthority(t), certs.MinterOptions{})
	for name, host := range map[string]string{
		"nothing":                     "",
		"a wildcard":                  "*.example.com",
		"upper case":                  "API.example.com",
		"a host and port":             "api.example.com:443",
		"a U-label":                   "bücher.example",
		"a space":                     "api example.com",
		"a NUL":                       "api.example.com\x00.evil",
		"an IPv6 address in brackets": "[2001:db8::7]",
		"an IPv6 address with a zone": "fe80::1%eth0",
		"a name of 254 bytes":         strings.Repeat("a.", 127),
	} {
		t.Run(name, func(t *testing.T) {
			if c, err := m.Leaf(t.Context(), host); !errors.Is(err, certs.ErrHost) {
				t.Errorf("got %v and error %v, want ErrHost", c, err)
			}
		})
	}
	if got := m.Stats().Minted; got != 0 {
		t.Errorf("%d leaves were minted", got)
	}
}

func TestGoAcceptsEachLeaf(t *testing.T) {
	a := newAuthority(t)
	m := newMinter(t, a, certs.MinterOptions{})
	roots := x509.NewCertPool()
	roots.AddCert(a.Certificate())
	for name, host := range hosts {
		t.Run(name, func(t *testing.T) {
			leaf := leafFor(t, m, host).Leaf
			_, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots})
			if err != nil {
				t.Error(err)
			}
			if err := leaf.VerifyHostname("other.example.com"); err == nil {
				t.Error("the leaf is good for another host too")
			}
		})
	}
}

func TestOpenSSLAcceptsEachLeafStrictly(t *testing.T) {
	a := newAuthority(t)
	m := newMinter(t, a, certs.MinterOptions{})
	dir := t.TempDir()
	ca := write(t, dir, "ca.pem", a.PEM())
	for name, host := range hosts {
		t.Run(name, func(t *testing.T) {
			leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leafFor(t, m, host).Certificate[0]})
			file := write(t, t.TempDir(), "leaf.pem", leaf)
			check := "-verify_hostname"
			if ip, err := netip.ParseAddr(host); err == nil {
				check, host = "-verify_ip", ip.Unmap().String()
			}
			run(t, "openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", ca, check, host, file)
		})
	}
}

// strictHandshakes connects to each "HOST PORT" of its arguments as Python 3.13
// does by default.
const strictHandshakes = `
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
for pair in sys.argv[2:]:
    host, port = pair.split()
    try:
        with socket.create_connection(("127.0.0.1", int(port)), 10) as raw:
            with context.wrap_socket(raw, server_hostname=host) as conn:
                assert conn.recv(2) == b"ok"
    except Exception as e:
        sys.exit(f"{host}: {e}")
`

func TestPythonAcceptsEachLeafStrictly(t *testing.T) {
	a := newAuthority(t)
	m := newMinter(t, a, certs.MinterOptions{})
	args := []string{"-I", "-c", strictHandshakes, write(t, t.TempDir(), "ca.pem", a.PEM())}
	for _, host := range hosts {
		if ip, err := netip.ParseAddr(host); err == nil {
			host = ip.Unmap().String()
		}
		_, port, err := net.SplitHostPort(serveOnce(t, leafFor(t, m, host)))
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, host+" "+port)
	}
	run(t, "python3", args...)
}

// serveOnce answers one TLS connection with "ok", and returns its address.
func serveOnce(t *testing.T, c *tls.Certificate) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*c}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Write([]byte("ok"))
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

func write(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}
