package main

import "runtime/debug"

const (
	usualPercent = 100
	// loadPercent is how far the heap grows between two collections of garbage while
	// the store is loaded: to look for garbage among what will stay finds little.
	loadPercent = 400
)

// easeCollector lets the heap of this process grow further until end is called,
// unless somebody has set GOGC. It is not for two at a time: one would take the
// other's percentage for GOGC.
func easeCollector() (end func()) {
	if usual := debug.SetGCPercent(loadPercent); usual != usualPercent { // GOGC
		debug.SetGCPercent(usual)
		return func() {}
	}
	return func() { debug.SetGCPercent(usualPercent) }
}
