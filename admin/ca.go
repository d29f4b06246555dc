package admin

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"attache"
)

// CA is what clients of the proxy have to trust.
type CA struct {
	PEM          string        `json:"pem" doc:"Every certificate below, as a client's trust store wants them."`
	Certificates []Certificate `json:"certificates" nullable:"false" doc:"The signing one first."`
}

// Certificate is one of the CA's certificates.
type Certificate struct {
	Fingerprint string    `json:"fingerprint" doc:"SHA-256 of the certificate, in hexadecimal."`
	Subject     string    `json:"subject" doc:"Its name." example:"CN=Attaché CA 0F1E2D3C"`
	NotAfter    time.Time `json:"not_after" doc:"When it expires."`
	Signing     bool      `json:"signing" doc:"Whether it signs; the others are trusted until they are dropped."`
}

// CertificatePath names a certificate.
type CertificatePath struct {
	Fingerprint string `path:"fingerprint" doc:"SHA-256 of the certificate, in hexadecimal; colons and case do not matter."`
}

func (a *API) authority(api huma.API) {
	const tag = "administration"
	register(a, api, route{
		method: http.MethodGet, path: "/ca", id: "show-ca", tag: tag, role: attache.RoleViewer,
		summary: "Show the CA", text: "Shows the certificates that clients of the proxy have to trust.",
	}, func(ctx context.Context, _ *struct{}) (*Answer[CA], error) { return a.showCA(ctx) })
	register(a, api, route{
		method: http.MethodPost, path: "/ca/rotate", id: "rotate-ca", tag: tag, role: attache.RoleAdmin,
		summary: "Rotate the CA",
		text: "Makes a new signing certificate. The one before stays in the bundle until it is dropped; clients need the " +
			"new bundle before they trust what the new one signs.",
	}, func(ctx context.Context, _ *struct{}) (*Answer[CA], error) {
		if err := a.Authority.Rotate(ctx); err != nil {
			return nil, err
		}
		return a.showCA(ctx)
	})
	register(a, api, route{
		method: http.MethodDelete, path: "/ca/{fingerprint}", id: "drop-ca", tag: tag, role: attache.RoleAdmin,
		summary: "Drop an old CA certificate", text: "Takes a certificate that no longer signs out of the bundle.",
		status: http.StatusNoContent, errors: []int{http.StatusNotFound, http.StatusConflict},
	}, a.dropCA)
}

func (a *API) showCA(ctx context.Context) (*Answer[CA], error) {
	certificates, err := a.Authority.Certificates(ctx)
	if err != nil {
		return nil, err
	}
	ca := CA{Certificates: []Certificate{}}
	for i, c := range certificates {
		ca.PEM += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
		ca.Certificates = append(ca.Certificates, Certificate{fingerprint(c), c.Subject.String(), c.NotAfter, i == 0})
	}
	return answer(ca), nil
}

func (a *API) dropCA(ctx context.Context, in *CertificatePath) (*Empty, error) {
	sum, err := hex.DecodeString(strings.ReplaceAll(in.Fingerprint, ":", ""))
	if err != nil || len(sum) != sha256.Size {
		return nil, attache.ErrNotFound
	}
	certificates, err := a.Authority.Certificates(ctx)
	if err != nil {
		return nil, err
	}
	if len(certificates) > 0 && sha256.Sum256(certificates[0].Raw) == [sha256.Size]byte(sum) {
		return nil, fail(CodeSigning, "It signs, so it cannot be dropped: rotate first, and give clients the new bundle.")
	}
	return nil, a.Authority.Drop(ctx, [sha256.Size]byte(sum))
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

func gone(err error) bool { return errors.Is(err, attache.ErrNotFound) }
