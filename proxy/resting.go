package proxy

import (
	"sync"
	"time"
)

// resting is whether a tunnel on the fast path waits for a request, and may be
// ended at any moment, or serves one, and ends after it. Its zero value serves.
type resting struct {
	mu       sync.Mutex // guards what follows
	rests    bool
	draining bool
}

// rest begins to wait for a request, until the deadline, or says that there is
// to be none.
func (t *tunnel) rest(until time.Time) bool {
	t.resting.mu.Lock()
	defer t.resting.mu.Unlock()
	t.rests = !t.draining
	_ = t.SetReadDeadline(until)
	return t.rests
}

// wake ends the wait, or says that the tunnel has to end.
func (t *tunnel) wake() bool {
	t.resting.mu.Lock()
	defer t.resting.mu.Unlock()
	t.rests = false
	return !t.draining
}

// drain ends the tunnel after the request that it serves, or at once.
func (t *tunnel) drain() {
	t.resting.mu.Lock()
	defer t.resting.mu.Unlock()
	t.draining = true
	if t.rests {
		_ = t.SetReadDeadline(past)
	}
}

func (t *tunnel) isDraining() bool {
	t.resting.mu.Lock()
	defer t.resting.mu.Unlock()
	return t.draining
}
