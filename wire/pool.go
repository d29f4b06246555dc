package wire

import (
	"context"
	"errors"
	"math"
	"net"
	"slices"
	"sync"
	"time"
)

var (
	// ErrFull: no connection became free in time.
	ErrFull = errors.New("no upstream connection became free")
	// ErrStale: a connection that was idle has been closed, or its peer has said
	// something since. Another will do.
	ErrStale = errors.New("the upstream connection is stale")
	// ErrLate: the deadline of reads was over before the request was written. Set
	// another, and ask again.
	ErrLate = errors.New("the deadline was over before the request was written")
)

// Pool keeps upstream connections between exchanges. It starts no goroutine;
// [Pool.Run] closes what has been idle for too long. It is safe for concurrent
// use. Its fields must not change once it is in use.
type Pool struct {
	// Dial opens a connection to "host:port".
	Dial func(ctx context.Context, authority string) (net.Conn, error)
	// Secure puts TLS around it. Where it fails, it closes conn. Nil: there is none.
	Secure func(ctx context.Context, conn net.Conn, authority string) (net.Conn, error)

	MaxPerHost     int           // open connections to one authority; 0: there is no place for any
	MaxIdlePerHost int           // of these, idle ones that are kept; 0: none
	MaxIdle        int           // idle ones to all; the one idle for longest goes first; 0: none
	IdleTimeout    time.Duration // how long one may be idle, and a quarter of it more; 0: some milliseconds
	Patience       time.Duration // how long to wait for a place among MaxPerHost; 0: not at all

	mu     sync.Mutex // guards what is below
	hosts  map[string]*host
	idle   int
	oldest *Conn // the idle ones, in order
	newest *Conn
	ticks  int // quarters of the IdleTimeout since Run began, when it last looked
	closed bool
}

// host is what the pool has of one authority.
type host struct {
	open    int          // connections, and places given to those who dial one
	idle    []*Conn      // the last one used is the last
	waiting []chan *Conn // one for each who waits; nil is the permission to dial
}

// Get is a connection to the authority: one that was idle, or a new one. Before it
// waits for that, it calls slow. It is the caller's until exactly one of [Pool.Put],
// [Pool.Discard] and [Pool.Redial], which are for connections of this pool only. The
// error is [ErrFull], that of ctx while waiting, or that of Dial or Secure.
func (p *Pool) Get(ctx context.Context, authority string, slow func()) (*Conn, error) {
	c, turn := p.take(authority)
	if c == nil {
		slow()
	}
	if turn != nil {
		var err error
		if c, err = p.wait(ctx, authority, turn); err != nil {
			return nil, err
		}
	}
	if c == nil {
		return p.dial(ctx, authority)
	}
	return c, nil
}

// Call is a request for [Pool.Do].
type Call struct {
	Ask        func(*Conn) error // sends it and reads the head of the answer
	Repeatable bool              // the peer may get it twice (RFC 9110, section 9.2.2)
	Slow       func()            // is called before each wait for a connection
}

// Do has the call ask over a connection to the authority, which is the caller's
// then as after [Pool.Get]. Where nothing was sent because of [ErrStale] or
// [ErrLate], it asks over the next one. Where one that was idle dies before it says
// a byte, a repeatable call asks once more, over a new one.
func (p *Pool) Do(ctx context.Context, authority string, call Call) (*Conn, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c, err := p.Get(ctx, authority, call.Slow)
		if err != nil {
			return nil, err
		}
		err = p.ask(c, call)
		if err == ErrStale || err == ErrLate { // there is one idle connection less
			p.Discard(c)
			continue
		}
		if err != nil && call.Repeatable && c.Reused && c.Untouched() && !IsTimeout(err) {
			call.Slow()
			if c, err = p.Redial(ctx, c); err != nil {
				return nil, err
			}
			err = p.ask(c, call)
		}
		if err != nil {
			p.Discard(c)
			return nil, err
		}
		return c, nil
	}
}

// ask lets the call ask over c, which is not lost where that panics.
func (p *Pool) ask(c *Conn, call Call) error {
	returned := false
	defer func() {
		if !returned {
			p.Discard(c)
		}
	}()
	err := call.Ask(c)
	returned = true
	return err
}

// IsTimeout reports whether the error is that of a deadline.
func IsTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// Redial closes c and opens another connection in its place. Where that fails, the place
// is somebody else's.
func (p *Pool) Redial(ctx context.Context, c *Conn) (*Conn, error) {
	_ = c.Close()
	return p.dial(ctx, c.authority)
}

// take is an idle connection, or the turn of one who has to wait; with neither,
// there is a place for a new connection.
func (p *Pool) take(authority string) (*Conn, chan *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[authority]
	if h == nil {
		if p.hosts == nil {
			p.hosts = make(map[string]*host)
		}
		h = &host{}
		p.hosts[authority] = h
	}
	switch last := len(h.idle) - 1; {
	case last >= 0:
		c := h.idle[last]
		p.unlink(h, last)
		return c, nil
	case h.open < p.MaxPerHost:
		h.open++
		return nil, nil
	}
	turn := make(chan *Conn, 1)
	h.waiting = append(h.waiting, turn)
	return nil, turn
}

// wait waits for its turn: for a connection, or for the place of one.
func (p *Pool) wait(ctx context.Context, authority string, turn chan *Conn) (*Conn, error) {
	patience := time.NewTimer(p.Patience)
	defer patience.Stop()
	err := ErrFull
	select {
	case c := <-turn:
		return c, nil
	case <-patience.C:
	case <-ctx.Done():
		err = ctx.Err()
	}

	p.mu.Lock()
	h := p.hosts[authority]
	at := -1
	if h != nil {
		at = slices.Index(h.waiting, turn)
	}
	if at >= 0 {
		h.waiting = slices.Delete(h.waiting, at, at+1)
	}
	p.mu.Unlock()
	if at < 0 { // it came at the same moment
		return <-turn, nil
	}
	return nil, err
}

// dial opens a connection in a place that was taken, or gives the place to another.
func (p *Pool) dial(ctx context.Context, authority string) (opened *Conn, err error) {
	defer func() {
		if opened == nil { // it may be a panic
			p.vacate(authority)
		}
	}()
	conn, err := p.Dial(ctx, authority)
	if err != nil {
		return nil, err
	}
	c := &Conn{gate: &gate{Conn: conn}, authority: authority}
	c.Conn = c.gate
	if p.Secure != nil {
		if c.Conn, err = p.Secure(ctx, c.gate, authority); err != nil {
			return nil, err
		}
	}
	c.asking = newAsking(c, conn)
	return c, nil
}

// vacate gives a place to one who waits.
func (p *Pool) vacate(authority string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[authority]
	if !h.serve(nil) {
		h.open--
	}
	p.forget(authority, h)
}

// serve ends the wait of the first who waits, if there is one.
func (h *host) serve(c *Conn) bool {
	if len(h.waiting) == 0 {
		return false
	}
	h.waiting[0] <- c
	h.waiting = slices.Delete(h.waiting, 0, 1)
	return true
}

// forget drops a host of which there is nothing left.
func (p *Pool) forget(authority string, h *host) {
	if h.open == 0 && len(h.waiting) == 0 {
		delete(p.hosts, authority)
	}
}

// Discard closes c, which had an exchange that did not end well.
func (p *Pool) Discard(c *Conn) {
	_ = c.Close()
	p.vacate(c.authority)
}

// Put takes c back after an exchange that left it in step.
func (p *Pool) Put(c *Conn) {
	c.Reused, c.heard = true, false
	c.buf, c.from, c.to = nil, 0, 0
	kept, dropped := p.keep(c)
	if !kept {
		p.Discard(c)
	}
	if dropped != nil {
		_ = dropped.Close()
	}
}

// keep makes c an idle one, in the place of another perhaps, or says no.
func (p *Pool) keep(c *Conn) (kept bool, dropped *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[c.authority]
	switch {
	case p.closed:
		return false, nil
	case h.serve(c):
		return true, nil
	case len(h.idle) >= p.MaxIdlePerHost || p.MaxIdle == 0:
		return false, nil
	case p.idle >= p.MaxIdle:
		dropped = p.drop()
	}
	p.link(h, c)
	return true, dropped
}

// link adds c to the idle ones, as the newest.
func (p *Pool) link(h *host, c *Conn) {
	c.idleSince = p.ticks
	c.before, c.after = p.newest, nil
	if p.newest != nil {
		p.newest.after = c
	} else {
		p.oldest = c
	}
	p.newest = c
	h.idle = append(h.idle, c)
	p.idle++
}

// unlink takes the idle one at that place of its host out.
func (p *Pool) unlink(h *host, at int) {
	c := h.idle[at]
	h.idle = slices.Delete(h.idle, at, at+1)
	p.idle--
	if c.before != nil {
		c.before.after = c.after
	} else {
		p.oldest = c.after
	}
	if c.after != nil {
		c.after.before = c.before
	} else {
		p.newest = c.before
	}
	c.before, c.after = nil, nil
}

// drop takes out the one that has been idle for longest. It is for the caller to
// close, once the lock is free.
func (p *Pool) drop() *Conn {
	c := p.oldest
	h := p.hosts[c.authority]
	p.unlink(h, slices.Index(h.idle, c))
	h.open--
	p.forget(c.authority, h)
	return c
}

// Run closes connections that have been idle for too long, until ctx ends; then
// all that are idle, and from then on each that is given back.
func (p *Pool) Run(ctx context.Context) {
	const quarters = 4
	every := max(p.IdleTimeout/quarters, time.Millisecond)
	began, tick := time.Now(), time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			ticks := int(now.Sub(began) / every) // a ticker does not make up for those that nobody took
			p.mu.Lock()
			p.ticks = ticks
			p.mu.Unlock()
			p.sweep(ticks - quarters - 1) // what became idle just before the next tick has been so for four
		case <-ctx.Done():
			p.mu.Lock()
			p.closed = true
			p.mu.Unlock()
			p.sweep(math.MaxInt)
			return
		}
	}
}

// sweep closes those that are idle since that tick or before.
func (p *Pool) sweep(then int) {
	for c := p.idleSince(then); c != nil; c = p.idleSince(then) {
		_ = c.Close()
	}
}

// idleSince takes out one that is idle since that tick or before.
func (p *Pool) idleSince(then int) *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.oldest == nil || p.oldest.idleSince > then {
		return nil
	}
	return p.drop()
}
