// Package secret holds text that must not be seen: it cannot be printed,
// logged or encoded by accident.
//
// A [Text] redacts itself for every fmt verb, for log/slog, and for every
// encoder that honours encoding.TextMarshaler (JSON, YAML, XML). Its only
// field is an unexported pointer, so that even where no method can be called,
// in an unexported field of somebody else's struct, what is printed is an
// address.
//
// The way out is one visible word, [Text.Expose]. It is called where a record is
// sealed, for the endpoints of OAuth providers, and where a request, or a tunnel
// through a parent proxy, is given its credential. [Outgoing] is the way out for
// the admin API and its client, and for what is exported, which is encrypted at
// once. A test of the module's root holds who uses which.
// What has to be built from secrets on the way there ([Concat], [BasicAuth], a
// signing key) is built in here; [Bundle] is for keeping very many of them.
package secret

import (
	"bytes"
	"crypto"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Redacted is what a Text shows of itself.
const Redacted = "[redacted]"

// ErrRedacted is returned when a Text is decoded from [Redacted]: somebody
// read a record, edited it and wrote it back. Taking the placeholder for the
// secret would destroy the real one.
var ErrRedacted = errors.New(`the value is the placeholder "` + Redacted + `", not a secret: leave the field out to keep what is stored`)

// Text is a string that shows itself only to those who call [Text.Expose].
// The zero Text is empty. A Text is immutable, so copies may be shared between
// goroutines.
type Text struct{ p *string }

// New wraps s. An empty s gives the zero Text.
func New(s string) Text {
	if s == "" {
		return Text{}
	}
	s = strings.Clone(s)
	return Text{&s}
}

// Expose returns the secret itself.
func (t Text) Expose() string {
	if t.p == nil {
		return ""
	}
	return *t.p
}

// IsZero reports whether there is nothing in it. Encoders use it for omitzero.
func (t Text) IsZero() bool { return t.p == nil }

// Len is the secret's length in bytes.
func (t Text) Len() int { return len(t.Expose()) }

// Equal compares in time that depends on the lengths alone.
func (t Text) Equal(u Text) bool {
	return subtle.ConstantTimeCompare([]byte(t.Expose()), []byte(u.Expose())) == 1
}

// Check returns the error of ok applied to the secret. It lets a rule look at a
// secret (its length, its alphabet) without letting it out; ok must not keep it,
// nor name it in its error.
func (t Text) Check(ok func(string) error) error { return ok(t.Expose()) }

// Format implements [fmt.Formatter]: every verb prints [Redacted], or nothing
// for the zero Text.
func (t Text) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.shown()) }

// LogValue implements [slog.LogValuer].
func (t Text) LogValue() slog.Value { return slog.StringValue(t.shown()) }

// MarshalText implements [encoding.TextMarshaler] with the redacted form.
func (t Text) MarshalText() ([]byte, error) { return []byte(t.shown()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. It refuses the redacted
// form with [ErrRedacted].
func (t *Text) UnmarshalText(b []byte) error {
	if bytes.Equal(b, []byte(Redacted)) {
		return ErrRedacted
	}
	*t = New(string(b))
	return nil
}

func (t Text) shown() string {
	if t.p == nil {
		return ""
	}
	return Redacted
}

// Concat joins texts into one.
func Concat(parts ...Text) Text {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(p.Expose())
	}
	return New(b.String())
}

// BasicAuth is the value of an Authorization header for a user name and a
// password (RFC 7617, in UTF-8).
func BasicAuth(username, password Text) Text {
	return New("Basic " + base64.StdEncoding.EncodeToString([]byte(username.Expose()+":"+password.Expose())))
}

// FromPrivateKey encodes a signing key as PKCS #8 PEM.
func FromPrivateKey(key crypto.Signer) (Text, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Text{}, fmt.Errorf("encode private key: %w", err)
	}
	return New(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))), nil
}

// PrivateKey decodes what [FromPrivateKey] encoded. Its errors show no part of
// the key.
func (t Text) PrivateKey() (crypto.Signer, error) {
	block, _ := pem.Decode([]byte(t.Expose()))
	if block == nil {
		return nil, errors.New("private key: not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("private key: not PKCS #8")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("private key: cannot sign")
	}
	return signer, nil
}

// Outgoing is a Text on the one road where it has to be read by the other side:
// a request body in which an administrator sends us a credential, the one answer
// that shows a new access token, and what is inside the encrypted file of an
// export. JSON carries it in the clear; fmt and slog still print it redacted.
type Outgoing struct{ Text }

// MarshalText implements [encoding.TextMarshaler] with the secret itself.
func (o Outgoing) MarshalText() ([]byte, error) { return []byte(o.Expose()), nil }
