package policy_test

import (
	"net/netip"
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
