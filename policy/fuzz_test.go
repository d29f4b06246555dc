package policy_test

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/publicsuffix"
	"pgregory.net/rapid"

	"attache"
	"attache/policy"
)

func FuzzParseName(f *testing.F) {
	for _, seed := range []string{"bot", "a.b", "é", "Az09_-", "abc\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := policy.ParseName("name", s)
		if err != nil {
			broken(t, err, "name", "")
			return
		}
		if got != s {
			t.Errorf("%q became %q", s, got)
		}
		if strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
			t.Errorf("%q is accepted", s)
		}
	})
}

func FuzzParseHeaderName(f *testing.F) {
	for _, seed := range []string{"X-Api-Key", "host", "x-amz-a", "ſerver", "A\r\nB"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := policy.ParseHeaderName(s)
		if err != nil {
			broken(t, err, "header_name", "")
			return
		}
		if string(got) != s {
			t.Errorf("%q became %q", s, got)
		}
		strips := policy.Compile(changes(connection("one", "api.example.com", func(c *attache.Connection) { c.HeaderName = got }))).Strips("bot")
		for _, spelling := range []string{s, strings.ToUpper(s), strings.ReplaceAll(s, "-", "_"), strings.ReplaceAll(s, "_", "-")} {
			if !strips.Has(spelling) {
				t.Errorf("a connection sends %q, and %q is not stripped", s, spelling)
			}
		}
	})
}

func FuzzParseAllowedDomain(f *testing.F) {
	for _, seed := range []string{
		"api.example.com", "*.example.com", "*.com.au", "*.EXAMPLE.com.", "bücher.example", "xn--bcher-kva.example",
		"127.1", "*.compute.amazonaws.com", "a。b", "xn--example-.com", "\xff.com", "1.0x", "[::1]", "*.xn--55qx5d.cn",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := policy.ParseAllowedDomain(s)
		if err != nil {
			broken(t, err, "allowed_domain", "")
			return
		}
		if again, err := policy.ParseAllowedDomain(string(d)); err != nil || again != d {
			t.Errorf("%q became %q, and that %q, %v", s, d, again, err)
		}
		base, wild := strings.CutPrefix(string(d), "*.")
		target, err := policy.ParseTarget("https", base)
		if err != nil || target.Host != base {
			t.Errorf("no target is in the domain %q: %q, %v", d, target.Host, err)
		}
		if !policy.Covers(d, base) || policy.Covers(d, "look"+base) || policy.Covers(d, base+".evil.org") || policy.Covers(d, "evil.org") != (base == "evil.org") {
			t.Errorf("%q covers a look-alike, or not itself", d)
		}
		if policy.Covers(d, "below."+base) != wild {
			t.Errorf("%q covers a name below it: %v", d, !wild)
		}
		suffix, _ := publicsuffix.PublicSuffix(base)
		below, _ := publicsuffix.PublicSuffix("any." + base)
		if wild && (suffix == base || below == "any."+base) {
			t.Errorf("%q is accepted over a public suffix", d)
		}
		if _, err := netip.ParseAddr(base); err == nil {
			t.Errorf("%q is an address", d)
		}
	})
}

func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{
		"api.example.com:443", "API.example.com.", "[::1]:8443", "[::1%25lo]", "0x7f.1", "a@b", "bücher.example:1",
		"xn--bcher-kva.example", "1.2.3.4", "１.2.3.4", "a:0443", "a。b。", "\xff.com", "xn--zn7c.com", "[::ffff:1.2.3.4]",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, authority string) {
		target, err := policy.ParseTarget("https", authority)
		if err != nil {
			broken(t, err, "target", "")
			return
		}
		if again, err := policy.ParseTarget("https", target.Addr()); err != nil || again != target {
			t.Errorf("%q became %+v, and that %+v, %v", authority, target, again, err)
		}
		if target.Host == "" || target.Port == 0 || strings.ToLower(target.Host) != target.Host || strings.ContainsAny(target.Host, "@/?#%\\[] \x00") {
			t.Errorf("%q became %+v", authority, target)
		}
	})
}

// FuzzOAuthURL holds an OAuth client's URL to its promise: whatever subdomain a
// connection fills in, what comes out is an https URL of the same owner, and
// differs in that label alone.
func FuzzOAuthURL(f *testing.F) {
	for _, seed := range []string{
		"https://example.com/token", "https://{subdomain}.example.com:8443/t?a=b", "https://a.{subdomain}.myshopify.com",
		"https://{subdomain}.com", "https://{subdomain}.kawasaki.jp.", "https://{subdomain}.www.ck", "https://{subdomain}.internal",
		"https://{subdomain}@evil.org", "https://evil.org/.{subdomain}.example.com", `https://evil.org\.{subdomain}.example.com`,
		"https://[::1].{subdomain}.example.com", "https://{subdomain}.1.2.3.4", "https://%7Bsubdomain%7D.example.com",
	} {
		f.Add(seed, "acme")
		f.Add(seed, "evil.org/")
	}
	f.Fuzz(func(t *testing.T, typed, subdomain string) {
		client := oauthClient(func(c *attache.OAuthClient) { c.TokenURL = typed })
		if err := policy.CheckOAuthClient(client); err != nil {
			for _, err := range err.(interface{ Unwrap() []error }).Unwrap() {
				broken(t, err, "token_url", "")
			}
			return
		}
		staysWithItsOwner(t, client.TokenURL, subdomain)
	})
}

// TestASubdomainStaysWithItsOwner is the same over hosts that are made of public
// suffixes, and what stands above them.
func TestASubdomainStaysWithItsOwner(t *testing.T) {
	labels := rapid.SampledFrom([]string{
		"com", "uk", "co", "sch", "jp", "kawasaki", "city", "ck", "www", "no", "aa", "gs", "io", "github", "myshopify",
		"amazonaws", "compute", "us-east-1", "cn", "xn--55qx5d", "internal", "example",
	})
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		host := rapid.SliceOfN(labels, 1, 5).Draw(t, "host")
		host[rapid.IntRange(0, len(host)-1).Draw(t, "at")] = "{subdomain}"
		client := oauthClient(func(c *attache.OAuthClient) { c.TokenURL = "https://" + strings.Join(host, ".") + "/token" })
		if policy.CheckOAuthClient(client) == nil {
			accepted++
			staysWithItsOwner(t, client.TokenURL, labels.Draw(t, "subdomain"))
		}
	})
	if accepted == 0 {
		t.Error("no host was accepted")
	}
}

// staysWithItsOwner fills in the subdomain, and some more, where it is one.
func staysWithItsOwner(t rapid.TB, template, subdomain string) {
	t.Helper()
	_, behind, _ := strings.Cut(strings.TrimPrefix(template, "https://"), "/")
	var owner string
	for _, label := range []string{"www", "0", "city", "xn--p1ai", "a-b", subdomain} {
		c := connection("api", "api.example.com", oauth, func(c *attache.Connection) { c.Subdomain = label })
		if policy.CheckConnection(c) != nil || c.Subdomain == "" {
			continue
		}
		filled := strings.ReplaceAll(template, "{subdomain}", c.Subdomain)
		u, err := url.Parse(filled)
		if err != nil || u.Scheme != "https" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
			t.Fatalf("%q became %q: %v", template, filled, err)
		}
		if strings.ContainsAny(filled, "{}") || !strings.HasSuffix(filled, behind) {
			t.Errorf("%q became %q", template, filled)
		}
		if now := registered(u.Hostname()); owner == "" {
			owner = now
		} else if now != owner {
			t.Errorf("%q belongs to %s, and with %q to %s", template, owner, c.Subdomain, now)
		}
	}
}

// registered is the name that somebody has registered to have the host: one label
// below the list's public part, or below a top level that the list does not have.
func registered(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return host
	}
	suffix, public := publicsuffix.PublicSuffix(host)
	for !public && strings.Contains(suffix, ".") {
		_, parent, _ := strings.Cut(suffix, ".")
		suffix, public = publicsuffix.PublicSuffix(parent)
	}
	below := strings.TrimSuffix(strings.TrimSuffix(host, suffix), ".")
	return below[strings.LastIndexByte(below, '.')+1:] + "." + suffix
}

// coversNaively is rule D3 as one reads it.
func coversNaively(domain, host string) bool {
	base, wild := strings.CutPrefix(domain, "*.")
	want, have := strings.Split(base, "."), strings.Split(host, ".")
	if len(have) < len(want) || len(have) > len(want) && !wild {
		return false
	}
	have = have[len(have)-len(want):]
	for i := range want {
		if have[i] != want[i] {
			return false
		}
	}
	return true
}

// hosts are names from an alphabet so small that they often cover one another.
func hosts() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		labels := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ab", "x-a"}), 1, 4).Draw(t, "labels")
		return strings.Join(append(labels, "com"), ".")
	})
}

// domains are allowed domains over such names.
func domains() *rapid.Generator[attache.AllowedDomain] {
	return rapid.Custom(func(t *rapid.T) attache.AllowedDomain {
		host := hosts().Draw(t, "host")
		if rapid.Bool().Draw(t, "wildcard") {
			return attache.AllowedDomain("*." + host)
		}
		return attache.AllowedDomain(host)
	})
}

func TestCoversAsANaiveReferenceDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		domain, host := domains().Draw(t, "domain"), hosts().Draw(t, "host")
		if got, want := policy.Covers(domain, host), coversNaively(string(domain), host); got != want {
			t.Errorf("Covers(%q, %q) is %v, want %v", domain, host, got, want)
		}
	})
}
