package main

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestQuantiles(t *testing.T) {
	var hundred []time.Duration
	for n := range 100 {
		hundred = append(hundred, time.Duration(n+1))
	}
	for sentence, c := range map[string]struct {
		of    []time.Duration
		share float64
		want  time.Duration
	}{
		"of nothing":             {nil, 0.5, 0},
		"of one":                 {hundred[:1], 0.99, 1},
		"the middle of many":     {hundred, 0.5, 51},
		"nearly the worst":       {hundred, 0.99, 100},
		"the worst is the bound": {hundred, 1, 100},
	} {
		if got := quantile(c.of, c.share); got != c.want {
			t.Errorf("%s: %d, want %d", sentence, got, c.want)
		}
	}
}

// made are results of two variants in three rounds; the machine was slow in the
// second.
func made() *results {
	r := &results{Workloads: []workload{{Name: "get-h1-64", work: get(false, 64)}}}
	for round, slow := range []time.Duration{1, 10, 1} {
		for variant, cost := range map[string]time.Duration{"attache": 30, "tunnel": 20 + time.Duration(round)} {
			r.add(r.Workloads[0], measurement{
				Workload: "get-h1-64", Variant: variant, Round: round,
				Units: 1000, Elapsed: slow * time.Second, CPU: slow * cost * time.Millisecond,
				Allocs: -1, Most: 64, Opened: 32 * int64(round),
			})
		}
	}
	return r
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	r := made()
	got := r.series("get-h1-64", "attache", cpu).per(r.series("get-h1-64", "tunnel", cpu))
	if diff := cmp.Diff(series{0: 30. / 20, 1: 30. / 21, 2: 30. / 22}, got); diff != "" {
		t.Errorf("ratios (-want +got):\n%s", diff)
	}
	if m, ok := got.median(); !ok || m != 30./21 {
		t.Errorf("their median is %g", m)
	}
}

func TestVerdicts(t *testing.T) {
	below := ratio("get-h1-64", cpu, "attache", "tunnel") // 1.43
	for sentence, c := range map[string]struct {
		claim           claim
		measured, holds bool
	}{
		"a figure that must not be above its bound": {claim{bound: 1.5, figure: below}, true, true},
		"one that is": {claim{bound: 1.4, figure: below}, true, false},
		"a figure that must not be below its bound":  {claim{bound: 1.4, atLeast: true, figure: below}, true, true},
		"one that is below":                          {claim{bound: 1.5, atLeast: true, figure: below}, true, false},
		"what was not measured does not hold":        {claim{bound: 9, figure: ratio("get-h1-64", cpu, "attache", "nginx")}, false, false},
		"allocations that are not known are no zero": {claim{bound: 9, figure: median("get-h1-64", "attache", allocs)}, false, false},
		"the worst round counts for connections":     {claim{bound: 0.9, figure: mostOpened}, true, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := made()
			r.judge([]claim{c.claim})
			if got := r.Claims[0]; got.Measured != c.measured || got.Holds != c.holds {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestProcessesAreRead(t *testing.T) {
	// A name can have anything in it.
	const text = `42 (a) R 7 (b) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 30 20 20 0 1 0 100 1000 25 18446744073709551615 1 1`
	got, err := parseStat(text)
	must(t, err)
	want := stat{pid: 42, parent: 7, usage: usage{cpu: 500 * time.Millisecond, rss: 25 * int64(os.Getpagesize())}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(stat{}, usage{})); diff != "" {
		t.Errorf("stat (-want +got):\n%s", diff)
	}
	for _, broken := range []string{"", "42", "42 (a", "42 (a) S 7", "x" + text} {
		if s, err := parseStat(broken); err == nil {
			t.Errorf("%q is read as %+v", broken, s)
		}
	}
	self, err := usageOf(os.Getpid())
	must(t, err)
	if self.rss == 0 || self.cpu == 0 {
		t.Errorf("this process has used %+v", self)
	}
	later, err := usageOf(os.Getpid())
	must(t, err)
	if spent := later.cpu - self.cpu; spent <= 0 || spent >= time.Minute {
		t.Errorf("to ask takes %v", spent)
	}
	if _, err := usageOf(1 << 30); err == nil {
		t.Error("process " + strconv.Itoa(1<<30) + " exists")
	}
}
