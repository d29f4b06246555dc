package main

import (
	"math"
	"runtime/debug"
	"sync"
)

// collector decides how far the heap grows between two collections of garbage: by
// the runtime's usual 100 % in a small server. To look for garbage among
// connections takes the longer, the more there are, and finds none; so with very
// many of them the heap may grow further. Where somebody has set GOGC, that
// counts instead.
type collector struct {
	mu      sync.Mutex // guards what follows
	usual   int        // percent, before the first decision
	percent int        // now; 0: not decided yet
}

const (
	usualPercent = 100
	mostPercent  = 300
	loadPercent  = 400 // while the store is loaded: all of it stays
	// perConnections is for how many connections there is one percent more.
	perConnections = 500
	// stepPercent is how much has to be changed at once: that stops the world.
	stepPercent = 20
)

// loading is the decision for while the store is loaded.
func (c *collector) loading() { c.set(loadPercent) }

// serving is the decision for that many connections.
func (c *collector) serving(connections int) {
	steps := min(connections/(perConnections*stepPercent), (mostPercent-usualPercent)/stepPercent)
	c.set(usualPercent + steps*stepPercent)
}

// restore takes all decisions back.
func (c *collector) restore() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.percent != 0 {
		debug.SetGCPercent(c.usual)
		c.percent = 0
	}
}

func (c *collector) set(percent int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.percent == 0 {
		c.usual = debug.SetGCPercent(percent)
		if c.usual != usualPercent { // GOGC
			debug.SetGCPercent(c.usual)
			c.percent = math.MaxInt
		}
	}
	if c.percent != percent && c.percent != math.MaxInt {
		debug.SetGCPercent(percent)
		c.percent = percent
	}
}
