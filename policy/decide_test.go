package policy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"attache"
	"attache/policy"
)

// The connections that the decisions are about.
var world = []*attache.Connection{
	connection("key", "api.example.com"),
	connection("wide", "*.example.com", bearer("tok-"+canary)),
	connection("wider", "*.com.example", basicAuth("me", canary)),
	connection("deep", "*.eu.com.example", bearer("tok-"+canary)),
	connection("alice", "shared.example.org"),
	connection("bob", "shared.example.org"),
	connection("carol", "*.example.org"),
	connection("odd", "odd.example.net", onPorts(443, 8443)),
	connection("narrow", "ports.example.net", onPorts(8443)),
	connection("broad", "*.ports.example.net"),
	connection("empty", "empty.example.com", func(c *attache.Connection) { c.Credential = attache.Credential{} }),
	connection("granted", "granted.example.com", oauth),
	connection("gone", "half.example.org", oauth, moved),
	connection("here", "half.example.org"),
	connection("gone1", "none.example.org", oauth, moved),
	connection("gone2", "none.example.org", oauth, moved),
	connection("theirs", "theirs.example.io", func(c *attache.Connection) { c.Integration = "cat" }),
}

func moved(c *attache.Connection) { c.Grant = &attache.Grant{State: attache.GrantMoved} }

// query is a query of the integration "bot", changed by edits.
func query(method, scheme, authority string, edits ...func(*policy.Query)) policy.Query {
	target, _ := policy.ParseTarget(scheme, authority) // what does not parse fails its test by what is decided
	q := policy.Query{Integration: "bot", Method: method, Target: target}
	for _, edit := range edits {
		edit(&q)
	}
	return q
}

func get(scheme, authority string, edits ...func(*policy.Query)) policy.Query {
	return query("GET", scheme, authority, edits...)
}

func connect(authority string, edits ...func(*policy.Query)) policy.Query {
	return query("CONNECT", "https", authority, edits...)
}

func naming(connection string) func(*policy.Query) {
	return func(q *policy.Query) { q.Connection = connection }
}

func denying(q *policy.Query) { q.Unmatched = attache.Deny }

func TestDecisions(t *testing.T) {
	ix := policy.Compile(changes(world...))
	for sentence, c := range map[string]struct {
		query      policy.Query
		connection string // with Inject
		action     attache.Action
		code       attache.Code
		reason     string
	}{
		"the exact host beats the wildcard": {get("https", "api.example.com"), "key", attache.Inject, "",
			`connection "key" is for exactly this host`},
		"it does when the tunnel opens": {connect("api.example.com:443"), "key", attache.Inject, "",
			`connection "key" is for exactly this host`},
		"case and a trailing dot do not matter": {get("https", "API.Example.com."), "key", attache.Inject, "",
			`connection "key" is for exactly this host`},
		"a wildcard covers what is below": {get("https", "a.b.example.com"), "wide", attache.Inject, "",
			`connection "wide" is for *.example.com, the narrowest domain that covers this host and port`},
		"a wildcard covers its base": {get("https", "example.com"), "wide", attache.Inject, "",
			`connection "wide" is for *.example.com, the narrowest domain that covers this host and port`},
		"the longer wildcard beats the shorter": {get("https", "a.eu.com.example"), "deep", attache.Inject, "",
			`connection "deep" is for *.eu.com.example, the narrowest domain that covers this host and port`},
		"the shorter wildcard covers the rest": {get("https", "a.us.com.example"), "wider", attache.Inject, "",
			`connection "wider" is for *.com.example, the narrowest domain that covers this host and port`},
		"a wildcard on the port beats an exact host on another": {get("https", "ports.example.net"), "broad", attache.Inject, "",
			`connection "broad" is for *.ports.example.net, the narrowest domain that covers this host and port`},
		"the exact host wins on its port": {get("https", "ports.example.net:8443"), "narrow", attache.Inject, "",
			`connection "narrow" is for exactly this host`},
		"a second port is as good as the first": {get("https", "odd.example.net:8443"), "odd", attache.Inject, "",
			`connection "odd" is for exactly this host`},

		"several that fit equally well are decided per request": {connect("shared.example.org:443"), "", attache.Inject, "",
			"several connections fit this host equally well, so the choice is made per request"},
		"several that fit equally well are refused without a name": {get("https", "shared.example.org"), "", attache.Deny, attache.CodeAmbiguousConnection,
			`connections "alice" and "bob" fit https://shared.example.org equally well: name one with the header Attache-Connection: alice, or with the user name bot.alice in the proxy URL`},
		"one that was moved is not the one to name": {get("https", "half.example.org"), "", attache.Deny, attache.CodeAmbiguousConnection,
			`connections "gone" and "here" fit https://half.example.org equally well: name one with the header Attache-Connection: here, or with the user name bot.here in the proxy URL`},
		"where all were moved, each is as good as the others": {get("https", "none.example.org"), "", attache.Deny, attache.CodeAmbiguousConnection,
			`connections "gone1" and "gone2" fit https://none.example.org equally well: name one with the header Attache-Connection: gone1, or with the user name bot.gone1 in the proxy URL`},
		"a name settles it": {get("https", "shared.example.org", naming("bob")), "bob", attache.Inject, "",
			`the client named connection "bob", which is for shared.example.org`},
		"a name settles it when the tunnel opens": {connect("shared.example.org:443", naming("bob")), "bob", attache.Inject, "",
			`the client named connection "bob", which is for shared.example.org`},
		"a wider connection may be named": {get("https", "shared.example.org", naming("carol")), "carol", attache.Inject, "",
			`the client named connection "carol", which is for *.example.org`},
		"an unknown name is refused": {get("https", "api.example.com", naming("nobody")), "", attache.Deny, attache.CodeUnknownConnection,
			`integration "bot" has no connection "nobody": see attache connection list --integration bot`},
		"another integration's connection is unknown": {get("https", "theirs.example.io", naming("theirs")), "", attache.Deny, attache.CodeUnknownConnection,
			`integration "bot" has no connection "theirs": see attache connection list --integration bot`},
		"an access token where a name belongs is not repeated": {get("https", "api.example.com", naming("att_0123456789")), "", attache.Deny, attache.CodeUnknownConnection,
			`integration "bot" has no connection of the name that the client gave: see attache connection list --integration bot`},
		"nor is what cannot be a name": {get("https", "api.example.com", naming(strings.Repeat("x", 60_000))), "", attache.Deny, attache.CodeUnknownConnection,
			`integration "bot" has no connection of the name that the client gave: see attache connection list --integration bot`},
		"a name never falls back to one that fits": {get("https", "api.example.com", naming("alice")), "", attache.Deny, attache.CodeConnectionMismatch,
			`the client named connection "alice", which is for shared.example.org and not for api.example.com`},
		"a name does not open another port": {get("https", "api.example.com:8443", naming("key")), "", attache.Deny, attache.CodeConnectionMismatch,
			`the client named connection "key", which is for api.example.com on port 443 and not on port 8443`},
		"a name does not open a third port": {get("https", "odd.example.net:9443", naming("odd")), "", attache.Deny, attache.CodeConnectionMismatch,
			`the client named connection "odd", which is for odd.example.net on ports 443, 8443 and not on port 9443`},
		"a name that does not fit is refused for a tunnel": {connect("evil.org:443", naming("key")), "", attache.Deny, attache.CodeConnectionMismatch,
			`the client named connection "key", which is for api.example.com and not for evil.org`},

		"a host that nothing covers is tunnelled": {connect("evil.org:443"), "", attache.Tunnel, "",
			"no connection covers this host and port, so its bytes are copied and not decrypted"},
		"a look-alike is tunnelled": {connect("api.example.com.evil.org:443"), "", attache.Tunnel, "",
			"no connection covers this host and port, so its bytes are copied and not decrypted"},
		"another integration's host is tunnelled": {connect("theirs.example.io:443"), "", attache.Tunnel, "",
			"no connection covers this host and port, so its bytes are copied and not decrypted"},
		"another port is tunnelled": {connect("api.example.com:8443"), "", attache.Tunnel, "",
			"no connection covers this host and port, so its bytes are copied and not decrypted"},
		"an address is tunnelled": {connect("192.0.2.1:443"), "", attache.Tunnel, "",
			"no connection covers this host and port, so its bytes are copied and not decrypted"},
		"tunnel may be said": {connect("evil.org:443", func(q *policy.Query) { q.Unmatched = attache.Tunnel }), "", attache.Tunnel, "",
			"no connection covers this host and port, so its bytes are copied and not decrypted"},
		"what is unmatched can be refused": {connect("evil.org:443", denying), "", attache.Deny, attache.CodeNoConnection,
			`integration "bot" has no connection for https://evil.org: create one with attache connection create NAME --integration bot --type TYPE --allowed-domain evil.org`},
		"another port can be refused": {connect("api.example.com:8443", denying), "", attache.Deny, attache.CodeNoConnection,
			`integration "bot" has no connection for https://api.example.com:8443: create one with attache connection create NAME --integration bot --type TYPE --allowed-domain api.example.com --allowed-port 8443`},
		"an address can be refused": {connect("[::1]:443", denying), "", attache.Deny, attache.CodeNoConnection,
			`integration "bot" has no connection for https://[::1], and none can be made: the host is an IP address`},
		"a name of one label can be refused": {connect("localhost:443", denying), "", attache.Deny, attache.CodeNoConnection,
			`integration "bot" has no connection for https://localhost, and none can be made: the host has only one label`},
		"an action that is neither is taken for deny": {connect("evil.org:443", func(q *policy.Query) { q.Unmatched = "allow" }), "", attache.Deny, attache.CodeNoConnection,
			`integration "bot" has no connection for https://evil.org: create one with attache connection create NAME --integration bot --type TYPE --allowed-domain evil.org`},
		"a request whose connection is gone is refused": {get("https", "gone.example.net"), "", attache.Deny, attache.CodeNoConnection,
			`integration "bot" has no connection for https://gone.example.net: create one with attache connection create NAME --integration bot --type TYPE --allowed-domain gone.example.net`},
		"an unknown integration has nothing": {get("https", "api.example.com", func(q *policy.Query) { q.Integration = "nobody" }), "", attache.Deny, attache.CodeNoConnection,
			`integration "nobody" has no connection for https://api.example.com: create one with attache connection create NAME --integration nobody --type TYPE --allowed-domain api.example.com`},

		"plain http to a covered host is refused": {get("http", "api.example.com"), "", attache.Deny, attache.CodePlaintextRefused,
			`connection "key" covers api.example.com, and a credential never travels over plain http: use https`},
		"plain http to a host of several is refused": {get("http", "shared.example.org"), "", attache.Deny, attache.CodePlaintextRefused,
			`several connections cover shared.example.org, and a credential never travels over plain http: use https`},
		"plain http is refused on every port": {get("http", "ports.example.net:8080"), "", attache.Deny, attache.CodePlaintextRefused,
			`connection "narrow" covers ports.example.net, and a credential never travels over plain http: use https`},
		"plain http is refused with a name": {get("http", "api.example.com", naming("wide")), "", attache.Deny, attache.CodePlaintextRefused,
			`connection "wide" covers api.example.com, and a credential never travels over plain http: use https`},
		"plain http with a name for another host is refused": {get("http", "evil.org", naming("key")), "", attache.Deny, attache.CodeConnectionMismatch,
			`the client named connection "key", which is for api.example.com and not for evil.org`},
		"plain http to another host goes on": {get("http", "evil.org"), "", attache.Forward, "",
			"no connection covers this host, so the request is sent on without a credential"},
		"plain http to another host can be refused": {get("http", "evil.org", denying), "", attache.Deny, attache.CodeNoConnection,
			`integration "bot" has no connection for http://evil.org: create one with attache connection create NAME --integration bot --type TYPE --allowed-domain evil.org, and use https`},

		"TRACE gets no credential": {query("TRACE", "https", "api.example.com"), "", attache.Deny, attache.CodeTraceRefused,
			`the answer to TRACE would show the client the credential of connection "key": use another method`},
		"TRACE gets none with a name": {query("trace", "https", "api.example.com", naming("wide")), "", attache.Deny, attache.CodeTraceRefused,
			`the answer to TRACE would show the client the credential of connection "wide": use another method`},
		"TRACE over plain http to another host goes on": {query("TRACE", "http", "evil.org"), "", attache.Forward, "",
			"no connection covers this host, so the request is sent on without a credential"},
		"whether an OAuth connection has a token is for others to find out": {get("https", "granted.example.com"), "granted", attache.Inject, "",
			`connection "granted" is for exactly this host`},
		"without a credential nothing is sent": {get("https", "empty.example.com"), "", attache.Deny, attache.CodeCredentialUnavailable,
			`connection "empty" has no credential to send, so nothing was sent`},
		"without a credential nothing is sent to what was named": {get("https", "empty.example.com", naming("empty")), "", attache.Deny, attache.CodeCredentialUnavailable,
			`connection "empty" has no credential to send, so nothing was sent`},
	} {
		t.Run(sentence, func(t *testing.T) {
			d, _ := ix.Explain(c.query)
			if d.Action != c.action || d.Code != c.code || d.Reason != c.reason {
				t.Errorf("%s %s\n got %s\nwant %s %s\n     %s", d.Action, d.Code, d.Reason, c.action, c.code, c.reason)
			}
			got := ""
			if d.Connection != nil {
				got = d.Connection.Name
			}
			if got != c.connection {
				t.Errorf("connection %q, want %q", got, c.connection)
			}
			if c.connection == "" && (d.Header != "" || !d.Value.IsZero()) {
				t.Errorf("a header comes without a connection: %+v", d)
			}
			if d.Connection != nil {
				d.Reason = "" // of what is done all the time
			}
			if decided := ix.Decide(c.query); decided != d {
				t.Errorf("Decide decides otherwise: %+v", decided)
			}
		})
	}
}

func TestADecisionCarriesTheHeaderOfItsConnection(t *testing.T) {
	ix := policy.Compile(changes(
		connection("key", "key.example.com", apiKey("k  ey=,")),
		connection("basic", "basic.example.com", basicAuth("Aladdin", "open sesame")),
		connection("utf8", "utf8.example.com", basicAuth("test", "123£")), // the example of RFC 7617, section 2.1
		connection("token", "token.example.com", bearer("abc.def")),
	))
	for sentence, c := range map[string]struct{ host, header, value string }{
		"an API key is sent byte for byte in its header":  {"key.example.com", "X-Api-Key", "k  ey=,"},
		"user name and password are sent as RFC 7617 has": {"basic.example.com", "Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="},
		"a password beyond ASCII is sent in UTF-8":        {"utf8.example.com", "Authorization", "Basic dGVzdDoxMjPCow=="},
		"a token is sent as RFC 6750 has it":              {"token.example.com", "Authorization", "Bearer abc.def"},
	} {
		t.Run(sentence, func(t *testing.T) {
			d := ix.Decide(get("https", c.host))
			if d.Header != c.header || d.Value.Expose() != c.value {
				t.Errorf("%s: %s, want %s: %s", d.Header, d.Value.Expose(), c.header, c.value)
			}
		})
	}
}

func TestARotatedCredentialIsTheNextOneSent(t *testing.T) {
	ix := policy.Compile(changes(connection("key", "api.example.com", apiKey("old"))))
	next := ix.Apply(attache.Change{Connection: connection("key", "api.example.com", apiKey("new"))})
	if d := next.Decide(get("https", "api.example.com")); d.Value.Expose() != "new" {
		t.Errorf("the key is %q", d.Value.Expose())
	}
	if d := ix.Decide(get("https", "api.example.com")); d.Value.Expose() != "old" {
		t.Errorf("the key of the index before is %q", d.Value.Expose())
	}
}

func TestExplanations(t *testing.T) {
	ix := policy.Compile(changes(world...))
	for sentence, c := range map[string]struct {
		query policy.Query
		want  []policy.Candidate
	}{
		"the wider loses to the narrower": {get("https", "api.example.com"), []policy.Candidate{
			{"key", "api.example.com", true, `connection "key" is for exactly this host`},
			{"wide", "*.example.com", false, "its domain *.example.com is wider than api.example.com"},
		}},
		"the narrower loses by its port": {get("https", "ports.example.net"), []policy.Candidate{
			{"broad", "*.ports.example.net", true, `connection "broad" is for *.ports.example.net, the narrowest domain that covers this host and port`},
			{"narrow", "ports.example.net", false, "it is for port 8443 and not for port 443"},
		}},
		"equals lose to one another": {get("https", "shared.example.org"), []policy.Candidate{
			{"alice", "shared.example.org", false, "it fits as well as others, and the client named none"},
			{"bob", "shared.example.org", false, "it fits as well as others, and the client named none"},
			{"carol", "*.example.org", false, "its domain *.example.org is wider than shared.example.org"},
		}},
		"the named one comes first": {get("https", "shared.example.org", naming("carol")), []policy.Candidate{
			{"carol", "*.example.org", true, `the client named connection "carol", which is for *.example.org`},
			{"alice", "shared.example.org", false, "the client named another connection"},
			{"bob", "shared.example.org", false, "the client named another connection"},
		}},
		"the named one is there even where it does not fit": {get("https", "api.example.com", naming("bob")), []policy.Candidate{
			{"bob", "shared.example.org", false, `the client named connection "bob", which is for shared.example.org and not for api.example.com`},
			{"key", "api.example.com", false, "the client named another connection"},
			{"wide", "*.example.com", false, "the client named another connection"},
		}},
		"plain http refuses them all": {get("http", "api.example.com"), []policy.Candidate{
			{"key", "api.example.com", false, "it covers the host, and a credential never travels over plain http"},
			{"wide", "*.example.com", false, "it covers the host, and a credential never travels over plain http"},
		}},
		"one that cannot be sent says why": {get("https", "empty.example.com"), []policy.Candidate{
			{"empty", "empty.example.com", false, `connection "empty" has no credential to send, so nothing was sent`},
			{"wide", "*.example.com", false, "its domain *.example.com is wider than empty.example.com"},
		}},
		"nothing is considered where nothing covers": {connect("evil.org:443"), nil},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, got := ix.Explain(c.query)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("candidates (-want +got):\n%s", diff)
			}
		})
	}
	got, err := json.Marshal(policy.Candidate{Connection: "key", AllowedDomain: "api.example.com", Chosen: true, Why: "because"})
	if want := `{"connection":"key","allowed_domain":"api.example.com","chosen":true,"why":"because"}`; err != nil || string(got) != want {
		t.Errorf("a candidate is encoded as %s, %v", got, err)
	}
}

func TestManyEquals(t *testing.T) {
	var equals []*attache.Connection
	for i := range 60 {
		equals = append(equals, connection(fmt.Sprintf("tenant-%02d", i), "api.example.com"))
	}
	ix := policy.Compile(changes(equals...))
	d, candidates := ix.Explain(get("https", "api.example.com"))
	if len(candidates) != 50 {
		t.Errorf("%d candidates, want them bounded to 50", len(candidates))
	}
	if !strings.HasPrefix(d.Reason, `connections "tenant-00", "tenant-01", `) || !strings.Contains(d.Reason, `"tenant-09" and 50 more fit `) {
		t.Errorf("the reason is %s", d.Reason)
	}
	_, candidates = ix.Explain(get("https", "api.example.com", naming("tenant-59")))
	if len(candidates) != 50 || candidates[0].Connection != "tenant-59" || !candidates[0].Chosen {
		t.Errorf("the named connection is not the first of 50 candidates: %+v", candidates)
	}
}

func TestDecisionsThatLetThroughTakeNoMemory(t *testing.T) {
	ix := policy.Compile(changes(world...))
	for sentence, q := range map[string]policy.Query{
		"exact":    get("https", "api.example.com"),
		"wildcard": get("https", "a.b.example.com"),
		"named":    get("https", "api.example.com", naming("wide")),
		"several":  connect("shared.example.org:443"),
		"tunnel":   connect("a.b.c.evil.org:443"),
		"forward":  get("http", "evil.org"),
	} {
		if n := testing.AllocsPerRun(100, func() { ix.Decide(q) }); n != 0 {
			t.Errorf("%s: %v allocations, want none", sentence, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { ix.Strips("bot") }); n != 0 {
		t.Errorf("Strips: %v allocations, want none", n)
	}
}
