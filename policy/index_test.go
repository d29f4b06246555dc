package policy_test

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"attache"
	"attache/policy"
	"attache/secret"
)

// changes yields the creation of each connection.
func changes(connections ...*attache.Connection) iter.Seq[attache.Change] {
	return func(yield func(attache.Change) bool) {
		for _, c := range connections {
			if !yield(attache.Change{Connection: c}) {
				return
			}
		}
	}
}

// model is the index as one would write it without a thought for time.
type model struct {
	connections map[[2]string]*attache.Connection // by integration and name
	tokens      map[attache.TokenHash]attache.AccessToken
}

func (m *model) apply(ch attache.Change) {
	switch {
	case ch.Integration != nil && ch.Deleted:
		for k := range m.connections {
			if k[0] == ch.Integration.Name {
				delete(m.connections, k)
			}
		}
		for h, t := range m.tokens {
			if t.Integration == ch.Integration.Name {
				delete(m.tokens, h)
			}
		}
	case ch.AccessToken != nil && ch.Deleted:
		delete(m.tokens, ch.AccessToken.Hash)
	case ch.AccessToken != nil:
		m.tokens[ch.AccessToken.Hash] = *ch.AccessToken
	case ch.Connection != nil && ch.Deleted:
		delete(m.connections, [2]string{ch.Connection.Integration, ch.Connection.Name})
	case ch.Connection != nil:
		m.connections[[2]string{ch.Connection.Integration, ch.Connection.Name}] = ch.Connection
	}
}

// fitting are the connections that fit the host on the port as well as any, by
// name.
func (m *model) fitting(integration, host string, port uint16) []*attache.Connection {
	rank := func(c *attache.Connection) int {
		if string(c.AllowedDomain) == host {
			return 1000
		}
		return len(c.AllowedDomain)
	}
	var fit []*attache.Connection
	for k, c := range m.connections {
		if k[0] == integration && coversNaively(string(c.AllowedDomain), host) && slices.Contains(c.AllowedPorts, port) {
			fit = append(fit, c)
		}
	}
	slices.SortFunc(fit, func(a, b *attache.Connection) int {
		return cmp.Or(rank(b)-rank(a), strings.Compare(a.Name, b.Name))
	})
	for i, c := range fit {
		if rank(c) < rank(fit[0]) {
			return fit[:i]
		}
	}
	return fit
}

// agree fails unless the index says of everything what the model says.
func (m *model) agree(t *rapid.T, ix *policy.Index) {
	for i := range byte(4) {
		got, ok := ix.AccessToken(attache.TokenHash{i})
		want, wantOK := m.tokens[attache.TokenHash{i}]
		if ok != wantOK || got != want {
			t.Fatalf("token %d is %v %v, want %v %v", i, got, ok, want, wantOK)
		}
	}
	if got := ix.Connections(); got != len(m.connections) {
		t.Fatalf("there are %d connections, want %d", got, len(m.connections))
	}
	host := hosts().Draw(t, "host")
	for _, integration := range []string{"bot", "cat"} {
		for _, port := range []uint16{443, 8443} {
			fit := m.fitting(integration, host, port)
			d := ix.Decide(policy.Query{Integration: integration, Method: "GET", Target: attache.Target{Scheme: "https", Host: host, Port: port}})
			switch {
			case len(fit) == 0 && d.Code == attache.CodeNoConnection:
			case len(fit) == 1 && injects(d, fit[0]):
			case len(fit) > 1 && d.Code == attache.CodeAmbiguousConnection && strings.Contains(d.Reason, fmt.Sprintf("header Attache-Connection: %s,", fit[0].Name)):
			default:
				t.Fatalf("%s on port %d for %s is %+v, want one of %v", host, port, integration, d, fit)
			}
		}
		for _, header := range []string{"X-One", "X-Two"} {
			want := false
			for k, c := range m.connections {
				want = want || k[0] == integration && strings.ReplaceAll(string(c.HeaderName), "_", "-") == header
			}
			if got := ix.Strips(integration).Has(strings.ToLower(header)); got != want {
				t.Fatalf("%s is stripped for %s: %v, want %v", header, integration, got, want)
			}
		}
	}
}

// injects reports whether the decision is to inject c, as it is now.
func injects(d attache.Decision, c *attache.Connection) bool {
	header, value := c.Header()
	got := d.Connection
	return d.Action == attache.Inject && got != nil && got.Integration == c.Integration && got.Name == c.Name && got.Type == c.Type &&
		got.AllowedDomain == c.AllowedDomain && slices.Equal(got.AllowedPorts, c.AllowedPorts) && got.HeaderName == c.HeaderName &&
		got.StripCookies == c.StripCookies && got.CreatedAt.Equal(c.CreatedAt) && d.Header == header && d.Value.Equal(value)
}

func randomChange(t *rapid.T) attache.Change {
	integration := rapid.SampledFrom([]string{"bot", "cat"}).Draw(t, "integration")
	ch := attache.Change{Deleted: rapid.IntRange(0, 2).Draw(t, "deleted") == 0}
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		ch.Integration = &attache.Integration{Name: integration}
	case 1, 2:
		i := rapid.ByteRange(0, 3).Draw(t, "token")
		// A hash belongs to one integration for ever, as a random one does.
		ch.AccessToken = &attache.AccessToken{ID: fmt.Sprint(i), Integration: []string{"bot", "cat"}[i%2], Hash: attache.TokenHash{i}}
	default:
		name := rapid.SampledFrom([]string{"one", "two", "three", "four", "five"}).Draw(t, "name")
		ch.Connection = connection(name, "", func(c *attache.Connection) { c.Integration = integration })
		if ch.Deleted { // nothing else is sure to be there
			ch.Connection = &attache.Connection{Integration: integration, Name: name}
			break
		}
		ch.Connection.AllowedDomain = domains().Draw(t, "domain")
		ch.Connection.AllowedPorts = rapid.SampledFrom([][]uint16{{443}, {8443}, {443, 8443}}).Draw(t, "ports")
		ch.Connection.StripCookies = rapid.Bool().Draw(t, "cookies")
		ch.Connection.CreatedAt = time.Unix(0, rapid.Int64Range(0, 3).Draw(t, "created"))
		ch.Connection.Credential.APIKey = secret.New(rapid.StringMatching("[a-z]{1,3}").Draw(t, "key"))
		ch.Connection.HeaderName = rapid.SampledFrom([]attache.HeaderName{"X-One", "X_One", "X-Two"}).Draw(t, "header")
	}
	return ch
}

func TestTheIndexAgreesWithANaiveModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{map[[2]string]*attache.Connection{}, map[attache.TokenHash]attache.AccessToken{}}
		ix := new(policy.Index)
		var all []attache.Change
		for range rapid.IntRange(1, 30).Draw(t, "changes") {
			ch := randomChange(t)
			all = append(all, ch)
			ix = ix.Apply(ch)
			m.apply(ch)
			m.agree(t, ix)
		}
		m.agree(t, policy.Compile(slices.Values(all)))
	})
}

func TestAnOldIndexStaysAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{map[[2]string]*attache.Connection{}, map[attache.TokenHash]attache.AccessToken{}}
		var all []attache.Change
		for range rapid.IntRange(0, 20).Draw(t, "changes") {
			all = append(all, randomChange(t))
			m.apply(all[len(all)-1])
		}
		compiled := policy.Compile(slices.Values(all))
		next := compiled
		for range rapid.IntRange(1, 20).Draw(t, "later changes") {
			next = next.Apply(randomChange(t))
			compiled.Apply(randomChange(t))
		}
		m.agree(t, compiled)
	})
}

func TestAnIntegrationThatIsDeletedTakesItsTokensAndConnections(t *testing.T) {
	token := attache.AccessToken{ID: "t1", Integration: "bot", Hash: attache.TokenHash{1}}
	bot := &attache.Integration{Name: "bot"}
	ix := policy.Compile(slices.Values([]attache.Change{
		{Integration: bot}, {AccessToken: &token}, {Connection: connection("api", "api.example.com")},
		{Deleted: true, Integration: bot}, {Integration: bot},
	}))
	if _, ok := ix.AccessToken(token.Hash); ok {
		t.Error("the token came back with an integration of the same name")
	}
	if d := ix.Decide(get("https", "api.example.com")); d.Code != attache.CodeNoConnection {
		t.Errorf("the connection came back with an integration of the same name: %+v", d)
	}
}

func TestLiveIsReadWhileItChanges(t *testing.T) {
	const n = 200
	var live policy.Live
	if d := live.Current().Decide(get("https", "api.example.com")); d.Code != attache.CodeNoConnection {
		t.Errorf("the zero Live decides %+v", d)
	}
	live.Replace(policy.Compile(changes(connection("kept", "kept.example.com"))))
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := range n {
				live.Apply(attache.Change{Connection: connection(fmt.Sprintf("c-%d-%d", w, i), fmt.Sprintf("w%d-%d.example.com", w, i))})
			}
		})
		wg.Go(func() {
			for range n {
				if d := live.Current().Decide(get("https", "kept.example.com")); d.Action != attache.Inject {
					t.Errorf("a connection that nobody touched is %+v", d)
				}
			}
		})
	}
	wg.Wait()
	for w := range 2 {
		for i := range n {
			if d := live.Current().Decide(get("https", fmt.Sprintf("w%d-%d.example.com", w, i))); d.Action != attache.Inject {
				t.Fatalf("a change was lost: %+v", d)
			}
		}
	}
}

func TestStrips(t *testing.T) {
	strips := policy.Compile(changes(
		connection("api", "api.example.com", func(c *attache.Connection) { c.HeaderName = "X-Our_Key" }),
		connection("again", "api.example.net", func(c *attache.Connection) { c.HeaderName = "x-our-key" }),
		connection("known", "api.example.net", func(c *attache.Connection) { c.HeaderName = "x_api_key" }),
		connection("other", "api.example.org", func(c *attache.Connection) { c.Integration, c.HeaderName = "cat", "X-Cat" }),
	)).Strips("bot")
	for sentence, c := range map[string]struct {
		header string
		want   bool
	}{
		"Authorization goes":                         {"Authorization", true},
		"Authorization goes whatever its case":       {"aUTHORIZATION", true},
		"Proxy-Authorization goes":                   {"Proxy-Authorization", true},
		"Proxy_Authorization goes, servers mix them": {"PROXY_AUTHORIZATION", true},
		"a known header goes":                        {"X-Api-Key", true},
		"a known header goes with underscores":       {"x_api_key", true},
		"the header of a connection goes":            {"X-Our_Key", true},
		"the header of a connection goes, folded":    {"x_our-key", true},
		"the header of another integration stays":    {"X-Cat", false},
		"Cookie stays":                               {"Cookie", false},
		"Accept stays":                               {"Accept", false},
		"a longer name stays":                        {"X-Api-Key-Id", false},
		"a shorter name stays":                       {"X-Api-Ke", false},
		"a control character behind is a character":  {"X-Api-Key\x01", false},
		"no name stays":                              {"", false},
		"a name that is longer than any stays":       {"X-Api-Key" + strings.Repeat("y", 200), false},
	} {
		t.Run(sentence, func(t *testing.T) {
			if got := strips.Has(c.header); got != c.want {
				t.Errorf("Has(%q) is %v", c.header, got)
			}
		})
	}
	want := append(policy.KnownCredentialHeaders(), "X-Our-Key")
	slices.Sort(want)
	if got := strips.Headers(); !slices.Equal(got, want) {
		t.Errorf("the set is %q, want %q", got, want)
	}
	for _, h := range policy.KnownCredentialHeaders() {
		if !new(policy.StripSet).Has(h) {
			t.Errorf("the zero StripSet does not have %s", h)
		}
	}
	if !slices.IsSorted(policy.KnownCredentialHeaders()) {
		t.Error("the known headers are not sorted")
	}
	if n := testing.AllocsPerRun(100, func() { strips.Has("X-Request-Id"); strips.Has("x_our_key") }); n != 0 {
		t.Errorf("two look-ups take %v allocations, want none", n)
	}
}
