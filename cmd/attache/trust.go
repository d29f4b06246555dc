package main

import (
	"crypto/sha1"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// trustStore is a system's list of CAs that every program trusts. What is done to
// it is a script, so that what is shown to people is what runs.
type trustStore struct {
	name  string
	shell []string // the script is its last argument

	begin, end string                    // of each script
	add        func(*certificate) string // lines of the script
	remove     func(*certificate) string
}

func (s trustStore) install(all []*certificate) string   { return s.script(s.add, all) }
func (s trustStore) uninstall(all []*certificate) string { return s.script(s.remove, all) }

func (s trustStore) script(step func(*certificate) string, all []*certificate) string {
	var b strings.Builder
	b.WriteString(s.begin)
	for _, c := range all {
		b.WriteString(step(c))
	}
	b.WriteString(s.end)
	return b.String()
}

// certificate is one of the CA's certificates, with what trust stores call it.
type certificate struct {
	pem  string
	sha1 string // upper-case hexadecimal: a name here, and nothing relies on it
	file string
}

// parseBundle takes a bundle apart. It comes from the API and goes into a script
// for root, so the PEM is written anew: it holds base64 and nothing else.
func parseBundle(bundle string) ([]*certificate, error) {
	var all []*certificate
	for rest := []byte(bundle); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		parsed, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the CA's certificates: %w", err)
		}
		sum := sha1.Sum(parsed.Raw)
		all = append(all, &certificate{
			pem:  string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: parsed.Raw})),
			sha1: fmt.Sprintf("%X", sum),
			file: fmt.Sprintf("attache-%x.crt", sum[:4]),
		})
	}
	if len(all) == 0 {
		return nil, errors.New("the CA has no certificate")
	}
	return all, nil
}

// systemTrust is the trust store of an operating system; isDir tells the Linux
// distributions apart.
func systemTrust(goos string, isDir func(path string) bool) (trustStore, bool) {
	switch goos {
	case "darwin":
		return keychain(), true
	case "windows":
		return windowsRoot(), true
	case "linux":
		for _, anchors := range []struct{ name, dir, refresh string }{
			{"openSUSE", "/etc/pki/trust/anchors", "update-ca-certificates --fresh"},
			{"Debian, Ubuntu or Alpine", "/usr/local/share/ca-certificates", "update-ca-certificates --fresh"},
			{"Fedora or RHEL", "/etc/pki/ca-trust/source/anchors", "update-ca-trust extract"},
			{"Arch Linux", "/etc/ca-certificates/trust-source/anchors", "update-ca-trust"},
		} {
			if isDir(anchors.dir) {
				return anchorDirectory(anchors.name, anchors.dir, anchors.refresh), true
			}
		}
	}
	return trustStore{}, false
}

// anchorDirectory is the trust store of a Linux distribution: a directory of
// certificates, and a command that reads it.
func anchorDirectory(name, dir, refresh string) trustStore {
	return trustStore{
		name: name, shell: []string{"sh", "-c"},
		begin: "set -eu\n", end: refresh + "\n",
		add: func(c *certificate) string {
			return fmt.Sprintf("cat >%[1]s/%[2]s <<'EOF'\n%[3]sEOF\nchmod 644 %[1]s/%[2]s\n", dir, c.file, c.pem)
		},
		remove: func(c *certificate) string { return fmt.Sprintf("rm -f %s/%s\n", dir, c.file) },
	}
}

func keychain() trustStore {
	const system = "/Library/Keychains/System.keychain"
	return trustStore{
		name: "macOS", shell: []string{"sh", "-c"},
		begin: "set -eu\n",
		add: func(c *certificate) string {
			return fmt.Sprintf("file=$(mktemp)\ncat >\"$file\" <<'EOF'\n%sEOF\n"+
				"security add-trusted-cert -d -r trustRoot -k %s \"$file\"\nrm \"$file\"\n", c.pem, system)
		},
		remove: func(c *certificate) string {
			return fmt.Sprintf("security delete-certificate -t -Z %s %s\n", c.sha1, system)
		},
	}
}

func windowsRoot() trustStore {
	return trustStore{
		name: "Windows", shell: []string{"powershell", "-NoProfile", "-NonInteractive", "-Command"},
		begin: "$ErrorActionPreference = 'Stop'\n",
		add: func(c *certificate) string {
			return fmt.Sprintf("$file = New-TemporaryFile\nSet-Content -Path $file -Value @'\n%s'@\n"+
				"certutil -addstore -f ROOT $file\n$code = $LASTEXITCODE\nRemove-Item $file\nif ($code) { exit $code }\n", c.pem)
		},
		remove: func(c *certificate) string { return fmt.Sprintf("certutil -delstore ROOT %s\n", c.sha1) },
	}
}
