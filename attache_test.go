package attache_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"attache"
	"attache/secret"
)

// proxyStatusTypes are the error types of RFC 9209, section 2.3.
const proxyStatusTypes = `dns_timeout dns_error destination_not_found destination_unavailable
	destination_ip_prohibited destination_ip_unroutable connection_refused connection_terminated connection_timeout
	connection_read_timeout connection_write_timeout connection_limit_reached tls_protocol_error
	tls_certificate_error tls_alert_received http_request_error http_request_denied http_response_incomplete
	http_response_header_section_size http_response_header_size http_response_body_size
	http_response_trailer_section_size http_response_trailer_size http_response_transfer_coding
	http_response_content_coding http_response_timeout http_upgrade_failed http_protocol_error proxy_internal_response
	proxy_internal_error proxy_configuration_error proxy_loop_detected`

func TestEveryCodeSaysHowItSurfaces(t *testing.T) {
	source, err := os.ReadFile("code.go")
	if err != nil {
		t.Fatal(err)
	}
	var declared []attache.Code
	for _, m := range regexp.MustCompile(`(?m)^\tCode\w+ +Code = "(\w+)"`).FindAllSubmatch(source, -1) {
		declared = append(declared, attache.Code(m[1]))
	}
	slices.Sort(declared)
	if diff := cmp.Diff(declared, slices.Sorted(slices.Values(attache.Codes()))); diff != "" {
		t.Errorf("codes without a status (-declared +listed):\n%s", diff)
	}
	titles := map[string]bool{}
	for _, c := range attache.Codes() {
		t.Run(string(c), func(t *testing.T) {
			if s := c.Status(); s < 400 || s > 599 {
				t.Errorf("the status is %d", s)
			}
			if (c.Status() == 407) != strings.HasPrefix(string(c), "access_token_") {
				t.Error("407 is for access tokens and for nothing else")
			}
			if c.Title() == "" || strings.HasSuffix(c.Title(), ".") || titles[c.Title()] {
				t.Errorf("the title is %q: it is empty, a sentence or another code's", c.Title())
			}
			titles[c.Title()] = true
			if p := c.ProxyStatus(); p != "" && !slices.Contains(strings.Fields(proxyStatusTypes), p) {
				t.Errorf("%q is no error type of RFC 9209", p)
			}
		})
	}
	if c := attache.Code("something_else"); c.Status() != 500 || c.Title() != "" || c.ProxyStatus() != "" {
		t.Error("an unknown code is not an internal error")
	}
}

func TestTargets(t *testing.T) {
	for sentence, c := range map[string]struct {
		target       attache.Target
		addr, origin string
	}{
		"https on its port":              {attache.Target{Scheme: "https", Host: "api.example.com", Port: 443}, "api.example.com:443", "https://api.example.com"},
		"https on another port":          {attache.Target{Scheme: "https", Host: "api.example.com", Port: 8443}, "api.example.com:8443", "https://api.example.com:8443"},
		"https on http's port":           {attache.Target{Scheme: "https", Host: "api.example.com", Port: 80}, "api.example.com:80", "https://api.example.com:80"},
		"http on its port":               {attache.Target{Scheme: "http", Host: "api.example.com", Port: 80}, "api.example.com:80", "http://api.example.com"},
		"http on https's port":           {attache.Target{Scheme: "http", Host: "api.example.com", Port: 443}, "api.example.com:443", "http://api.example.com:443"},
		"an IPv4 address":                {attache.Target{Scheme: "https", Host: "192.0.2.1", Port: 443}, "192.0.2.1:443", "https://192.0.2.1"},
		"an IPv6 address gets brackets":  {attache.Target{Scheme: "https", Host: "2001:db8::1", Port: 443}, "[2001:db8::1]:443", "https://[2001:db8::1]"},
		"an IPv6 address and a port":     {attache.Target{Scheme: "http", Host: "::1", Port: 8080}, "[::1]:8080", "http://[::1]:8080"},
		"a mapped IPv4 address, as IPv6": {attache.Target{Scheme: "https", Host: "::ffff:192.0.2.1", Port: 443}, "[::ffff:192.0.2.1]:443", "https://[::ffff:192.0.2.1]"},
	} {
		t.Run(sentence, func(t *testing.T) {
			if got := c.target.Addr(); got != c.addr {
				t.Errorf("Addr is %q, want %q", got, c.addr)
			}
			if got := c.target.String(); got != c.origin {
				t.Errorf("String is %q, want %q", got, c.origin)
			}
		})
	}
}

func TestWhichHeaderCarriesTheCredential(t *testing.T) {
	for sentence, c := range map[string]struct {
		connection  attache.Connection
		name, value string
	}{
		"an API key goes into its own header, byte for byte": {attache.Connection{Type: attache.APIKey, HeaderName: "X-Api-Key",
			Credential: attache.Credential{APIKey: secret.New("Key a=b")}}, "X-Api-Key", "Key a=b"},
		"no API key, no value": {attache.Connection{Type: attache.APIKey, HeaderName: "X-Api-Key"}, "X-Api-Key", ""},
		"basic auth is base64 of user name and password": {attache.Connection{Type: attache.BasicAuth,
			Credential: attache.Credential{Username: secret.New("me"), Password: secret.New("pw")}}, "Authorization", "Basic bWU6cHc="},
		"basic auth needs no password": {attache.Connection{Type: attache.BasicAuth,
			Credential: attache.Credential{Username: secret.New("me")}}, "Authorization", "Basic bWU6"},
		"basic auth needs no user name": {attache.Connection{Type: attache.BasicAuth,
			Credential: attache.Credential{Password: secret.New("pw")}}, "Authorization", "Basic OnB3"},
		"neither user name nor password, no value": {attache.Connection{Type: attache.BasicAuth}, "Authorization", ""},
		"a bearer token is sent as one": {attache.Connection{Type: attache.BearerToken,
			Credential: attache.Credential{Token: secret.New("abc")}}, "Authorization", "Bearer abc"},
		"no bearer token, no value":        {attache.Connection{Type: attache.BearerToken}, "Authorization", ""},
		"no OAuth token, no value":         {attache.Connection{Type: attache.OAuth}, "Authorization", ""},
		"another type's field is not sent": {attache.Connection{Type: attache.BearerToken, Credential: attache.Credential{APIKey: secret.New("k")}}, "Authorization", ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			name, value := c.connection.Header()
			if name != c.name || value.Expose() != c.value {
				t.Errorf("%s: %s, want %s: %s", name, value.Expose(), c.name, c.value)
			}
		})
	}
}

func TestFieldErrors(t *testing.T) {
	got := map[string]string{
		"with a remedy":    (&attache.FieldError{Field: "name", Rule: "is taken", Remedy: "choose another"}).Error(),
		"without a remedy": (&attache.FieldError{Field: "name", Rule: "is taken"}).Error(),
	}
	want := map[string]string{
		"with a remedy":    "name is taken: choose another",
		"without a remedy": "name is taken",
	}
	if !maps.Equal(got, want) {
		t.Errorf("errors (-want +got):\n%s", cmp.Diff(want, got))
	}
}
