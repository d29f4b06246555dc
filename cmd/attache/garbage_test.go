package main

import (
	"runtime/debug"
	"testing"
)

// The heap may grow further where there are many connections, and what GOGC says
// stays as it is.
func TestTheCollectorIsPaced(t *testing.T) {
	now := func() int {
		percent := debug.SetGCPercent(100)
		debug.SetGCPercent(percent)
		return percent
	}
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	var c collector
	c.loading()
	if got := now(); got != loadPercent {
		t.Errorf("%d %% while the store is loaded", got)
	}
	for connections, want := range map[int]int{0: 100, 9_999: 100, 10_000: 120, 50_000: 200, 100_000: 300, 5_000_000: 300} {
		c.serving(connections)
		if got := now(); got != want {
			t.Errorf("%d connections: %d %%, want %d", connections, got, want)
		}
	}
	c.restore()
	if got := now(); got != 100 {
		t.Errorf("%d %% in the end", got)
	}

	debug.SetGCPercent(77)
	var chosen collector
	chosen.loading()
	chosen.serving(100_000)
	if got := now(); got != 77 {
		t.Errorf("%d %% where somebody has chosen 77", got)
	}
	chosen.restore()
	if got := now(); got != 77 {
		t.Errorf("%d %% in the end where somebody has chosen 77", got)
	}
}
