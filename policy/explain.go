package policy

import (
	"fmt"
	"slices"

	"attache"
)

// Candidate is a connection that a decision considered, because it covers the
// host or because the query names it, and what became of it.
type Candidate struct {
	Connection    string                `json:"connection"`
	AllowedDomain attache.AllowedDomain `json:"allowed_domain"`
	Chosen        bool                  `json:"chosen"` // its credential is sent
	Why           string                `json:"why"`    // one sentence
}

// maxCandidates bounds an explanation.
const maxCandidates = 50

// Explain makes the same decision as [Index.Decide] and says what became of each
// connection that it considered, the named one first, then from the narrowest
// domain to the widest, at most 50.
func (ix *Index) Explain(q Query) (attache.Decision, []Candidate) {
	in := ix.integration(q.Integration)
	d, about := in.decide(q)
	if about != nil && d.Action == attache.Inject {
		d.Reason = about.why(q)
	}
	var candidates []Candidate
	add := func(e *entry, chosen bool, why string) {
		candidates = append(candidates, Candidate{e.connection.Name, e.connection.AllowedDomain, chosen, why})
	}
	named := ""
	if about != nil {
		add(about, d.Connection != nil, d.Reason)
		named = about.connection.Name
	}
	var best attache.AllowedDomain // that fits the port as well
	for covers := range covering(q.Target.Host) {
		w := in.connections.under(covers)
		all := w.rest()
		if best == "" && slices.ContainsFunc(all, func(s spot) bool { return s.allows(q.Target.Port) }) {
			best = in.entry(all[0]).connection.AllowedDomain
		}
		for _, s := range all {
			if s.name() == named {
				continue
			}
			if len(candidates) == maxCandidates {
				return d, candidates
			}
			e := in.entry(s)
			add(e, false, e.whyNot(q, best))
		}
	}
	return d, candidates
}

// why says why it was chosen.
func (e *entry) why(q Query) string {
	c := &e.connection
	switch {
	case q.Connection != "":
		return fmt.Sprintf("the client named connection %q, which is for %s", c.Name, c.AllowedDomain)
	case domainOf(c.AllowedDomain).wild:
		return fmt.Sprintf("connection %q is for %s, the narrowest domain that covers this host and port", c.Name, c.AllowedDomain)
	}
	return fmt.Sprintf("connection %q is for exactly this host", c.Name)
}

// whyNot says why a connection that covers the host was not chosen, where the
// narrowest domain that fits host and port is best.
func (e *entry) whyNot(q Query, best attache.AllowedDomain) string {
	c := &e.connection
	switch {
	case q.Connection != "":
		return "the client named another connection"
	case q.Target.Scheme != "https":
		return "it covers the host, and a credential never travels over plain http"
	case !slices.Contains(c.AllowedPorts, q.Target.Port):
		return fmt.Sprintf("it is for %s and not for port %d", ports(c), q.Target.Port)
	case c.AllowedDomain == best:
		return "it fits as well as others, and the client named none"
	}
	return fmt.Sprintf("its domain %s is wider than %s", c.AllowedDomain, best)
}
