package policy_test

import (
	"errors"
	"strings"
	"testing"

	"attache"
	"attache/policy"
)

// broken is the rule that err says was broken, after a look at whether the error
// is one that the API can answer with. It is empty for no error.
func broken(t *testing.T, err error, field, value string) string {
	t.Helper()
	if err == nil {
		return ""
	}
	fe, ok := errors.AsType[*attache.FieldError](err)
	if !ok {
		t.Fatalf("the error is a %T, want a *attache.FieldError", err)
	}
	if fe.Field != field {
		t.Errorf("the error is about the field %q, want %q", fe.Field, field)
	}
	if len(value) > 8 && strings.Contains(err.Error(), value) {
		t.Errorf("the error repeats the value: %v", err)
	}
	return fe.Rule
}

func TestNames(t *testing.T) {
	const rule = "must be 3 to 64 characters of A-Z a-z 0-9 _ -"
	for sentence, c := range map[string]struct{ name, rule string }{
		"three characters are enough":             {"abc", ""},
		"64 characters are allowed":               {strings.Repeat("x", 64), ""},
		"letters, digits, _ and - are allowed":    {"Az09_-", ""},
		"two characters are too few":              {"ab", rule},
		"nothing is too little":                   {"", rule},
		"65 characters are too many":              {strings.Repeat("x", 65), rule},
		"a space is refused":                      {"a name", rule},
		"a dot is refused, it ends a user name":   {"bot.github", rule},
		"a slash is refused":                      {"../etc", rule},
		"a letter beyond ASCII is refused":        {"naïve", rule},
		"a full-width letter is refused":          {"ａbc", rule},
		"a line break at the end is refused":      {"abc\n", rule},
		"a byte that is not UTF-8 is refused":     {"abc\xff", rule},
		"a colon is refused, it ends a user name": {"a:b:c", rule},
	} {
		t.Run(sentence, func(t *testing.T) {
			got, err := policy.ParseName("name", c.name)
			if rule := broken(t, err, "name", c.name); rule != c.rule {
				t.Errorf("broken rule %q, want %q", rule, c.rule)
			}
			if err == nil && got != c.name {
				t.Errorf("got %q, want it as it was", got)
			}
		})
	}
}

func TestHeaderNames(t *testing.T) {
	const (
		form     = "must be 1 to 128 characters of letters, digits and # + - _ |"
		standard = "is a standard header that never carries an API key"
		framing  = "is a header that frames the message or belongs to the proxy"
	)
	for sentence, c := range map[string]struct{ name, rule string }{
		"the usual one is allowed, and keeps its case":    {"X-API-Key", ""},
		"Authorization is allowed":                        {"Authorization", ""},
		"every allowed character is allowed":              {"aZ09#+-_|", ""},
		"128 characters are allowed":                      {strings.Repeat("x", 128), ""},
		"129 characters are too many":                     {strings.Repeat("x", 129), form},
		"nothing is too little":                           {"", form},
		"a space is refused":                              {"X Key", form},
		"a colon is refused":                              {"X-Key:", form},
		"a line break is refused":                         {"X-Key\r\nHost", form},
		"a dot is refused, though RFC 9110 has it":        {"X.Key", form},
		"a letter beyond ASCII is refused":                {"X-Clé", form},
		"the Kelvin sign is refused, not taken for a k":   {"\u212Aey", form},
		"Host is refused":                                 {"Host", standard},
		"a standard header is refused whatever its case":  {"cOOKie", standard},
		"TE is refused":                                   {"TE", standard},
		"Content-Length is refused, it frames":            {"Content-Length", framing},
		"Trailers is refused, it frames":                  {"trailers", framing},
		"Proxy-Connection is refused":                     {"Proxy-Connection", framing},
		"X-Amz- is refused":                               {"X-Amz-Date", "begins with x-amz-, which is reserved"},
		"X-Amzn- is refused":                              {"x-amzn-trace-id", "begins with x-amzn-, which is reserved"},
		"X-Forwarded- is refused":                         {"X-FORWARDED-For", "begins with x-forwarded-, which is reserved"},
		"X-Zis- is refused":                               {"X-Zis-Anything", "begins with x-zis-, which is reserved"},
		"Attache- is refused, it is ours":                 {"Attache-Connection", "begins with attache-, which is reserved"},
		"a name that only contains a reserved one passes": {"My-X-Amz-Key", ""},
		"a reserved prefix without its hyphen passes":     {"X-Amzing", ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			got, err := policy.ParseHeaderName(c.name)
			if rule := broken(t, err, "header_name", c.name); rule != c.rule {
				t.Errorf("broken rule %q, want %q", rule, c.rule)
			}
			if err == nil && string(got) != c.name {
				t.Errorf("got %q, want it as it was", got)
			}
		})
	}
}

func TestEveryStandardHeaderIsRefused(t *testing.T) {
	// The lists of rules H2 and H4, word for word.
	const list = `accept, accept-charset, accept-encoding, accept-language, cache-control, connection, content-md5,
		cookie, date, expect, from, host, if-match, if-modified-since, if-none-match, if-range, if-unmodified-since,
		max-forwards, pragma, proxy-authenticate, proxy-authorization, range, server, referer, te, trailer,
		transfer-encoding, upgrade, user-agent, via, warning, www-authenticate,
		content-length, content-type, content-encoding, keep-alive, proxy-connection, trailers, http2-settings`
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		for _, spelling := range []string{name, strings.ToUpper(name)} {
			if _, err := policy.ParseHeaderName(spelling); err == nil {
				t.Errorf("%s is accepted", spelling)
			}
		}
	}
}

func TestAllowedDomains(t *testing.T) {
	const (
		misplaced = "has a wildcard elsewhere than in its first two characters"
		suffix    = "is a wildcard over a public suffix, below which anybody can own a name"
		address   = "is an IP address"
		character = "has a character that no host name has"
		hyphens   = "has a label that is not letters, digits and hyphens between them"
		oneLabel  = "has only one label"
		invalid   = "is not a valid internationalized domain name"
	)
	label63 := strings.Repeat("a", 63)
	host253 := strings.Join([]string{label63, label63, label63, strings.Repeat("a", 57), "org"}, ".")
	for sentence, c := range map[string]struct {
		typed, want string // want is empty where the rule is broken
		rule        string
	}{
		"a host name is kept":                        {"api.example.com", "api.example.com", ""},
		"two labels are enough":                      {"example.com", "example.com", ""},
		"upper case is lowered":                      {"API.Example.COM", "api.example.com", ""},
		"one trailing dot is dropped":                {"api.example.com.", "api.example.com", ""},
		"two trailing dots are refused":              {"api.example.com..", "", "has an empty label"},
		"an empty label is refused":                  {"api..example.com", "", "has an empty label"},
		"a leading dot is refused":                   {".example.com", "", "has an empty label"},
		"nothing is refused":                         {"", "", "is empty"},
		"a dot alone is refused":                     {".", "", "is empty"},
		"one label is refused":                       {"localhost", "", oneLabel},
		"a wildcard is kept":                         {"*.example.com", "*.example.com", ""},
		"a wildcard is lowered as well":              {"*.EXAMPLE.com.", "*.example.com", ""},
		"a deep wildcard is kept":                    {"*.eu.api.example.com", "*.eu.api.example.com", ""},
		"a wildcard inside a label is refused":       {"exam*.com", "", misplaced},
		"a wildcard at a label's end is refused":     {"my-*.example.com", "", misplaced},
		"a wildcard alone is refused":                {"*", "", misplaced},
		"a wildcard and a dot are refused":           {"*.", "", misplaced},
		"a wildcard in the middle is refused":        {"a.*.com", "", misplaced},
		"two wildcards are refused":                  {"*.*.com", "", misplaced},
		"a wildcard without its dot is refused":      {"*example.com", "", misplaced},
		"a full-width asterisk is refused":           {"＊.example.com", "", invalid},
		"a wildcard over com is refused":             {"*.com", "", suffix},
		"a wildcard over com.au is refused":          {"*.com.au", "", suffix},
		"a wildcard over COM. is refused":            {"*.COM.", "", suffix},
		"a wildcard over a private suffix":           {"*.myshopify.com", "", suffix},
		"a wildcard over github.io":                  {"*.github.io", "", suffix},
		"a wildcard over an unlisted top level":      {"*.internal", "", suffix},
		"a wildcard over a rule's wildcard":          {"*.compute.amazonaws.com", "", suffix},
		"a wildcard over an exception is kept":       {"*.www.ck", "*.www.ck", ""},
		"a wildcard over an IDN suffix is refused":   {"*.公司.cn", "", suffix},
		"a wildcard below a suffix is kept":          {"*.shop.myshopify.com", "*.shop.myshopify.com", ""},
		"a public suffix as a host is kept":          {"myshopify.com", "myshopify.com", ""},
		"an IPv4 address is refused":                 {"192.0.2.1", "", address},
		"an IPv6 address is refused":                 {"2001:db8::1", "", address},
		"an IPv6 address in brackets is refused":     {"[2001:db8::1]", "", address},
		"a short IPv4 address is refused":            {"127.1", "", address},
		"a hexadecimal IPv4 address is refused":      {"0x7f.0x1", "", address},
		"a numeric last label is refused":            {"example.2130706433", "", address},
		"a full-width IPv4 address is refused":       {"１２７.0.0.1", "", address},
		"a wildcard over an address is refused":      {"*.192.0.2.1", "", address},
		"digits in other labels are kept":            {"1.2.3.example.com", "1.2.3.example.com", ""},
		"a scheme is refused":                        {"https://api.example.com", "", "has a scheme"},
		"a port is refused":                          {"api.example.com:443", "", "has a port"},
		"a path is refused":                          {"api.example.com/v1", "", "has a path"},
		"a query is refused":                         {"api.example.com?x", "", "has a path"},
		"user information is refused":                {"me@example.com", "", "has a user name"},
		"an internationalized name becomes A-labels": {"api.Bücher.example", "api.xn--bcher-kva.example", ""},
		"sharp s is not ss":                          {"straße.example", "xn--strae-oqa.example", ""},
		"an ideographic full stop is a dot":          {"api。example。com", "api.example.com", ""},
		"an A-label is kept":                         {"xn--bcher-kva.example", "xn--bcher-kva.example", ""},
		"an A-label is lowered":                      {"XN--BCHER-KVA.example", "xn--bcher-kva.example", ""},
		"an A-label that is none is refused":         {"xn--a.example", "", invalid},
		"a zero-width joiner is refused":             {"exa\u200dmple.com", "", invalid},
		"a soft hyphen goes away":                    {"exa\u00admple.com", "example.com", ""},
		"an underscore is refused":                   {"my_api.example.com", "", hyphens},
		"a leading hyphen is refused":                {"-api.example.com", "", hyphens},
		"a trailing hyphen is refused":               {"api-.example.com", "", hyphens},
		"hyphens in the middle are kept":             {"r3---sn.example.com", "r3---sn.example.com", ""},
		"a space is refused":                         {"api example.com", "", character},
		"a space in front is refused":                {" api.example.com", "", character},
		"a line break is refused":                    {"api.example.com\n", "", character},
		"a NUL is refused":                           {"api.example.com\x00", "", character},
		"an escape is refused":                       {"api%2eexample.com", "", character},
		"a backslash is refused":                     {`api\example.com`, "", character},
		"a label of 63 characters is kept":           {label63 + ".com", label63 + ".com", ""},
		"a label of 64 characters is refused":        {label63 + "a.com", "", "has a label longer than 63 characters"},
		"253 characters are kept":                    {host253, host253, ""},
		"254 characters are refused":                 {"a" + host253, "", "is longer than 253 characters"},
		"253 characters and a dot are kept":          {host253 + ".", host253, ""},
		"253 characters below a wildcard are kept":   {"*." + host253, "*." + host253, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			got, err := policy.ParseAllowedDomain(c.typed)
			if rule := broken(t, err, "allowed_domain", c.typed); rule != c.rule {
				t.Errorf("broken rule %q, want %q", rule, c.rule)
			}
			if string(got) != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestCovers(t *testing.T) {
	for sentence, c := range map[string]struct {
		domain attache.AllowedDomain
		host   string
		want   bool
	}{
		"a host covers itself":                             {"api.example.com", "api.example.com", true},
		"a host does not cover names below it":             {"example.com", "api.example.com", false},
		"a host does not cover its parent":                 {"api.example.com", "example.com", false},
		"a wildcard covers its own base":                   {"*.example.com", "example.com", true},
		"a wildcard covers one label below":                {"*.example.com", "api.example.com", true},
		"a wildcard covers any depth":                      {"*.example.com", "a.b.c.example.com", true},
		"a wildcard does not cover a longer label":         {"*.example.com", "badexample.com", false},
		"a wildcard does not cover its base as a prefix":   {"*.example.com", "example.com.evil.org", false},
		"a wildcard does not cover its parent":             {"*.api.example.com", "example.com", false},
		"a wildcard does not cover another top level":      {"*.example.com", "example.org", false},
		"a wildcard does not cover an empty label":         {"*.example.com", ".example.com", false},
		"a host does not cover a look-alike below another": {"api.stripe.com", "api.stripe.com.evil.org", false},
		"the zero domain covers nothing":                   {"", "", false},
		"a wildcard over nothing covers nothing":           {"*.", "example.com", false},
		"a wildcard over nothing does not cover a dot":     {"*.", "a.", false},
	} {
		t.Run(sentence, func(t *testing.T) {
			if got := policy.Covers(c.domain, c.host); got != c.want {
				t.Errorf("Covers(%q, %q) is %v", c.domain, c.host, got)
			}
		})
	}
}
