package main

import "runtime/debug"

const (
	usualPercent = 100
	// loadPercent is how far the heap grows between two collections of garbage while
	// the store is loaded: to look for garbage among what will stay finds little.
	loadPercent = 400
)

// easeCollector is for while the store is loaded. Where somebody has set GOGC, that
// counts instead.
func easeCollector() (end func()) {
	if usual := debug.SetGCPercent(loadPercent); usual != usualPercent { // GOGC
		debug.SetGCPercent(usual)
		return func() {}
	}
	return func() { debug.SetGCPercent(usualPercent) }
}
