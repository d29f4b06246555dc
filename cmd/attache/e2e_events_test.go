package main_test

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"attache"
)

// testEvents compares the events with what arrived at the upstream: there is one
// for each request, and it says what happened.
func testEvents(t *testing.T, in *installation, up *upstream) {
	arrived := up.seen(func(a arrival) bool { return a.Host != openHost })
	want := make([]exchange, len(arrived))
	for i, a := range arrived {
		want[i] = a.exchange
	}
	sortExchanges(want)

	var events []attache.Event
	// A tunnel's event comes when it has closed.
	until(t, "each tunnel has closed", func() bool {
		events = in.logged(t)
		return len(requests(events)) >= len(want) && len(openTunnels(events)) == 0
	}, func() string { return strings.Join(openTunnels(events), "\n") })

	var got []exchange
	seen := map[string]bool{}
	for _, e := range events {
		if e.ID == "" || seen[e.ID] {
			t.Errorf("the id of an event is not its own: %+v", e)
		}
		seen[e.ID] = true
	}
	for _, e := range requests(events) {
		got = append(got, exchangeOf(t, e))
		checkEvent(t, e)
	}
	sortExchanges(got)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("requests that arrived at the upstream, and events (-arrived +events):\n%s", diff)
	}

	// A tunnel that is not decrypted may end only now.
	var diff string
	until(t, "the log and the API have the same events", func() bool {
		events = in.logged(t)
		answered, err := in.api.RecentEvents(t.Context(), len(events))
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(answered) // the newest comes first
		diff = gocmp.Diff(events, answered)
		return diff == ""
	}, func() string { return "(-log +API):\n" + diff })
}

// logged are the events in the log, up to the last whole line.
func (in *installation) logged(t *testing.T) []attache.Event {
	t.Helper()
	text, err := os.ReadFile(in.events)
	if err != nil {
		t.Fatal(err)
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	var events []attache.Event
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.DisallowUnknownFields()
		var e attache.Event
		if err := d.Decode(&e); err != nil {
			t.Fatalf("%v in the line %s", err, lines.Text())
		}
		events = append(events, e)
	}
	return events
}

func requests(events []attache.Event) []attache.Event {
	return slices.DeleteFunc(slices.Clone(events), func(e attache.Event) bool { return e.Kind != attache.RequestEvent })
}

// openTunnels are the tunnels of requests that have no event of their own yet.
func openTunnels(events []attache.Event) []string {
	var open []string
	for _, e := range requests(events) {
		closed := slices.ContainsFunc(events, func(c attache.Event) bool { return c.Kind == attache.ConnectEvent && c.ID == e.Tunnel })
		if !closed {
			open = append(open, e.Tunnel)
		}
	}
	return open
}

// exchangeOf is what an event says about a request that the upstream can say,
// too.
func exchangeOf(t *testing.T, e attache.Event) exchange {
	t.Helper()
	target, err := url.Parse(e.Target)
	if err != nil {
		t.Fatal(err)
	}
	return exchange{target.Hostname(), e.Method, e.Path, e.Status, e.BytesIn, e.BytesOut}
}

// checkEvent holds what only the proxy knows about an injected request.
func checkEvent(t *testing.T, e attache.Event) {
	t.Helper()
	i := slices.IndexFunc(sites, func(s site) bool { return strings.HasPrefix(e.Target, "https://"+s.host+":") })
	if i < 0 || e.Connection != sites[i].connection || e.Integration != integration || e.Decision != attache.Inject ||
		e.Code != "" || e.Client != "127.0.0.1" || e.Time.IsZero() || e.Duration <= 0 || e.Upstream <= 0 || e.Upstream > e.Duration {
		t.Errorf("the event is wrong: %+v", e)
	}
}

func sortExchanges(all []exchange) {
	slices.SortFunc(all, func(a, b exchange) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method),
			cmp.Compare(a.Status, b.Status), cmp.Compare(a.BytesIn, b.BytesIn), cmp.Compare(a.BytesOut, b.BytesOut))
	})
}
