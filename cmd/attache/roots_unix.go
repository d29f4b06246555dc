//go:build unix

package main

import (
	"errors"
	"io/fs"
	"os"
)

// systemRoots are the root certificates of this system, in PEM, from the first
// of the places where systems have them.
func systemRoots() ([]byte, error) {
	for _, path := range []string{
		"/etc/ssl/certs/ca-certificates.crt",                // Debian, Arch, Gentoo
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
		"/etc/pki/tls/certs/ca-bundle.crt",                  // older ones of these
		"/etc/ssl/ca-bundle.pem",                            // SUSE
		"/etc/ssl/cert.pem",                                 // macOS, BSDs, Alpine
		"/usr/local/share/certs/ca-root-nss.crt",            // FreeBSD
	} {
		if pem, err := os.ReadFile(path); !errors.Is(err, fs.ErrNotExist) {
			return pem, err
		}
	}
	return nil, nil // a machine without roots trusts nobody else
}
