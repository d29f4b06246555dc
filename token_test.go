package attache_test

import (
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"attache"
)

var prefixes = []attache.TokenPrefix{attache.AccessTokenPrefix, attache.AdminTokenPrefix}

func TestANewTokenIsFoundByItsHash(t *testing.T) {
	ids, tokens := map[string]bool{}, map[string]bool{}
	for _, prefix := range prefixes {
		for range 50 {
			id, token, hash := attache.NewToken(prefix)
			s := token.Expose()
			got, err := attache.ParseToken(prefix, s)
			if err != nil || got != hash || hash != sha256.Sum256([]byte(s)) {
				t.Fatalf("the token's hash is %x, %v, want %x", got, err, hash)
			}
			if !strings.HasPrefix(s, string(prefix)) || len(s) != len(prefix)+49 || notAlphanumeric(s[len(prefix):]) || notAlphanumeric(id) {
				t.Errorf("the token or its ID is not of letters and digits, or not of the usual length")
			}
			ids[id], tokens[s] = true, true
		}
	}
	if len(ids) != 100 || len(tokens) != 100 {
		t.Errorf("100 tokens are %d, with %d IDs", len(tokens), len(ids))
	}
}

func notAlphanumeric(s string) bool {
	return strings.Trim(s, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") != ""
}

// wellKnown is a token whose random part is zero. It has to be accepted for
// ever, or tokens that are out there are not.
const wellKnown = "att_" + "0000000000000000000000000000000000000000000" + "4ZCMmG"

func TestTokensThatAreNone(t *testing.T) {
	for sentence, s := range map[string]string{
		"nothing":                        "",
		"the prefix alone":               "att_",
		"a token cut short":              wellKnown[:len(wellKnown)-1],
		"a token with something behind":  wellKnown + "0",
		"a token with a line break":      wellKnown + "\n",
		"a token without its prefix":     strings.TrimPrefix(wellKnown, "att_"),
		"a token with an admin's prefix": strings.Replace(wellKnown, "att_", "attadmin_", 1),
		"a token in another case":        strings.ToUpper(wellKnown),
		"a password":                     "correct horse battery staple",
	} {
		t.Run(sentence, func(t *testing.T) {
			if _, err := attache.ParseToken(attache.AccessTokenPrefix, s); !errors.Is(err, attache.ErrMalformedToken) {
				t.Errorf("the error is %v, want ErrMalformedToken", err)
			}
		})
	}
	if _, err := attache.ParseToken(attache.AccessTokenPrefix, wellKnown); err != nil {
		t.Errorf("a token of the first release: %v", err)
	}
}

func TestAnyMistypedCharacterIsNoticed(t *testing.T) {
	_, token, _ := attache.NewToken(attache.AccessTokenPrefix)
	s := token.Expose()
	for i := range s {
		for _, c := range []byte{'0', 'z', '-', s[(i+1)%len(s)]} {
			typed := s[:i] + string(c) + s[i+1:]
			if _, err := attache.ParseToken(attache.AccessTokenPrefix, typed); (err == nil) != (typed == s) {
				t.Errorf("character %d: %v", i, err)
			}
		}
		if i > 0 {
			swapped := s[:i-1] + s[i:i+1] + s[i-1:i] + s[i+1:]
			if _, err := attache.ParseToken(attache.AccessTokenPrefix, swapped); (err == nil) != (swapped == s) {
				t.Errorf("characters %d and %d swapped: %v", i-1, i, err)
			}
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(wellKnown)
	f.Add("att_")
	f.Add("attadmin_" + strings.Repeat("z", 49))
	f.Fuzz(func(t *testing.T, s string) {
		accepted := 0
		for _, prefix := range prefixes {
			hash, err := attache.ParseToken(prefix, s)
			switch {
			case err == nil && hash == sha256.Sum256([]byte(s)) && strings.HasPrefix(s, string(prefix)):
				accepted++
			case errors.Is(err, attache.ErrMalformedToken) && hash == attache.TokenHash{}:
			default:
				t.Errorf("%q is %x, %v", s, hash, err)
			}
		}
		if accepted > 1 {
			t.Errorf("%q is two kinds of token", s)
		}
	})
}

func TestTokensExpire(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for sentence, c := range map[string]struct {
		at   time.Time
		want bool
	}{
		"a token without a time never does":  {time.Time{}, false},
		"a token does at its time":           {now, true},
		"a token does not before its time":   {now.Add(time.Nanosecond), false},
		"a token has expired after its time": {now.Add(-time.Hour), true},
		"the time zone does not matter":      {now.Add(time.Second).In(time.FixedZone("", -7200)), false},
	} {
		t.Run(sentence, func(t *testing.T) {
			if got := (&attache.AccessToken{ExpiresAt: c.at}).Expired(now); got != c.want {
				t.Errorf("an access token has expired: %v", got)
			}
			if got := (&attache.AdminToken{ExpiresAt: c.at}).Expired(now); got != c.want {
				t.Errorf("an admin token has expired: %v", got)
			}
		})
	}
}
