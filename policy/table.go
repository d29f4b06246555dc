package policy

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"

	"attache"
)

// table is a persistent map of an integration's connections, by name and by
// domain: a change makes a new table that shares all but three pages at most with
// the old one, or none when it doubles. It has its pages until it is empty again.
// The zero table is empty.
//
// There may be so many connections that the garbage collector's way through them
// would cost more than the requests. So they are in few pieces of memory, without
// pointers, in which there is nothing to look for; what is asked for is unpacked,
// and may be kept as long as its page.
type table struct {
	owner *batch
	pages []*page // none, or a power of two of them, each possibly nil; a hash ends in its page's number
	size  int     // connections
}

// domain is an allowed domain, where its connections are found.
type domain struct {
	host string // of a wildcard, what comes after "*."
	wild bool
}

func domainOf(d attache.AllowedDomain) domain {
	host, wild := strings.CutPrefix(string(d), wildcard)
	return domain{host, wild}
}

const (
	// perPage is how many connections there are for each page when the table doubles.
	// With more of them a change is more work, with less there are more pieces of
	// memory.
	perPage = 24
	// mostReady bounds how many connections of a table are kept unpacked; where there
	// are more pages than that, it is one of each.
	mostReady = 4096
)

// The methods that take a hash exist for tests of what happens when hashes
// collide.

func hashOfName(name string) uint64 { return maphash.String(seed, name) }
func hashOfDomain(d domain) uint64  { return maphash.Comparable(seed, d) }

// named is the connection of that name.
func (t *table) named(name string) (spot, bool) { return t.find(hashOfName(name), name) }

// under begins a walk through the connections of the domain.
func (t *table) under(d domain) walk { return t.follow(hashOfDomain(d), d) }

// with is t with the connection, in place of the one of that name.
func (t table) with(b *batch, c *attache.Connection) table {
	return t.insert(b, link{hashOfDomain(domainOf(c.AllowedDomain)), hashOfName(c.Name)}, c)
}

// page is the one where a hash belongs; nil where nothing does.
func (t *table) page(hash uint64) *page {
	if len(t.pages) == 0 {
		return nil
	}
	return t.pages[hash&uint64(len(t.pages)-1)]
}

func (t *table) find(hash uint64, name string) (spot, bool) {
	p := t.page(hash)
	if p == nil {
		return spot{}, false
	}
	s := spot{p, p.search(hash, name)}
	return s, s.leads(link{name: hash}) && s.name() == name
}

func (t *table) follow(hash uint64, d domain) walk {
	w := walk{table: t, domain: d}
	if p := t.page(hash); p != nil {
		w.links = p.links[p.searchLink(link{domain: hash}):]
		w.last.domain = hash
	}
	return w
}

// walk goes through the connections of a domain, in no order.
type walk struct {
	table  *table
	domain domain
	links  []link // to follow, and then those of other domains
	last   link   // that was followed
	to     spot   // where it leads
}

// next is a connection, and false after the last.
func (w *walk) next() (here spot, ok bool) {
	for {
		for w.to.leads(w.last) {
			here = w.to
			w.to.at++
			if here.isUnder(w.domain) {
				return here, true
			}
		}
		for w.to.page != nil && len(w.links) > 0 && w.links[0] == w.last { // two names of one hash
			w.links = w.links[1:]
		}
		if len(w.links) == 0 || w.links[0].domain != w.last.domain {
			return spot{}, false
		}
		w.last, w.links = w.links[0], w.links[1:]
		p := w.table.page(w.last.name)
		w.to = spot{p, p.search(w.last.name, "")}
	}
}

// rest is all that next would yield, by name.
func (w *walk) rest() []spot {
	var all []spot
	for s, ok := w.next(); ok; s, ok = w.next() {
		all = append(all, s)
	}
	slices.SortFunc(all, spot.compare)
	return all
}

func (t table) insert(b *batch, l link, c *attache.Connection) table {
	if old, ok := t.find(l.name, c.Name); ok && old.isUnder(domainOf(c.AllowedDomain)) {
		t.editable(b, l.name, old.at).add(l, c) // and the link from its domain stays
		return t
	} else if ok {
		t = t.without(b, old)
	}
	if t.size >= perPage*len(t.pages) {
		t = t.grown(b)
	}
	t.editable(b, l.name, noRow).add(l, c)
	t.editable(b, l.domain, noRow).addLink(l)
	t.size++
	return t
}

// without is t without the connection there.
func (t table) without(b *batch, s spot) table {
	if t.size == 1 {
		return table{}
	}
	l := s.row().link
	t.editable(b, l.name, s.at)
	t.editable(b, l.domain, noRow).removeLink(l)
	t.size--
	return t
}

// editable makes the batch the owner of the page of a hash, and takes a row out of
// it, of which nothing stays.
func (t *table) editable(b *batch, hash uint64, without int) *page {
	if t.owner != b {
		t.owner, t.pages = b, slices.Clone(t.pages)
	}
	p := &t.pages[hash&uint64(len(t.pages)-1)]
	switch {
	case *p == nil:
		*p = &page{owner: b}
	case (*p).owner != b || without != noRow:
		*p = (*p).copy(b, without, 0, 0)
	}
	return *p
}

// grown is t with twice as many pages.
func (t table) grown(b *batch) table {
	n := len(t.pages)
	pages := make([]*page, max(1, 2*n))
	for i, p := range t.pages {
		if p != nil {
			pages[i], pages[i+n] = p.copy(b, noRow, uint64(n), 0), p.copy(b, noRow, uint64(n), uint64(n))
		}
	}
	return table{b, pages, t.size}
}

// entry is the connection there, unpacked; it is the integration's.
func (t *table) entry(integration string, s spot) *entry {
	ready := s.page.ready.Load()
	if ready == nil {
		made := make([]atomic.Pointer[entry], min(len(s.page.rows), max(1, mostReady/len(t.pages))))
		s.page.ready.CompareAndSwap(nil, &made)
		ready = s.page.ready.Load()
	}
	place := &(*ready)[s.at%len(*ready)]
	if e := place.Load(); e != nil && e.at == s.at {
		return e
	}
	e := s.unpack(integration)
	place.Store(e)
	return e
}
