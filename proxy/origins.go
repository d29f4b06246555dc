package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// origins are those of which one thing is known, by authority: for a while, and then
// that is found out again.
type origins struct {
	some atomic.Bool // there has been one
	mu   sync.Mutex  // guards due
	due  *simplelru.LRU[string, time.Time]
}

const (
	maxOrigins = 4096
	// recheckAfter is when one request is sent as if nothing were known.
	recheckAfter = 5 * time.Minute
)

func newOrigins() *origins {
	due, _ := simplelru.NewLRU[string, time.Time](maxOrigins, nil) // fails on sizes below 1
	return &origins{due: due}
}

// has tells whether the origin is one of them, unless the request of who asks is
// the one that is to find that out again.
func (o *origins) has(authority string) bool {
	if !o.some.Load() {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	due, ok := o.due.Get(authority)
	if !ok {
		return false
	}
	now := time.Now()
	if now.Before(due) {
		return true
	}
	o.due.Add(authority, now.Add(recheckAfter))
	return false
}

// add is for one that was found out to be one of them.
func (o *origins) add(authority string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.due.Add(authority, time.Now().Add(recheckAfter))
	o.some.Store(true)
}

// remove is for one of which that is not known, or no longer.
func (o *origins) remove(authority string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.due.Remove(authority)
}
