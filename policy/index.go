package policy

import (
	"cmp"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"attache"
)

// Index answers who a token belongs to and what happens to a request. It is
// immutable and safe for concurrent use; the zero Index is empty. It keeps the
// tokens and connections that changes point to, which must not be modified
// afterwards.
type Index struct {
	integrations trie[string, *integration]
	tokens       trie[attache.TokenHash, attache.AccessToken]
	connections  int
}

// integration is what one integration owns. It is immutable.
type integration struct {
	tokens  trie[attache.TokenHash, struct{}]
	names   trie[string, *entry]
	domains trie[domain, *group]
	strips  StripSet
	size    int // of names
}

// domain is an allowed domain, where its connections are found.
type domain struct {
	host string // of a wildcard, what comes after "*."
	wild bool
}

// entry is a connection with the decision to inject it, made ready once. There
// may be very many, so the reason is not in it.
type entry struct {
	connection *attache.Connection
	inject     attache.Decision
}

func newEntry(c *attache.Connection) *entry {
	header, value := c.Header()
	return &entry{c, attache.Decision{Action: attache.Inject, Connection: c, Header: header, Value: value}}
}

func (e *entry) domain() domain {
	host, wild := strings.CutPrefix(string(e.connection.AllowedDomain), wildcard)
	return domain{host, wild}
}

// anyPort is no port of a connection.
const anyPort = 0

func (e *entry) allows(port uint16) bool {
	return port == anyPort || slices.Contains(e.connection.AllowedPorts, port)
}

// group is the connections of one domain, at least one, sorted by name.
type group struct {
	owner   *batch
	entries []*entry
}

func (g *group) search(name string) (int, bool) {
	return slices.BinarySearchFunc(g.entries, name, func(e *entry, name string) int {
		return cmp.Compare(e.connection.Name, name)
	})
}

// editable is g itself if the batch has made it, and a copy if not.
func (g *group) editable(b *batch) *group {
	if g.owner == b {
		return g
	}
	return &group{owner: b, entries: slices.Clone(g.entries)}
}

// Compile is an Index after many changes, at a fraction of the cost of applying
// them one by one.
func Compile(changes iter.Seq[attache.Change]) *Index {
	ix, b := Index{}, new(batch)
	for ch := range changes {
		ix = ix.apply(b, ch)
	}
	return &ix
}

// Apply is the index after the change. Its cost does not depend on how many
// connections there are, except on those of the same domain.
func (ix *Index) Apply(ch attache.Change) *Index {
	next := ix.apply(new(batch), ch)
	return &next
}

func (ix Index) apply(b *batch, ch attache.Change) Index {
	switch {
	case ch.Integration != nil:
		name := ch.Integration.Name
		old := ix.integration(name)
		if !ch.Deleted {
			ix.integrations = ix.integrations.with(b, name, old)
			return ix
		}
		for hash := range old.tokens.all() {
			ix.tokens = ix.tokens.without(b, hash)
		}
		ix.integrations = ix.integrations.without(b, name)
		ix.connections -= old.size
	case ch.AccessToken != nil:
		in, t := *ix.integration(ch.AccessToken.Integration), *ch.AccessToken
		if ch.Deleted {
			ix.tokens, in.tokens = ix.tokens.without(b, t.Hash), in.tokens.without(b, t.Hash)
		} else {
			ix.tokens, in.tokens = ix.tokens.with(b, t.Hash, t), in.tokens.with(b, t.Hash, struct{}{})
		}
		ix.integrations = ix.integrations.with(b, t.Integration, &in)
	case ch.Connection != nil:
		old := ix.integration(ch.Connection.Integration)
		in := old.without(b, ch.Connection.Name)
		if !ch.Deleted {
			in = in.with(b, newEntry(ch.Connection))
		}
		ix.connections += in.size - old.size
		ix.integrations = ix.integrations.with(b, ch.Connection.Integration, &in)
	}
	return ix
}

// integration is the one of that name, and an empty one where there is none: a
// store may hand out connections before the integrations that own them.
func (ix *Index) integration(name string) *integration {
	if in, ok := ix.integrations.get(name); ok {
		return in
	}
	return new(integration)
}

func (in integration) with(b *batch, e *entry) integration {
	in.names = in.names.with(b, e.connection.Name, e)
	in.size++
	in.strips = in.strips.counting(b, e.connection, 1)
	g, ok := in.domains.get(e.domain())
	if !ok {
		g = &group{owner: b}
	}
	g = g.editable(b)
	at, _ := g.search(e.connection.Name)
	g.entries = slices.Insert(g.entries, at, e)
	in.domains = in.domains.with(b, e.domain(), g)
	return in
}

func (in integration) without(b *batch, name string) integration {
	e, ok := in.names.get(name)
	if !ok {
		return in
	}
	in.names = in.names.without(b, name)
	in.size--
	in.strips = in.strips.counting(b, e.connection, -1)
	g, _ := in.domains.get(e.domain())
	if len(g.entries) == 1 {
		in.domains = in.domains.without(b, e.domain())
		return in
	}
	g = g.editable(b)
	at, _ := g.search(name)
	g.entries = slices.Delete(g.entries, at, at+1)
	in.domains = in.domains.with(b, e.domain(), g)
	return in
}

// AccessToken finds a token by its hash. Whether it has expired is for the
// caller to ask.
func (ix *Index) AccessToken(h attache.TokenHash) (attache.AccessToken, bool) {
	return ix.tokens.get(h)
}

// Connections is how many there are, of all integrations.
func (ix *Index) Connections() int { return ix.connections }

// Strips is the set of headers that go from a request that gets one of the
// integration's credentials.
func (ix *Index) Strips(integration string) *StripSet { return &ix.integration(integration).strips }

// Live is the current Index: one reader after another takes it without a lock,
// once per request, while changes come in. The zero Live is ready and empty.
type Live struct {
	current atomic.Pointer[Index]
	changes sync.Mutex // serialises those who replace current
}

// Current is the index as of now.
func (l *Live) Current() *Index {
	if ix := l.current.Load(); ix != nil {
		return ix
	}
	return new(Index)
}

// Apply makes the change visible to all that call Current from now on.
func (l *Live) Apply(ch attache.Change) {
	l.changes.Lock()
	defer l.changes.Unlock()
	l.current.Store(l.Current().Apply(ch))
}

// Replace makes ix the current index.
func (l *Live) Replace(ix *Index) {
	l.changes.Lock()
	defer l.changes.Unlock()
	l.current.Store(ix)
}
