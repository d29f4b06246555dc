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

// Decide says what happens to a tunnel or a request, in time that grows with the
// labels of the host and with nothing else.
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
	fitting := in.narrowest(q.Target.Host, port)
	switch {
	case fitting == nil:
		return unmatched(q), nil
	case !secure:
		return plaintextRefused(fitting.entries[0], q), nil
	case len(fitting.entries) == 1:
		only := fitting.entries[0]
		return only.decide(q), only
	case q.Method == "CONNECT":
		return attache.Decision{Action: attache.Inject, Reason: reasonPerRequest}, nil
	}
	return ambiguous(fitting, q), nil
}

// covering yields where the connections are that cover the host, from the
// narrowest domain to the widest: the host itself, then ever shorter wildcards.
func covering(host string, port uint16) iter.Seq[place] {
	return func(yield func(place) bool) {
		if !yield(place{host, false, port}) {
			return
		}
		for base, more := host, true; more; _, base, more = strings.Cut(base, ".") {
			if !yield(place{base, true, port}) {
				return
			}
		}
	}
}

// narrowest is the group of the narrowest domain that covers the host, and nil
// where none does.
func (in *integration) narrowest(host string, port uint16) *group {
	for p := range covering(host, port) {
		if g, ok := in.domains.get(p); ok {
			return g
		}
	}
	return nil
}

func (in *integration) decideNamed(q Query) (attache.Decision, *entry) {
	e, ok := in.names.get(q.Connection)
	if !ok {
		return deny(attache.CodeUnknownConnection,
			"integration %q has no connection %s: see attache connection list --integration %s",
			q.Integration, quotable(q.Connection), q.Integration), nil
	}
	c := e.connection
	if !Covers(c.AllowedDomain, q.Target.Host) {
		return deny(attache.CodeConnectionMismatch, "the client named connection %q, which is for %s and not for %s",
			c.Name, c.AllowedDomain, q.Target.Host), e
	}
	if q.Target.Scheme != "https" {
		return plaintextRefused(e, q), e
	}
	if !e.allows(q.Target.Port) {
		return deny(attache.CodeConnectionMismatch, "the client named connection %q, which is for %s on %s and not on port %d",
			c.Name, c.AllowedDomain, ports(c), q.Target.Port), e
	}
	d := e.decide(q)
	if d.Action == attache.Inject {
		d.Reason = e.named
	}
	return d, e
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

func plaintextRefused(e *entry, q Query) attache.Decision {
	return deny(attache.CodePlaintextRefused,
		"connection %q covers %s, and a credential never travels over plain http: use https", e.connection.Name, q.Target.Host)
}

func ambiguous(g *group, q Query) attache.Decision {
	// Not one that was moved, unless all were.
	here := max(0, slices.IndexFunc(g.entries, func(e *entry) bool {
		grant := e.connection.Grant
		return grant == nil || grant.State != attache.GrantMoved
	}))
	name := g.entries[here].connection.Name
	return deny(attache.CodeAmbiguousConnection,
		"connections %s fit %s equally well: name one with the header Attache-Connection: %s, or with the user name %s.%s in the proxy URL",
		g.list(), q.Target, name, q.Integration, name)
}

// list names the group's connections for people.
func (g *group) list() string {
	shown := g.entries[:min(len(g.entries), maxListed)]
	names := make([]string, len(shown))
	for i, e := range shown {
		names[i] = strconv.Quote(e.connection.Name)
	}
	if more := len(g.entries) - len(shown); more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names, ", "), more)
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// ports names the connection's ports for people.
func ports(c *attache.Connection) string {
	if len(c.AllowedPorts) == 1 {
		return "port " + strconv.Itoa(int(c.AllowedPorts[0]))
	}
	texts := make([]string, len(c.AllowedPorts))
	for i, p := range c.AllowedPorts {
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
