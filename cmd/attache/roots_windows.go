package main

import (
	"bytes"
	"encoding/pem"
	"unsafe"

	"golang.org/x/sys/windows"
)

// systemRoots are the root certificates of this system, in PEM.
func systemRoots() ([]byte, error) {
	name, err := windows.UTF16PtrFromString("ROOT")
	if err != nil {
		return nil, err
	}
	store, err := windows.CertOpenSystemStore(0, name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = windows.CertCloseStore(store, 0) }()
	var out bytes.Buffer
	var at *windows.CertContext
	for {
		// It frees the one before; its error is that there are no more.
		if at, _ = windows.CertEnumCertificatesInStore(store, at); at == nil {
			return out.Bytes(), nil
		}
		der := unsafe.Slice(at.EncodedCert, at.Length)
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
}
