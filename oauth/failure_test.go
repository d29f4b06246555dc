package oauth_test

import (
	"testing"

	"attache/oauth"
)

func TestWhatAnErrorSays(t *testing.T) {
	for want, e := range map[string]oauth.Error{
		"no answer from the provider: timeout":                                                  {Code: oauth.CodeTimeout},
		"the provider's answer: http_503":                                                       {Code: "http_503", Status: 503},
		"the provider's answer: access_denied (the person, or a rule of the provider, said no)": {Code: "access_denied", Kind: oauth.GrantRefused},
	} {
		if got := e.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
