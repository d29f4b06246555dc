package policy

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"attache"
)

// Query is what a decision is about.
type Query struct {
	Integration string
	Connection  string         // as the client named it; empty to choose by the target
	Target      attache.Target // from ParseTarget
	Method      string         // "CONNECT" when a tunnel opens
	Unmatched   attache.Action // what happens to a target that no connection covers: Tunnel, which empty means too, or Deny
}

// Reasons of the decisions that name nothing, so that they need no memory.
const (
	reasonPerRequest = "several connections fit this host equally well, so the choice is made per request"
	reasonTunnel     = "no connection covers this host and port, so its bytes are copied and not decrypted"
	reasonForward    = "no connection covers this host, so the request is sent on without a credential"
)

// maxListed bounds how many connections a reason names.
const maxListed = 10

// Decide says what happens to a tunnel or a request. That takes time for each
// label of the host, and for connections of one domain on different ports, or for
// all of a domain where it is ambiguous; how many others there are does not matter.
// The reason for Inject is [Index.Explain]'s to give.
//
// Where several connections fit a CONNECT equally well, it says Inject without a
// connection: intercept, and ask again for each request, which may name one.
func (ix *Index) Decide(q Query) attache.Decision {
	d, _ := ix.integration(q.Integration).decide(q)
	return d
}

// decide also returns the one connection that the decision is about, if there is
// one: the one to inject, or the one that a denial could not inject.
func (in *integration) decide(q Query) (attache.Decision, *entry) {
	if q.Connection != "" {
		return in.decideNamed(q)
	}
	secure := q.Target.Scheme == "https"
	port := q.Target.Port
	if !secure {
		port = anyPort
	}
	d, first, several := in.narrowest(q.Target.Host, port)
	switch {
	case first == (spot{}):
		return unmatched(q), nil
	case !secure:
		return plaintextRefused(first.name(), several, q), nil
	case !several:
		only := in.entry(first)
		return only.decide(q), only
	case q.Method == "CONNECT":
		return attache.Decision{Action: attache.Inject, Reason: reasonPerRequest}, nil
	}
	return in.ambiguous(d, q), nil
}

// covering yields the domains that cover the host, from the narrowest to the
// widest: the host itself, then ever shorter wildcards.
func covering(host string) iter.Seq[domain] {
	return func(yield func(domain) bool) {
		if !yield(domain{host, false}) {
			return
		}
		for base, more := host, true; more; _, base, more = strings.Cut(base, ".") {
			if !yield(domain{base, true}) {
				return
			}
		}
	}
}

// narrowest is the narrowest domain that covers host and port, one of its
// connections that do, and whether there are others; no spot where none does.
func (in *integration) narrowest(host string, port uint16) (d domain, first spot, several bool) {
	for d := range covering(host) {
		w := in.connections.under(d)
		for s, ok := w.next(); ok; s, ok = w.next() {
			switch {
			case !s.allows(port):
			case first != (spot{}):
				return d, first, true
			default:
				first = s
			}
		}
		if first != (spot{}) {
			return d, first, false
		}
	}
	return domain{}, spot{}, false
}

func (in *integration) decideNamed(q Query) (attache.Decision, *entry) {
	s, ok := in.connections.named(q.Connection)
	if !ok {
		return deny(attache.CodeUnknownConnection,
			"integration %q has no connection %s: see attache connection list --integration %s",
			q.Integration, quotable(q.Connection), q.Integration), nil
	}
	e := in.entry(s)
	c := &e.connection
	if !Covers(c.AllowedDomain, q.Target.Host) {
		return deny(attache.CodeConnectionMismatch, "the client named connection %q, which is for %s and not for %s",
			c.Name, c.AllowedDomain, q.Target.Host), e
	}
	if q.Target.Scheme != "https" {
		return plaintextRefused(c.Name, false, q), e
	}
	if !s.allows(q.Target.Port) {
		return deny(attache.CodeConnectionMismatch, "the client named connection %q, which is for %s on %s and not on port %d",
			c.Name, c.AllowedDomain, portNames(c.AllowedPorts), q.Target.Port), e
	}
	return e.decide(q), e
}

// decide is the decision once the connection is chosen. Whether an OAuth
// connection has a token is not known here: it may get one while the request waits.
func (e *entry) decide(q Query) attache.Decision {
	switch {
	case strings.EqualFold(q.Method, "TRACE"):
		return deny(attache.CodeTraceRefused,
			"the answer to TRACE would show the client the credential of connection %q: use another method", e.connection.Name)
	case e.inject.Value.IsZero() && e.connection.Type != attache.OAuth:
		return deny(attache.CodeCredentialUnavailable, "connection %q has no credential to send, so nothing was sent", e.connection.Name)
	}
	return e.inject
}

// unmatched is the decision where nothing fits. A request of an intercepted
// tunnel comes here when its connection was deleted meanwhile: it was meant to
// have a credential, so it does not go on without.
func unmatched(q Query) attache.Decision {
	secure := q.Target.Scheme == "https"
	if q.Unmatched == "" || q.Unmatched == attache.Tunnel {
		switch {
		case !secure:
			return attache.Decision{Action: attache.Forward, Reason: reasonForward}
		case q.Method == "CONNECT":
			return attache.Decision{Action: attache.Tunnel, Reason: reasonTunnel}
		}
	}
	_, err := ParseAllowedDomain(q.Target.Host)
	if broken, ok := errors.AsType[*attache.FieldError](err); ok {
		return deny(attache.CodeNoConnection, "integration %q has no connection for %s, and none can be made: the host %s",
			q.Integration, q.Target, broken.Rule)
	}
	more := ""
	if !secure {
		more = ", and use https"
	} else if q.Target.Port != 443 {
		more = fmt.Sprintf(" --allowed-port %d", q.Target.Port)
	}
	return deny(attache.CodeNoConnection,
		"integration %q has no connection for %s: create one with attache connection create NAME --integration %s --type TYPE --allowed-domain %s%s",
		q.Integration, q.Target, q.Integration, q.Target.Host, more)
}

func plaintextRefused(name string, several bool, q Query) attache.Decision {
	who := fmt.Sprintf("connection %q covers", name)
	if several {
		who = "several connections cover"
	}
	return deny(attache.CodePlaintextRefused, "%s %s, and a credential never travels over plain http: use https", who, q.Target.Host)
}

// ambiguous is the decision where several connections of a domain fit. It suggests
// the first by name that is not exported, unless all are.
func (in *integration) ambiguous(d domain, q Query) attache.Decision {
	var shown []string // the first by name, sorted
	var here string
	count := 0
	w := in.connections.under(d)
	for s, ok := w.next(); ok; s, ok = w.next() {
		if !s.allows(q.Target.Port) {
			continue
		}
		count++
		if !s.row().exported && (here == "" || string(s.field(nameField)) < here) {
			here = s.name()
		}
		if len(shown) < maxListed || string(s.field(nameField)) < shown[maxListed-1] {
			at, _ := slices.BinarySearch(shown, s.name())
			shown = slices.Insert(shown, at, s.name())
			shown = shown[:min(len(shown), maxListed)]
		}
	}
	if here == "" {
		here = shown[0]
	}
	return deny(attache.CodeAmbiguousConnection,
		"connections %s fit %s equally well: name one with the header Attache-Connection: %s, or with the user name %s.%s in the proxy URL",
		list(shown, count), q.Target, here, q.Integration, here)
}

// list names connections for people: the ones that are shown, of so many.
func list(shown []string, count int) string {
	names := make([]string, len(shown))
	for i, name := range shown {
		names[i] = strconv.Quote(name)
	}
	if more := count - len(shown); more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names, ", "), more)
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// portNames names ports for people.
func portNames(ports []uint16) string {
	if len(ports) == 1 {
		return "port " + strconv.Itoa(int(ports[0]))
	}
	texts := make([]string, len(ports))
	for i, p := range ports {
		texts[i] = strconv.Itoa(int(p))
	}
	return "ports " + strings.Join(texts, ", ")
}

func deny(code attache.Code, format string, args ...any) attache.Decision {
	return attache.Decision{Action: attache.Deny, Code: code, Reason: fmt.Sprintf(format, args...)}
}

// quotable is a name that a client gave, for a sentence. What cannot be a name, or
// may be an access token in the wrong place, is not repeated.
func quotable(name string) string {
	if _, err := ParseName("connection", name); err != nil || strings.HasPrefix(name, string(attache.AccessTokenPrefix)) {
		return "of the name that the client gave"
	}
	return strconv.Quote(name)
}
