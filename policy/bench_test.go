package policy_test

import (
	"fmt"
	"iter"
	"testing"

	"attache"
	"attache/policy"
	"attache/secret"
)

// many yields the changes of n connections, each for a domain of its own, in
// every tenth a wildcard.
func many(n int) iter.Seq[attache.Change] {
	return func(yield func(attache.Change) bool) {
		for i := range n {
			c := &attache.Connection{
				Integration: "bot", Name: fmt.Sprintf("connection-%d", i), Type: attache.APIKey, HeaderName: "X-Api-Key",
				AllowedDomain: attache.AllowedDomain(fmt.Sprintf("api-%d.example.com", i)), AllowedPorts: []uint16{443},
				Credential: attache.Credential{APIKey: secret.New("fake-key")},
			}
			if i%10 == 9 {
				c.AllowedDomain = "*." + c.AllowedDomain
			}
			if !yield(attache.Change{Connection: c}) {
				return
			}
		}
	}
}

// BenchmarkDecide shows that a decision costs the same with 1, 1,000 and 100,000
// connections, and that it takes no memory. The first asks for one host again
// and again, the second goes through hosts, as far as they fit the processor's
// caches or not.
func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{1, 1_000, 100_000} {
		ix := policy.Compile(many(n))
		queries := make([]policy.Query, min(n, 1_000))
		for i := range queries {
			host := fmt.Sprintf("api-%d.example.com", i*(n/len(queries)))
			queries[i] = policy.Query{Integration: "bot", Method: "GET", Target: attache.Target{Scheme: "https", Host: host, Port: 443}}
		}
		b.Run(fmt.Sprintf("one host of %d connections", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ix.Decide(queries[0])
			}
		})
		b.Run(fmt.Sprintf("many hosts of %d connections", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				ix.Decide(queries[i%len(queries)])
			}
		})
		b.Run(fmt.Sprintf("no match in %d connections", n), func(b *testing.B) {
			b.ReportAllocs()
			q := queries[0]
			q.Method, q.Target.Host = "CONNECT", "a.b.c.example.org"
			for b.Loop() {
				ix.Decide(q)
			}
		})
	}
}

// BenchmarkApply shows that a change costs nearly the same however many
// connections there are.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{1, 1_000, 100_000} {
		ix := policy.Compile(many(n))
		var rotated attache.Change
		for ch := range many(n/2 + 1) {
			rotated = ch
		}
		b.Run(fmt.Sprintf("%d connections", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ix.Apply(rotated)
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		policy.Compile(many(100_000))
	}
}

func BenchmarkParseTarget(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := policy.ParseTarget("https", "api.example.com:443"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStripSet(b *testing.B) {
	strips := policy.Compile(many(1_000)).Strips("bot")
	b.ReportAllocs()
	for b.Loop() {
		strips.Has("Accept-Encoding")
	}
}
