package policy

import (
	"fmt"
	"iter"
	"maps"
	"math"
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"attache"
	"attache/secret"
)

// TestTableIsAMap plays random changes to a table and to a map, with hashes of
// which many are equal or differ late, and looks at every older table again.
func TestTableIsAMap(t *testing.T) {
	hashes := []uint64{0, 1, 2, 1 << 63, math.MaxUint64}
	domains := []attache.AllowedDomain{"a.example.com", "*.a.example.com", "b.example.com", "*.b.example.com", "c.example.com"}
	linkOf := func(name, domain int) link {
		return link{hashes[domain%3], hashes[name%len(hashes)]}
	}
	rapid.Check(t, func(t *rapid.T) {
		var now table
		model := map[int]*attache.Connection{} // by number
		type moment struct {
			table table
			model map[int]*attache.Connection
		}
		var past []moment
		agree := func(at moment) {
			if at.table.size != len(at.model) {
				t.Fatalf("%d connections, want %d", at.table.size, len(at.model))
			}
			under := map[attache.AllowedDomain][]string{}
			for n := range 60 {
				name := fmt.Sprint("name-", n)
				s, ok := at.table.find(hashes[n%len(hashes)], name)
				want := at.model[n]
				if ok != (want != nil) {
					t.Fatalf("%s is there: %v, want %v", name, ok, want != nil)
				}
				if !ok {
					continue
				}
				under[want.AllowedDomain] = append(under[want.AllowedDomain], name)
				if got := at.table.entry("bot", s); !same(&got.connection, want) || !got.inject.Value.Equal(want.Credential.APIKey) ||
					got.inject.Header != string(want.HeaderName) || got.inject.Connection != &got.connection {
					t.Fatalf("%s is %+v, want %+v", name, got.inject, want)
				}
			}
			for i, d := range domains {
				w := at.table.follow(linkOf(0, i).domain, domainOf(d))
				var names []string
				for _, s := range w.rest() {
					names = append(names, s.name())
				}
				slices.Sort(under[d])
				if !slices.Equal(names, under[d]) {
					t.Fatalf("under %s are %v, want %v", d, names, under[d])
				}
			}
		}
		b := new(batch)
		for i := range rapid.IntRange(1, 150).Draw(t, "changes") {
			n := rapid.IntRange(0, 59).Draw(t, "name")
			if rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
				if s, ok := now.find(hashes[n%len(hashes)], fmt.Sprint("name-", n)); ok {
					now = now.without(b, s)
				}
				delete(model, n)
			} else {
				d := rapid.IntRange(0, len(domains)-1).Draw(t, "domain")
				c := &attache.Connection{
					Integration: "bot", Name: fmt.Sprint("name-", n), Type: attache.APIKey, HeaderName: "X-Key",
					AllowedDomain: domains[d], AllowedPorts: []uint16{443, uint16(1 + i)}[:1+i%2],
					StripCookies: i%3 == 0, Credential: attache.Credential{APIKey: secret.New(fmt.Sprint("fake-", i))},
				}
				now = now.insert(b, linkOf(n, d), c)
				model[n] = c
			}
			// A batch ends where somebody looks at what it made.
			if rapid.IntRange(0, 4).Draw(t, "look") == 0 {
				past = append(past, moment{now, maps.Clone(model)})
				agree(past[len(past)-1])
				b = new(batch)
			}
		}
		for _, m := range append(past, moment{now, model}) {
			agree(m)
		}
	})
}

// same reports whether an index has of c what it keeps.
func same(got, c *attache.Connection) bool {
	return got.Integration == c.Integration && got.Name == c.Name && got.Type == c.Type && got.AllowedDomain == c.AllowedDomain &&
		slices.Equal(got.AllowedPorts, c.AllowedPorts) && got.HeaderName == c.HeaderName && got.StripCookies == c.StripCookies
}

// A page has nothing of connections that are gone.
func TestATableKeepsNoMoreThanItHas(t *testing.T) {
	var full table
	for i := range 1000 {
		full = full.with(new(batch), &attache.Connection{
			Name: fmt.Sprint("name-", i%10), Type: attache.BearerToken, AllowedDomain: "api.example.com",
			Credential: attache.Credential{Token: secret.New(fmt.Sprint("fake-", i))},
		})
	}
	p := full.pages[0]
	if len(full.pages) != 1 || len(p.rows) != 10 || len(p.links) != 10 {
		t.Fatalf("%d pages, %d rows, %d links", len(full.pages), len(p.rows), len(p.links))
	}
	if got, want := len(p.text), 10*len("name-0"+"api.example.com"+"bearer_token"+"Authorization"); got != want {
		t.Errorf("%d bytes of text, want %d", got, want)
	}
	if got, want := p.values.Len(), 10*len("Bearer fake-990"); got != want {
		t.Errorf("%d bytes of values, want %d", got, want)
	}
	for _, name := range []string{"name-3", "name-7"} {
		s, _ := full.named(name)
		full = full.without(new(batch), s)
	}
	if p := full.pages[0]; len(p.rows) != 8 || p.values.Len() != 8*len("Bearer fake-990") {
		t.Errorf("after two are gone: %d rows, %d bytes of values", len(p.rows), p.values.Len())
	}
}

// The garbage collector has a few objects to look at for each page, and none for
// each connection; when all have been asked for, some for each that is kept.
func TestAnIndexIsMadeOfFewObjects(t *testing.T) {
	const n = 20_000
	objects := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapObjects)
	}
	before := objects()
	ix := Compile(bearers(n))
	if got := objects() - before; got > n/2 {
		t.Errorf("%d objects for %d connections", got, n)
	}
	for i := range n {
		q := Query{Integration: "bot", Method: "GET", Target: attache.Target{Scheme: "https", Host: fmt.Sprintf("api-%d.example.com", i), Port: 443}}
		if d := ix.Decide(q); d.Action != attache.Inject || d.Connection.Name != fmt.Sprint("name-", i) {
			t.Fatalf("%s: %+v", q.Target.Host, d)
		}
	}
	if got := objects() - before; got > n/2+8*mostReady {
		t.Errorf("%d objects for %d connections that were asked for", got, n)
	}
	runtime.KeepAlive(ix)
}

func bearers(n int) iter.Seq[attache.Change] {
	return func(yield func(attache.Change) bool) {
		for i := range n {
			c := &attache.Connection{
				Integration: "bot", Name: fmt.Sprint("name-", i), Type: attache.BearerToken, AllowedPorts: []uint16{443},
				AllowedDomain: attache.AllowedDomain(fmt.Sprintf("api-%d.example.com", i)),
				Credential:    attache.Credential{Token: secret.New("fake")},
			}
			if !yield(attache.Change{Connection: c}) {
				return
			}
		}
	}
}
