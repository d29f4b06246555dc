package policy

import (
	"bytes"
	"slices"
	"sync/atomic"
	"time"

	"attache"
	"attache/secret"
)

// page is a part of a table: the connections whose name's hash belongs to it, and
// the links of the domains whose hash does. It changes only in the batch that owns
// it, and nobody asks for an entry of it before that ends; after it only ready
// changes, by any reader.
type page struct {
	owner  *batch
	rows   []row  // by the hash of the name, and the name
	links  []link // by domain and name
	text   []byte // what is in the rows, and nothing else
	values secret.Bundle
	ready  atomic.Pointer[[]atomic.Pointer[entry]] // rows that were asked for; several may share a place
}

// row is a connection in its page.
type row struct {
	link         link
	created      int64 // in nanoseconds since 1970: of the connections of a name, which one it is
	value        secret.Span
	text         uint32            // where its fields begin
	ends         [rowFields]uint16 // where each field ends, from there
	wild         bool
	stripCookies bool
	exported     bool // the grant was moved away
}

// The fields of a row, in the order of their text.
const (
	nameField   = iota
	hostField   // of the domain
	typeField   // of the connection
	headerField // that carries the credential
	portsField  // two bytes for each port
	rowFields
)

// link leads from a domain to one of its connections, by the hashes of both.
type link struct{ domain, name uint64 }

func (l link) less(m link) bool {
	return l.domain < m.domain || l.domain == m.domain && l.name < m.name
}

// spot is where a connection is.
type spot struct {
	page *page
	at   int
}

// entry is a connection with the decision to inject it, made ready once.
type entry struct {
	at         int // in its page
	connection attache.Connection
	inject     attache.Decision
}

// noRow is where no row is.
const noRow = -1

// copy is the page for a batch to change, without one row, and of it the part whose
// hashes have those bits under the mask.
func (p *page) copy(b *batch, without int, mask, bits uint64) *page {
	q := &page{owner: b, rows: make([]row, 0, len(p.rows)+1), text: make([]byte, 0, len(p.text))}
	if mask == 0 { // there may be very many links, of one domain
		q.links = make([]link, 0, len(p.links)+1)
	}
	for i, r := range p.rows {
		if r.link.name&mask == bits && i != without {
			from, to := r.bounds(nameField, portsField)
			r.text, q.text = uint32(len(q.text)), append(q.text, p.text[from:to]...)
			r.value = q.values.Carry(p.values, r.value)
			q.rows = append(q.rows, r)
		}
	}
	for _, l := range p.links {
		if l.domain&mask == bits {
			q.links = append(q.links, l)
		}
	}
	return q
}

func (p *page) addLink(l link) { p.links = slices.Insert(p.links, p.searchLink(l), l) }

func (p *page) removeLink(l link) {
	at := p.searchLink(l)
	p.links = slices.Delete(p.links, at, at+1)
}

// search is the place of a row, or the one where it would be.
func (p *page) search(hash uint64, name string) int {
	from, to := 0, len(p.rows)
	for from < to {
		middle := (from + to) / 2
		if r := &p.rows[middle]; r.link.name < hash || r.link.name == hash && string(p.field(r, nameField)) < name {
			from = middle + 1
		} else {
			to = middle
		}
	}
	return from
}

// searchLink is the place of a link, or the one where it would be.
func (p *page) searchLink(l link) int {
	from, to := 0, len(p.links)
	for from < to {
		if middle := (from + to) / 2; p.links[middle].less(l) {
			from = middle + 1
		} else {
			to = middle
		}
	}
	return from
}

func (p *page) add(l link, c *attache.Connection) {
	p.rows = slices.Insert(p.rows, p.search(l.name, c.Name), p.pack(l, c))
}

func (p *page) pack(l link, c *attache.Connection) row {
	d := domainOf(c.AllowedDomain)
	header, value := c.Header()
	r := row{
		link: l, created: c.CreatedAt.UnixNano(), value: p.values.Add(value), text: uint32(len(p.text)), wild: d.wild,
		stripCookies: c.StripCookies, exported: c.Grant != nil && c.Grant.State == attache.GrantMoved,
	}
	for i, field := range [...]string{nameField: c.Name, hostField: d.host, typeField: string(c.Type), headerField: header} {
		p.text = append(p.text, field...)
		r.ends[i] = uint16(len(p.text) - int(r.text))
	}
	for _, port := range c.AllowedPorts {
		p.text = append(p.text, byte(port>>8), byte(port))
	}
	r.ends[portsField] = uint16(len(p.text) - int(r.text))
	return r
}

// bounds is where in the page's text the fields from first to last are.
func (r *row) bounds(first, last int) (from, to uint32) {
	from = r.text
	if first > 0 {
		from += uint32(r.ends[first-1])
	}
	return from, r.text + uint32(r.ends[last])
}

func (p *page) field(r *row, field int) []byte {
	from, to := r.bounds(field, field)
	return p.text[from:to]
}

// leads reports whether the link leads here.
func (s spot) leads(l link) bool {
	return s.page != nil && s.at < len(s.page.rows) && s.row().link.name == l.name
}

func (s spot) row() *row { return &s.page.rows[s.at] }

func (s spot) field(field int) []byte { return s.page.field(s.row(), field) }

func (s spot) name() string { return string(s.field(nameField)) }

func (s spot) allowedDomain() attache.AllowedDomain {
	d := attache.AllowedDomain(s.field(hostField))
	if s.row().wild {
		return wildcard + d
	}
	return d
}

// compare orders spots by name.
func (s spot) compare(u spot) int { return bytes.Compare(s.field(nameField), u.field(nameField)) }

func (s spot) isUnder(d domain) bool {
	return string(s.field(hostField)) == d.host && s.row().wild == d.wild
}

// anyPort is no port of a connection.
const anyPort = 0

func (s spot) allows(port uint16) bool {
	for b := s.field(portsField); len(b) > 0; b = b[2:] {
		if uint16(b[0])<<8|uint16(b[1]) == port {
			return true
		}
	}
	return port == anyPort
}

func (s spot) ports() []uint16 {
	b := s.field(portsField)
	ports := make([]uint16, len(b)/2)
	for i := range ports {
		ports[i] = uint16(b[2*i])<<8 | uint16(b[2*i+1])
	}
	return ports
}

// unpack is the connection as it was, but for what nobody asks an index for.
func (s spot) unpack(integration string) *entry {
	e := &entry{at: s.at, connection: attache.Connection{
		Integration:   integration,
		Name:          s.name(),
		Type:          attache.ConnectionType(s.field(typeField)),
		AllowedDomain: s.allowedDomain(),
		AllowedPorts:  s.ports(),
		StripCookies:  s.row().stripCookies,
		CreatedAt:     time.Unix(0, s.row().created),
	}}
	header := string(s.field(headerField))
	if e.connection.Type == attache.APIKey {
		e.connection.HeaderName = attache.HeaderName(header)
	}
	e.inject = attache.Decision{
		Action: attache.Inject, Connection: &e.connection, Header: header, Value: s.page.values.Text(s.row().value),
	}
	return e
}
