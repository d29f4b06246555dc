package main

import (
	"fmt"
	"math"
)

// claim is something that ought to be true of the figures of one run.
type claim struct {
	point   string // of the issue that asks for it
	text    string
	bound   float64
	atLeast bool // the figure must not be below the bound, instead of not above
	figure  func(*results) (float64, bool)
}

// verdict is what a run says about a claim.
type verdict struct {
	Point    string  `json:"point"`
	Text     string  `json:"text"`
	Bound    string  `json:"bound"`
	Figure   float64 `json:"figure"`
	Measured bool    `json:"measured"`
	Holds    bool    `json:"holds"`
}

// claims are those of the design: Attaché costs hardly more than a tunnel that
// only copies bytes.
func claims(s sizes) []claim {
	few, many := fmt.Sprintf("store-%d", s.few), fmt.Sprintf("store-%d", s.many)
	all := []claim{
		{"1", "small GET over HTTP/1.1, 64 connections: CPU per request by that of the tunnel", 1.5, false, ratio("get-h1-64", cpu, "attache", "tunnel")},
		{"1", "the same by that of goproxy", 0.45, false, ratio("get-h1-64", cpu, "attache", "goproxy")},
		{"1", "the same by that of nginx", 1, false, ratio("get-h1-64", cpu, "attache", "nginx")},
		{"1", "requests per second by those of the tunnel", 0.85, true, ratio("get-h1-64", rate, "attache", "tunnel")},
		{"2", "small GET over HTTP/2, 64 connections: CPU per request by that of goproxy", 0.6, false, ratio("get-h2-64", cpu, "attache", "goproxy")},
		{"3", "requests per second at 256 connections by those at 16, HTTP/1.1", 1, true, growth("get-h1-256", "get-h1-16", rate)},
		{"3", "the same over HTTP/2", 1, true, growth("get-h2-256", "get-h2-16", rate)},
		{"3", "upstream connections opened by concurrent requests, at most", 1, false, mostOpened},
		{"4", "new connections, full handshakes: CPU of each by that of goproxy", 1.05, false, ratio("connect-full", cpu, "attache", "goproxy")},
		{"4", "the same with clients that resume", 0.75, false, ratio("connect-resumed", cpu, "attache", "goproxy")},
		{"4", "p99 of handshakes while hosts are asked for that nobody has asked for, by that without", 1.5, false, growth("connect-mixed", "connect-full", p99)},
		{"5", "large answer: throughput by that of goproxy", 0.95, true, ratio("download", rate, "attache", "goproxy")},
		{"5", "large request: throughput by that of goproxy", 0.95, true, ratio("upload", rate, "attache", "goproxy")},
		{"5", "resident memory of an idle opaque tunnel, KiB", 24, false, median("idle", "tunnel", grown)},
		{"5", "resident memory of an idle intercepted tunnel, KiB", 24, false, median("idle", "attache", grown)},
	}
	for _, w := range store() {
		all = append(all,
			claim{"6", w.Name + ": CPU with " + many + " in place of " + few + ", change", 0.05, false, change(w.Name, cpu, many, few)},
			claim{"6", w.Name + ": rate with " + many + " in place of " + few + ", change", 0.05, false, change(w.Name, rate, many, few)})
	}
	if s.baseline != "" {
		for _, g := range plan(s) {
			for _, w := range g.workloads {
				if w.work.Kind != idleKind {
					all = append(all, claim{"–", w.Name + ": CPU by that of the baseline", 1, false, ratio(w.Name, cpu, "attache", baseline)})
				}
			}
		}
	}
	return append(all, claim{"7", "allocations per small GET over HTTP/1.1", 4, false, median("get-h1-64", "attache", allocs)})
}

// ratio compares two variants.
func ratio(workload string, f figure, of, by string) func(*results) (float64, bool) {
	return func(r *results) (float64, bool) {
		return r.series(workload, of, f).per(r.series(workload, by, f)).median()
	}
}

// change is how far two variants are apart, whichever has more.
func change(workload string, f figure, of, by string) func(*results) (float64, bool) {
	return func(r *results) (float64, bool) {
		v, ok := ratio(workload, f, of, by)(r)
		return math.Abs(v - 1), ok
	}
}

// growth compares two workloads of Attaché.
func growth(of, by string, f figure) func(*results) (float64, bool) {
	return func(r *results) (float64, bool) {
		return r.series(of, "attache", f).per(r.series(by, "attache", f)).median()
	}
}

func median(workload, variant string, f figure) func(*results) (float64, bool) {
	return func(r *results) (float64, bool) { return r.series(workload, variant, f).median() }
}

// mostOpened is the worst of all workloads on connections that stay.
func mostOpened(r *results) (worst float64, measured bool) {
	for _, w := range r.Workloads {
		if w.work.Kind == getKind || w.work.Kind == postKind {
			most, ok := r.series(w.Name, "attache", opening).most()
			worst, measured = max(worst, most), measured || ok
		}
	}
	return worst, measured
}

// judge compares the figures with the bounds.
func (r *results) judge(claims []claim) {
	for _, c := range claims {
		v := verdict{Point: c.point, Text: c.text, Bound: fmt.Sprintf("≤ %g", c.bound)}
		if c.atLeast {
			v.Bound = fmt.Sprintf("≥ %g", c.bound)
		}
		v.Figure, v.Measured = c.figure(r)
		v.Holds = v.Measured && (c.atLeast && v.Figure >= c.bound || !c.atLeast && v.Figure <= c.bound)
		r.Claims = append(r.Claims, v)
	}
}
