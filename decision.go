package attache

import (
	"net"
	"strconv"
	"strings"
	"time"

	"attache/secret"
)

// Target is where a request is for: fixed when the tunnel opens, and compared
// with == from then on. policy.ParseTarget makes one.
type Target struct {
	Scheme string // "https" or "http"
	Host   string // canonical: lower case, A-labels, no trailing dot; an IP address without brackets
	Port   uint16
}

// Addr is the target's host:port, with brackets around an IPv6 address.
func (t Target) Addr() string { return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))) }

// String is the target as an origin (RFC 6454): the port only where it is not
// the scheme's own.
func (t Target) String() string {
	if t.Scheme == "https" && t.Port == 443 || t.Scheme == "http" && t.Port == 80 {
		host := t.Host
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return t.Scheme + "://" + host
	}
	return t.Scheme + "://" + t.Addr()
}

// Action is what happens to a request or a tunnel.
type Action string

// The actions.
const (
	Inject  Action = "inject"  // send with a connection's credential
	Tunnel  Action = "tunnel"  // copy bytes, without decrypting them
	Forward Action = "forward" // send plain http without a credential
	Deny    Action = "deny"    // answer with a code, send nothing
)

// Decision is what was decided about a target for an integration, and why.
type Decision struct {
	Action Action
	// Connection is, with Inject, what tells the connection apart and says how it is
	// used: Integration, Name, Type, AllowedDomain, AllowedPorts, HeaderName and
	// StripCookies. Nothing else of it is set.
	Connection *Connection
	Header     string      // with Inject: the field that carries the credential
	Value      secret.Text // with Inject: that field's value; of an OAuth connection only what the index last saw
	Code       Code        // with Deny
	// Reason is one sentence for people: why, and with Deny what to do. It names
	// connections and domains, never a secret or an internal address. It is empty
	// with a connection to inject, unless somebody asked for an explanation.
	Reason string
}

// EventKind tells the two kinds of events apart.
type EventKind string

// The kinds of events.
const (
	ConnectEvent EventKind = "connect" // one CONNECT, recorded when its tunnel closes or was refused
	RequestEvent EventKind = "request" // one request, inside a tunnel or plain http
	GrantEvent   EventKind = "grant"   // one change in the life of an OAuth connection's grant
)

// Event is the one audit record of one CONNECT or one request.
type Event struct {
	ID          string    `json:"request_id"`
	Time        time.Time `json:"time"` // when it began
	Kind        EventKind `json:"kind"`
	Tunnel      string    `json:"tunnel,omitempty"` // request_id of the CONNECT that a request came in
	Client      string    `json:"client,omitempty"` // the client's IP address
	Integration string    `json:"integration,omitempty"`
	Connection  string    `json:"connection,omitempty"`
	Decision    Action    `json:"decision"`
	Code        Code      `json:"code,omitempty"` // set when the proxy itself answered
	Reason      string    `json:"reason,omitempty"`
	Target      string    `json:"target,omitempty"`
	Method      string    `json:"method,omitempty"`
	Path        string    `json:"path,omitempty"` // without the query
	Protocol    string    `json:"protocol,omitempty"`
	Status      int       `json:"status,omitempty"` // as the client saw it; 0 where it saw none
	// BytesIn came from the client and BytesOut went to it: body bytes of a
	// request, all bytes inside an opaque tunnel.
	BytesIn  int64 `json:"bytes_in"`
	BytesOut int64 `json:"bytes_out"`
	// Duration is from the first byte of the head to the last of the answer,
	// Upstream until the upstream's answer began; both in seconds.
	Duration float64 `json:"duration_seconds"`
	Upstream float64 `json:"upstream_seconds,omitempty"`
}
