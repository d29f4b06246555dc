package audit

import (
	"context"
	"sync"

	"attache"
)

// subscriberQueue is how many events may wait for one subscriber.
const subscriberQueue = 256

// Ring keeps the last events in memory and follows up with new ones. It is safe
// for concurrent use.
type Ring struct {
	mu sync.Mutex
	// events is full once it has reached its capacity, which may be zero; then next
	// is the oldest, and the one to be replaced.
	events      []attache.Event
	next        int
	subscribers map[*subscriber]struct{}
}

// Delivery is an event on its way to a subscriber.
type Delivery struct {
	Event attache.Event
	// Missed is how many events before this one did not reach the subscriber
	// because it was too slow.
	Missed uint64
}

type subscriber struct {
	deliveries chan Delivery
	missed     uint64
}

// NewRing makes a ring of the last n events; zero: it keeps none, and only passes
// them on.
func NewRing(n int) *Ring {
	return &Ring{
		events:      make([]attache.Event, 0, max(n, 0)),
		subscribers: make(map[*subscriber]struct{}),
	}
}

// Record keeps e and offers it to each subscriber.
func (r *Ring) Record(e *attache.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) < cap(r.events) {
		r.events = append(r.events, *e)
	} else if len(r.events) > 0 {
		r.events[r.next] = *e
		r.next = (r.next + 1) % len(r.events)
	}
	for s := range r.subscribers {
		select {
		case s.deliveries <- Delivery{*e, s.missed}:
			s.missed = 0
		default:
			s.missed++
		}
	}
}

// Recent returns up to limit events, the newest first. An event's place is that
// of its end: when it was recorded, not when it began.
func (r *Ring) Recent(limit int) []attache.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := len(r.events)
	recent := make([]attache.Event, max(min(limit, held), 0))
	for i := range recent {
		recent[i] = r.events[(r.next+held-1-i)%held]
	}
	return recent
}

// Subscribe delivers what is recorded from now on, until ctx ends; then the
// channel is closed. Up to 256 events wait for a subscriber.
func (r *Ring) Subscribe(ctx context.Context) <-chan Delivery {
	s := &subscriber{deliveries: make(chan Delivery, subscriberQueue)}
	r.mu.Lock()
	r.subscribers[s] = struct{}{}
	r.mu.Unlock()
	context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.subscribers, s)
		close(s.deliveries)
	})
	return s.deliveries
}
