package main

import (
	"fmt"
	"regexp"
	"slices"
	"time"
)

// workload is what load does through one variant after the other.
type workload struct {
	Name  string `json:"name"`
	About string `json:"about"`
	Unit  string `json:"unit"` // what is counted: a request, a connection, a MiB, ...
	work  work
	span  time.Duration // how long it is measured
	only  []string      // variants; none: all of the group
}

// group is what is measured together: the same servers, in rounds, and in each
// round one workload after the other and in that one variant after the other. So
// a machine that is slower for a while is slower for all variants alike.
type group struct {
	name      string
	rounds    int
	variants  []variant
	workloads []workload
}

// sizes are what differs between a benchmark and a quick look at whether it works.
type sizes struct {
	rounds   int
	scale    float64 // of the spans
	bulk     int64   // bytes of a large body
	idle     int     // tunnels that do nothing
	few      int     // connections in the store
	many     int
	baseline string // another binary of Attaché; empty: none
}

func fullSizes() sizes {
	return sizes{rounds: 3, scale: 1, bulk: 1 << 30, idle: 5000, few: 1000, many: 100_000}
}

// more is how many rounds there are of what claims are made about whose bounds are
// near, or whose workloads are far apart within a round.
func (s sizes) more() int { return 2*s.rounds - 1 }

func quickSizes() sizes {
	return sizes{rounds: 1, scale: 0.2, bulk: 16 << 20, idle: 200, few: 20, many: 1000}
}

// How long a workload is measured in each round: those that claims are made
// about longer than the others, and requests for less, in more rounds.
const (
	long  = 1200 * time.Millisecond
	short = 700 * time.Millisecond

	longRequests  = long * 3 / 5
	shortRequests = short * 3 / 5
)

// plan is everything that can be measured.
func plan(s sizes) []group {
	groups := []group{
		{"requests", s.more(), everyone(s), requests()},
		{"connections", s.rounds, everyone(s), connections()},
		{"streams", s.rounds, everyone(s), streams(s)},
		{"idle", 1, everyone(s), idle(s)},
		{"store", s.more(), stores(s), store()},
	}
	for _, g := range groups {
		for i := range g.workloads {
			w := &g.workloads[i]
			w.span = time.Duration(s.scale * float64(w.span))
		}
	}
	return groups
}

func get(http2 bool, workers int) work { return work{Kind: getKind, HTTP2: http2, Workers: workers} }

func requests() []workload {
	var all []workload
	for _, http2 := range []bool{false, true} {
		for _, n := range []int{1, 16, 64, 256} {
			w := workload{
				Name: fmt.Sprintf("get-h1-%d", n), About: fmt.Sprintf("GET of %d bytes over HTTP/1.1, connections: %d", smallSize, n),
				Unit: "request", work: get(http2, n), span: shortRequests,
			}
			if http2 {
				w.Name = fmt.Sprintf("get-h2-%d", n)
				w.About = fmt.Sprintf("GET of %d bytes over HTTP/2, connections with one request at a time: %d", smallSize, n)
			}
			if n == 64 {
				w.span = longRequests
			}
			all = append(all, w)
		}
	}
	return append(all,
		workload{
			Name: "get-h2-1x64", About: fmt.Sprintf("GET of %d bytes over HTTP/2, one connection with 64 requests at a time", smallSize),
			Unit: "request", work: work{Kind: getKind, HTTP2: true, Workers: 1, Streams: 64}, span: shortRequests,
		},
		workload{
			Name: "post-h1-64", About: "POST of 16 KiB over HTTP/1.1, connections: 64",
			Unit: "request", work: work{Kind: postKind, Workers: 64, Bytes: 16 << 10}, span: shortRequests,
		},
		workload{
			Name: "post-h2-64", About: "POST of 16 KiB over HTTP/2, connections with one request at a time: 64",
			Unit: "request", work: work{Kind: postKind, HTTP2: true, Workers: 64, Bytes: 16 << 10}, span: shortRequests,
		})
}

func connections() []workload {
	connect := func(w work) work {
		w.Kind, w.Workers = connectKind, 8
		return w
	}
	return []workload{
		{
			Name: "connect-full", About: "a connection for each GET, with full TLS handshakes, 8 at a time",
			Unit: "connection", work: connect(work{}), span: long,
		},
		{
			Name: "connect-resumed", About: "the same, by clients that resume TLS sessions where the proxy lets them",
			Unit: "connection", work: connect(work{Resume: true}), span: long,
		},
		{
			Name: "connect-fresh", About: "the same, each to a host that nobody has asked for yet",
			Unit: "connection", work: connect(work{Fresh: 8}), span: long, only: intercepting(),
		},
		{
			Name: "connect-mixed", About: "one of the 8 connects to hosts that nobody has asked for yet; the latency is that of the others",
			Unit: "connection", work: connect(work{Fresh: 1}), span: long, only: intercepting(),
		},
	}
}

// intercepting are the variants that make a certificate for each host.
func intercepting() []string { return []string{"attache", baseline, "goproxy"} }

func streams(s sizes) []workload {
	size := fmt.Sprintf("%d MiB", s.bulk>>20)
	return []workload{
		{Name: "download", About: "one answer of " + size, Unit: "MiB", work: work{Kind: downloadKind, Workers: 1, Bytes: s.bulk}, span: long},
		{Name: "upload", About: "one request of " + size, Unit: "MiB", work: work{Kind: uploadKind, Workers: 1, Bytes: s.bulk}, span: long},
		{
			Name: "events", About: fmt.Sprintf("server-sent events on 16 streams, one each %v; the latency is their age", eventEvery),
			Unit: "event", work: work{Kind: eventsKind, Workers: 16}, span: short,
		},
		{
			Name: "websocket", About: "a WebSocket message there and back on 16 connections",
			Unit: "message", work: work{Kind: websocketKind, Workers: 16}, span: short,
		},
	}
}

func idle(s sizes) []workload {
	return []workload{{
		Name: "idle", About: fmt.Sprintf("%d tunnels that do nothing after one GET; RSS is for each of them", s.idle),
		Unit: "tunnel", work: work{Kind: idleKind, Workers: s.idle}, span: long, only: append(intercepting(), "tunnel"),
	}}
}

func store() []workload {
	return []workload{
		{Name: "store-get-h1-64", About: "as get-h1-64", Unit: "request", work: get(false, 64), span: long},
		{Name: "store-get-h2-64", About: "as get-h2-64", Unit: "request", work: get(true, 64), span: long},
		{Name: "store-connect-full", About: "as connect-full", Unit: "connection", work: work{Kind: connectKind, Workers: 8}, span: long},
	}
}

// choose keeps the workloads and variants whose names match.
func choose(groups []group, workloads, variants *regexp.Regexp) []group {
	var chosen []group
	for _, g := range groups {
		g.workloads = slices.DeleteFunc(g.workloads, func(w workload) bool { return !workloads.MatchString(w.Name) })
		g.variants = slices.DeleteFunc(g.variants, func(v variant) bool {
			takesPart := func(w workload) bool { return v.takesPart(w) }
			return !variants.MatchString(v.Name) || !slices.ContainsFunc(g.workloads, takesPart)
		})
		if len(g.workloads) > 0 && len(g.variants) > 0 {
			chosen = append(chosen, g)
		}
	}
	return chosen
}

// freshHosts is how many hosts a group needs that nobody has asked for.
func (g group) freshHosts() int {
	n := 0
	for _, w := range g.workloads {
		if w.work.Fresh > 0 {
			n += g.rounds * freshEach
		}
	}
	return n
}
