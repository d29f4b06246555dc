package policy

import (
	"iter"
	"sync"
	"sync/atomic"

	"attache"
)

// Index answers who a token belongs to and what happens to a request. It is
// immutable and safe for concurrent use; the zero Index is empty. It keeps
// nothing that changes point to.
type Index struct {
	integrations trie[string, *integration]
	tokens       trie[attache.TokenHash, attache.AccessToken]
	connections  int
}

// integration is what one integration owns. It is immutable.
type integration struct {
	name        string
	tokens      trie[attache.TokenHash, struct{}]
	connections table
	strips      StripSet
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

// Apply is the index after the change. That costs hardly more with more
// connections: one pointer for each two dozen, two words for each other connection
// of the domain where one comes or goes, and all of an integration's when their
// number doubles.
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
		ix.connections -= old.connections.size
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
		in := old.changed(b, ch)
		ix.connections += in.connections.size - old.connections.size
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
	return &integration{name: name}
}

// changed is the integration after the change of one of its connections.
func (in integration) changed(b *batch, ch attache.Change) integration {
	old, ok := in.connections.named(ch.Connection.Name)
	if ok {
		in.strips = in.strips.counting(b, string(old.field(headerField)), -1)
	}
	switch {
	case !ch.Deleted:
		in.connections = in.connections.with(b, ch.Connection)
		now, _ := in.connections.named(ch.Connection.Name)
		in.strips = in.strips.counting(b, string(now.field(headerField)), 1)
	case ok:
		in.connections = in.connections.without(b, old)
	}
	return in
}

// entry is the connection there, ready to be injected.
func (in *integration) entry(s spot) *entry { return in.connections.entry(in.name, s) }

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
