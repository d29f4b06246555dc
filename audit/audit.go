// Package audit takes each [attache.Event] to those who want it: the JSON log,
// and a ring of recent events for the UI.
//
// Record never waits, neither for a disk nor for a reader: whoever is too slow
// loses events and is told how many.
package audit

import "attache"

// Sink takes events, from many goroutines at once. It must not block, and the
// event is the caller's again when it returns.
type Sink func(*attache.Event)

// Fanout gives each event to every sink, in the order of the arguments.
func Fanout(sinks ...Sink) Sink {
	return func(e *attache.Event) {
		for _, record := range sinks {
			record(e)
		}
	}
}
