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
	first := "" // the name of the one that the decision is about
	if about != nil {
		c := about.connection
		candidates = append(candidates, Candidate{c.Name, c.AllowedDomain, d.Connection != nil, d.Reason})
		first = c.Name
	}
	var best attache.AllowedDomain // that fits the port as well
	for covers := range covering(q.Target.Host) {
		w := in.connections.under(covers)
		all := w.rest()
		if best == "" && slices.ContainsFunc(all, func(s spot) bool { return s.allows(q.Target.Port) }) {
			best = all[0].allowedDomain()
		}
		for _, s := range all {
			if s.name() == first {
				continue
			}
			if len(candidates) == maxCandidates {
				return d, candidates
			}
			candidates = append(candidates, Candidate{s.name(), s.allowedDomain(), false, s.whyNot(q, best)})
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
func (s spot) whyNot(q Query, best attache.AllowedDomain) string {
	switch {
	case q.Connection != "":
		return "the client named another connection"
	case q.Target.Scheme != "https":
		return "it covers the host, and a credential never travels over plain http"
	case !s.allows(q.Target.Port):
		return fmt.Sprintf("it is for %s and not for port %d", portNames(s.ports()), q.Target.Port)
	case s.allowedDomain() == best:
		return "it fits as well as others, and the client named none"
	}
	return fmt.Sprintf("its domain %s is wider than %s", s.allowedDomain(), best)
}
