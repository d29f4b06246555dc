package main

import (
	"sync"

	"attache"
)

// census counts the connections, for a metric. Each change of the store passes
// it; asking the store instead would unseal every record.
type census struct {
	mu  sync.Mutex // guards what follows
	all map[string]map[string]struct{}
}

func newCensus() *census { return &census{all: map[string]map[string]struct{}{}} }

func (c *census) changed(ch attache.Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case ch.Integration != nil && ch.Deleted:
		delete(c.all, ch.Integration.Name)
	case ch.Connection != nil && ch.Deleted:
		delete(c.all[ch.Connection.Integration], ch.Connection.Name)
	case ch.Connection != nil:
		integration := ch.Connection.Integration
		if c.all[integration] == nil {
			c.all[integration] = map[string]struct{}{}
		}
		c.all[integration][ch.Connection.Name] = struct{}{}
	}
}

func (c *census) connections() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, names := range c.all {
		n += len(names)
	}
	return n
}
