package main

import (
	"runtime/debug"
	"testing"
)

// The heap may grow further while the store is loaded, and what GOGC says stays as
// it is.
func TestTheCollectorIsEased(t *testing.T) {
	before := debug.SetGCPercent(usualPercent)
	defer debug.SetGCPercent(before)
	for usual, meanwhile := range map[int]int{usualPercent: loadPercent, 77: 77, -1: -1} {
		debug.SetGCPercent(usual)
		end := easeCollector()
		if got := debug.SetGCPercent(meanwhile); got != meanwhile {
			t.Errorf("from %d %%: %d %% while the store is loaded, want %d", usual, got, meanwhile)
		}
		end()
		if got := debug.SetGCPercent(usual); got != usual {
			t.Errorf("from %d %%: %d %% in the end", usual, got)
		}
	}
}
