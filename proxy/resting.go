package proxy

import (
	"sync/atomic"
	"time"
)

// resting is whether a tunnel on the fast path waits for a request, and may be
// ended at any moment, or serves one, and ends after it. Its zero value serves.
type resting struct{ state atomic.Int32 }

// What state a tunnel is in.
const (
	serves int32 = iota
	rests
	drains // it has to end, and stays so
)

// rest begins to wait for a request, until the deadline, or says that there is
// to be none.
func (t *tunnel) rest(until time.Time) bool {
	_ = t.SetReadDeadline(until) // before drain can set another
	return t.state.CompareAndSwap(serves, rests)
}

// wake ends the wait, or says that the tunnel has to end.
func (t *tunnel) wake() bool { return t.state.CompareAndSwap(rests, serves) }

// drain ends the tunnel after the request that it serves, or at once.
func (t *tunnel) drain() {
	if t.state.Swap(drains) == rests {
		_ = t.SetReadDeadline(past)
	}
}

func (t *tunnel) isDraining() bool { return t.state.Load() == drains }
