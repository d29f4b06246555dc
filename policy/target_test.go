package policy_test

import (
	"strings"
	"testing"
	"time"

	"attache"
	"attache/policy"
)

func TestTargets(t *testing.T) {
	const (
		port      = "has a port that is not a number from 1 to 65535"
		brackets  = "has brackets around what is not an IPv6 address without a zone"
		number    = "is a number that is not an IPv4 address in its usual form"
		character = "has a character that no host name has"
		userinfo  = "has user information"
	)
	for sentence, c := range map[string]struct {
		scheme, authority string
		host              string // empty where the rule is broken
		port              uint16
		rule              string
	}{
		"a host and a port":                              {"https", "api.example.com:8443", "api.example.com", 8443, ""},
		"https has port 443":                             {"https", "api.example.com", "api.example.com", 443, ""},
		"http has port 80":                               {"http", "api.example.com", "api.example.com", 80, ""},
		"another scheme is refused":                      {"ftp", "api.example.com", "", 0, "has a scheme other than http and https"},
		"a host of one label passes":                     {"https", "localhost", "localhost", 443, ""},
		"an underscore passes, such names resolve":       {"https", "my_bucket.example.com", "my_bucket.example.com", 443, ""},
		"hyphens at the ends pass, such names resolve":   {"https", "-a-.example.com", "-a-.example.com", 443, ""},
		"upper case is lowered":                          {"https", "API.Example.COM:443", "api.example.com", 443, ""},
		"one trailing dot is dropped":                    {"https", "api.example.com.:443", "api.example.com", 443, ""},
		"two trailing dots are refused":                  {"https", "api.example.com..:443", "", 0, "has an empty label"},
		"U-labels become A-labels":                       {"https", "Bücher.example", "xn--bcher-kva.example", 443, ""},
		"A-labels are lowered":                           {"https", "XN--bcher-kva.example", "xn--bcher-kva.example", 443, ""},
		"A-labels that are none are refused":             {"https", "xn--a.example", "", 0, "is not a valid internationalized domain name"},
		"an IPv4 address passes":                         {"https", "192.0.2.1:443", "192.0.2.1", 443, ""},
		"an IPv4 address drops its dot":                  {"https", "192.0.2.1.", "192.0.2.1", 443, ""},
		"an IPv6 address loses its brackets":             {"https", "[2001:db8::1]:443", "2001:db8::1", 443, ""},
		"an IPv6 address needs no port":                  {"http", "[::1]", "::1", 80, ""},
		"an IPv6 address gets its short form":            {"https", "[2001:0DB8:0:0::0001]", "2001:db8::1", 443, ""},
		"an IPv6 address without brackets is refused":    {"https", "2001:db8::1", "", 0, port},
		"a zone is refused":                              {"https", "[fe80::1%eth0]:443", "", 0, brackets},
		"an escaped zone is refused":                     {"https", "[fe80::1%25eth0]:443", "", 0, brackets},
		"an IPv4 address in brackets is refused":         {"https", "[192.0.2.1]", "", 0, brackets},
		"a name in brackets is refused":                  {"https", "[example.com]", "", 0, brackets},
		"a bracket alone is refused":                     {"https", "[::1", "", 0, port},
		"text after the bracket is refused":              {"https", "[::1]x:443", "", 0, brackets},
		"a bracket after the name is refused":            {"https", "example.com]:443", "", 0, character},
		"a hexadecimal IPv4 address is refused":          {"https", "0x7f.1", "", 0, number},
		"an IPv4 address as one number is refused":       {"https", "2130706433", "", 0, number},
		"a short IPv4 address is refused":                {"https", "127.1", "", 0, number},
		"an octal IPv4 address is refused":               {"https", "0177.0.0.1", "", 0, number},
		"an IPv4 address of five numbers is refused":     {"https", "1.2.3.4.5", "", 0, number},
		"an empty hexadecimal number is refused":         {"https", "1.2.3.0x", "", 0, number},
		"full-width digits are no address":               {"https", "１２７.0.0.1", "", 0, number},
		"circled digits are no address":                  {"https", "①②⑦.0.0.1", "", 0, number},
		"a name of digits and letters passes":            {"https", "1e100.net", "1e100.net", 443, ""},
		"user information is refused":                    {"https", "user@example.com", "", 0, userinfo},
		"user information with a password is refused":    {"https", "user:pw@example.com", "", 0, port},
		"an address after user information is refused":   {"https", "api.example.com:443@evil.org:443", "", 0, port},
		"nothing is refused":                             {"https", "", "", 0, "is empty"},
		"a port alone is refused":                        {"https", ":443", "", 0, "is empty"},
		"a dot alone is refused":                         {"https", ".:443", "", 0, "is empty"},
		"an empty port is refused":                       {"https", "example.com:", "", 0, port},
		"port 0 is refused":                              {"https", "example.com:0", "", 0, port},
		"port 65535 passes":                              {"https", "example.com:65535", "example.com", 65535, ""},
		"port 65536 is refused":                          {"https", "example.com:65536", "", 0, port},
		"a very long port is refused":                    {"https", "example.com:4294967739", "", 0, port},
		"a port with a leading zero is refused":          {"https", "example.com:0443", "", 0, port},
		"a port with a plus is refused":                  {"https", "example.com:+443", "", 0, port},
		"a port with a minus is refused":                 {"https", "example.com:-1", "", 0, port},
		"a port by name is refused":                      {"https", "example.com:https", "", 0, port},
		"a port with a space is refused":                 {"https", "example.com:443 ", "", 0, port},
		"two ports are refused":                          {"https", "example.com:443:443", "", 0, port},
		"an escape is refused":                           {"https", "example%2ecom", "", 0, character},
		"a NUL is refused":                               {"https", "example.com\x00.evil.org", "", 0, character},
		"a space is refused":                             {"https", "example.com evil.org", "", 0, character},
		"a tab is refused":                               {"https", "\texample.com", "", 0, character},
		"a slash is refused":                             {"https", "example.com/", "", 0, character},
		"a backslash is refused":                         {"https", `evil.org\.example.com`, "", 0, character},
		"a number sign is refused":                       {"https", "evil.org#.example.com", "", 0, character},
		"a comma is refused":                             {"https", "a.example,b.example", "", 0, character},
		"a wildcard is refused":                          {"https", "*.example.com", "", 0, character},
		"a full-width slash is refused":                  {"https", "evil.org／.example.com", "", 0, "is not a valid internationalized domain name"},
		"a byte that is not UTF-8 is refused":            {"https", "example\xff.com", "", 0, "is not a valid internationalized domain name"},
		"a label of 64 characters is refused":            {"https", strings.Repeat("a", 64) + ".com", "", 0, "has a label longer than 63 characters"},
		"a name of 254 characters is refused":            {"https", strings.Repeat("a.", 126) + "aa", "", 0, "is longer than 253 characters"},
		"a mapped IPv4 address stays what it is":         {"https", "[::ffff:127.0.0.1]", "::ffff:127.0.0.1", 443, ""},
		"a name in Cyrillic is not its Latin look-alike": {"https", "аpi.example.com", "xn--pi-6kc.example.com", 443, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			got, err := policy.ParseTarget(c.scheme, c.authority)
			if rule := broken(t, err, "target", c.authority); rule != c.rule {
				t.Fatalf("broken rule %q, want %q", rule, c.rule)
			}
			want := attache.Target{Scheme: c.scheme, Host: c.host, Port: c.port}
			if c.rule != "" {
				want = attache.Target{}
			}
			if got != want {
				t.Errorf("got %#v, want %#v", got, want)
			}
		})
	}
}

// IDNA takes seconds for as many different characters as fit into a head.
func TestATargetThatIsFarTooLongIsRefusedAtOnce(t *testing.T) {
	var long strings.Builder
	for r := range rune(20_000) {
		long.WriteRune('一' + r)
	}
	begin := time.Now()
	_, err := policy.ParseTarget("https", long.String())
	if rule := broken(t, err, "target", ""); rule != "is longer than 253 characters" {
		t.Errorf("broken rule %q", rule)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestACanonicalTargetTakesNoMemory(t *testing.T) {
	for _, authority := range []string{"api.example.com:443", "a-b.c_d.example.com"} {
		if n := testing.AllocsPerRun(100, func() { _, _ = policy.ParseTarget("https", authority) }); n != 0 {
			t.Errorf("%s takes %v allocations, want none", authority, n)
		}
	}
}
