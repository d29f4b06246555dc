package main

import (
	"net/http"
	"sync"
	"time"
)

// idle tells when a server has had nothing to do for long enough to end.
type idle struct {
	mu     sync.Mutex // guards what follows
	busy   int        // requests to the API, and leases
	last   time.Time  // when something happened
	closed bool       // the server ends: nobody may come any more

	ended chan struct{} // closed when closed is set
}

func newIdle() *idle { return &idle{last: time.Now(), ended: make(chan struct{})} }

// touch notes that something happened at that time.
func (i *idle) touch(then time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if then.After(i.last) {
		i.last = then
	}
}

// begin notes that something lasts until end, unless the server ends already.
func (i *idle) begin() (end func(), ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return nil, false
	}
	i.busy++
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.busy--
		i.last = time.Now()
	}, true
}

// over reports whether nothing has happened for so long. From then on nothing
// can begin.
func (i *idle) over(after time.Duration) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.closed && i.busy == 0 && time.Since(i.last) >= after {
		i.closed = true
		close(i.ended)
	}
	return i.closed
}

// watching is a handler whose requests keep the server from ending.
func (i *idle) watching(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		end, ok := i.begin()
		if !ok {
			http.Error(w, "the server is ending", http.StatusServiceUnavailable)
			return
		}
		defer end()
		h.ServeHTTP(w, r)
	})
}
