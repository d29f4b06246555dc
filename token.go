package attache

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"hash/crc32"
	"math/big"
	"strings"
	"time"

	"attache/secret"
)

// TokenHash is the SHA-256 of a token. A token has 256 random bits, so a plain
// hash is as good as a slow one, and can be looked up by key.
type TokenHash [sha256.Size]byte

// AccessToken is what an integration's client presents to the proxy. The token
// itself is shown once, when it is made, and not kept.
type AccessToken struct {
	ID          string // public, for listing and revoking
	Integration string
	Hash        TokenHash
	CreatedAt   time.Time
	ExpiresAt   time.Time // zero: never
}

// Expired reports whether the token has run out at the time now.
func (t *AccessToken) Expired(now time.Time) bool {
	return !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt)
}

// Role says what the holder of an admin token may do.
type Role string

// The roles, each with what the one below it may do.
const (
	RoleAdmin    Role = "admin"    // everything
	RoleOperator Role = "operator" // connections and access tokens; not admin tokens, not the CA
	RoleViewer   Role = "viewer"   // read
)

// AdminToken opens the admin API and the UI over TCP. Like an access token it
// is kept as a hash.
type AdminToken struct {
	ID        string
	Role      Role
	Hash      TokenHash
	CreatedAt time.Time
	ExpiresAt time.Time // zero: never
}

// Expired reports whether the token has run out at the time now.
func (t *AdminToken) Expired(now time.Time) bool {
	return !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt)
}

// TokenPrefix begins a token, so that people and secret scanners recognise it.
type TokenPrefix string

// The two kinds of tokens.
const (
	AccessTokenPrefix TokenPrefix = "att_"
	AdminTokenPrefix  TokenPrefix = "attadmin_"
)

const (
	base62       = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	tokenRandom  = 32 // bytes
	tokenDigits  = 43 // base62 digits that hold them
	tokenIDBytes = 9
	checkDigits  = 6 // base62 digits that hold a CRC-32
)

// ErrMalformedToken: the text is not a token of that kind, or was mistyped or
// cut short; its checksum tells without a look-up.
var ErrMalformedToken = errors.New("not a token")

// NewToken makes a token: the prefix, 32 random bytes in base62, and a checksum
// over both, so that a mistyped token is told from a revoked one. It returns a
// public ID too.
func NewToken(prefix TokenPrefix) (id string, token secret.Text, hash TokenHash) {
	var b [tokenRandom]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	body := string(prefix) + digits(new(big.Int).SetBytes(b[:]), tokenDigits)
	token = secret.New(body + checksum(body))
	_ = token.Check(func(s string) error {
		hash = sha256.Sum256([]byte(s))
		return nil
	})
	var n [tokenIDBytes]byte
	_, _ = rand.Read(n[:])
	return digits(new(big.Int).SetBytes(n[:]), 13), token, hash
}

// ParseToken checks the form of a token and returns the hash to look it up by,
// or [ErrMalformedToken].
func ParseToken(prefix TokenPrefix, s string) (TokenHash, error) {
	body, ok := strings.CutPrefix(s, string(prefix))
	if !ok || len(body) != tokenDigits+checkDigits {
		return TokenHash{}, ErrMalformedToken
	}
	cut := len(s) - checkDigits
	if checksum(s[:cut]) != s[cut:] {
		return TokenHash{}, ErrMalformedToken
	}
	return sha256.Sum256([]byte(s)), nil
}

func checksum(s string) string {
	return digits(big.NewInt(int64(crc32.ChecksumIEEE([]byte(s)))), checkDigits)
}

// digits writes n in base62 with exactly width digits.
func digits(n *big.Int, width int) string {
	out := make([]byte, width)
	base, rem := big.NewInt(int64(len(base62))), new(big.Int)
	for i := width - 1; i >= 0; i-- {
		n.DivMod(n, base, rem)
		out[i] = base62[rem.Int64()]
	}
	return string(out)
}
