package store

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"attache"
	"attache/secret"
)

// TestNoSecretIsInTheFiles looks for what was stored in every file but the
// master key's, as it is and as base64 and hexadecimal would show it.
func TestNoSecretIsInTheFiles(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.CreateIntegration(t.Context(), attache.Integration{Name: "bot"}))
	canary := func(n int) secret.Text { return secret.New(fmt.Sprintf("canary-%d-of-the-secrets", n)) }
	must(t, s.CreateConnection(t.Context(), attache.Connection{Integration: "bot", Name: "c", AllowedDomain: "canary.domain.example", Credential: attache.Credential{
		APIKey: canary(0), Username: canary(1), Password: canary(2), Token: canary(3),
	}}))
	must(t, s.UpdateConnection(t.Context(), "bot", "c", func(c *attache.Connection) error { c.Credential.APIKey = canary(4); return nil }))
	must(t, s.SaveAuthorities(t.Context(), []Authority{{Key: canary(5)}}))
	client := oauthClient("bot", "client")
	client.ClientSecret, client.Provider.PrivateKey, client.Provider.Certificate = canary(6), canary(7), canary(8)
	must(t, s.CreateOAuthClient(t.Context(), client))
	must(t, s.CreateConnection(t.Context(), oauth("bot", "o")))
	must(t, s.UpdateGrant(t.Context(), "bot", "o", func(g *attache.Grant) error {
		g.AccessToken, g.RefreshToken = canary(9), canary(10)
		return nil
	}))
	must(t, s.Close())

	text, err := os.ReadFile(filepath.Join(dir, masterKeyFile))
	must(t, err)
	key, err := decodeKey(text)
	must(t, err)
	secrets := []string{string(key), "canary.domain.example"}
	for n := range 11 {
		secrets = append(secrets, canary(n).Expose())
	}
	for _, name := range fileNames(t, dir) {
		file, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		if name == masterKeyFile {
			continue
		}
		for _, sec := range secrets {
			if shows(file, sec) {
				t.Errorf("%s shows %q", name, sec)
			}
			for _, encode := range []func(string) string{
				func(s string) string { return s },
				func(s string) string { return hex.EncodeToString([]byte(s)) },
				func(s string) string { return base64.StdEncoding.EncodeToString([]byte("x" + s)) },
				func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte("xx" + s)) },
			} {
				if !shows(slices.Concat(file, []byte(encode(sec)), file), sec) {
					t.Fatal("the search would not find it")
				}
			}
		}
	}
}

// shows reports whether the secret is in a file, in the clear or encoded.
func shows(file []byte, secret string) bool {
	forms := []string{secret, hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret)))}
	for skip := range 3 { // base64 looks different by where in three bytes it begins
		whole := []byte(secret[skip:])
		whole = whole[:len(whole)/3*3]
		forms = append(forms, base64.StdEncoding.EncodeToString(whole), base64.URLEncoding.EncodeToString(whole))
	}
	return slices.ContainsFunc(forms, func(f string) bool { return bytes.Contains(file, []byte(f)) })
}

// TestHeader keeps decodeHeader from accepting what it did not write.
func TestHeader(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := header{Schema: schema, Key: wrappedKey{MasterID: rapid.SliceOf(rapid.Byte()).Draw(t, "id")}}
		b, err := h.encode()
		if err != nil {
			t.Fatal(err)
		}
		b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := decodeHeader(b); !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	})
}
