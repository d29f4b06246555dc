package proxy

import (
	"slices"
	"sync"
	"time"

	"attache/wire"
)

// h2Room is how much data the client of an [h2Conn] takes, and who waits to send
// some.
//
// The client grants room on the connection once for all streams (RFC 9113, section
// 5.2). The inner server does not see what the fast path sends, and so of the
// client's grants it is told as much less: that is the debt. Each may use all the
// room that there is. The inner server may think that there is more, by the debt at
// most; what it sends then is held, and goes out before anything else does.
type h2Room struct {
	mu      sync.Mutex  // guards what follows, and what h2Conn says
	window  int64       // room on the connection
	debt    int64       // what of it the fast path used since the client last granted some
	initial int64       // room of a stream at its beginning
	queue   []*h2Stream // those that wait for room on the connection, in turn
	held    []heldFrame
	holding int           // bytes of data in held
	moved   chan struct{} // says that there is room for what is held
	freed   chan struct{} // says that less is held
}

// heldFrame is a frame of the inner server that has to wait, or what is left of it.
type heldFrame struct {
	stream uint32
	data   []byte // of a frame of data
	flags  byte
	other  []byte // any other frame, whole: it comes after data of its stream
}

const (
	// maxHeld is how much is held before the inner server is not listened to.
	maxHeld = 1 << 20
	// maxWindow is how large a window may be.
	maxWindow = 1<<31 - 1
)

func newH2Room() h2Room {
	return h2Room{
		window:  wire.InitialWindow,
		initial: wire.InitialWindow,
		moved:   make(chan struct{}, 1),
		freed:   make(chan struct{}, 1),
	}
}

// poke wakes the one who waits for c, now or when it next does.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// grant adds to the room of the connection. What it returns is the inner server's.
// It says no to more than there can be.
func (r *h2Room) grant(n int64) (pass int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.window+n > maxWindow {
		return 0, false
	}
	r.window += n
	r.debt -= n
	pass = max(-r.debt, 0)
	r.debt += pass
	r.next()
	return pass, true
}

// next wakes whose turn it is.
func (r *h2Room) next() {
	switch {
	case len(r.held) > 0:
		poke(r.moved)
	case len(r.queue) > 0 && r.window > 0:
		poke(r.queue[0].moved)
	}
}

// setInitial changes the room of all streams (RFC 9113, section 6.9.2).
func (c *h2Conn) setInitial(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.taken {
		s.window += n - c.initial
		poke(s.moved)
	}
	c.initial = n
}

// reserve takes up to so much room for a stream. Where the connection has none, the
// stream gets its turn.
func (r *h2Room) reserve(s *h2Stream, most int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(most, s.window)
	if n <= 0 {
		r.unqueue(s)
		return 0
	}
	if r.window <= 0 || len(r.held) > 0 || len(r.queue) > 0 && r.queue[0] != s {
		if !slices.Contains(r.queue, s) {
			r.queue = append(r.queue, s)
		}
		return 0
	}
	n = min(n, r.window)
	r.window -= n
	s.window -= n
	r.debt += n
	r.unqueue(s)
	return n
}

// unqueue lets the next one have its turn.
func (r *h2Room) unqueue(s *h2Stream) {
	if at := slices.Index(r.queue, s); at >= 0 {
		r.queue = slices.Delete(r.queue, at, at+1)
	}
	r.next()
}

func (r *h2Room) giveUp(s *h2Stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unqueue(s)
}

// claim takes room for data of the inner server, as much as there is unless it has
// to wait behind what is held.
func (r *h2Room) claim(n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.held) > 0 {
		return 0
	}
	got := max(min(int64(n), r.window), 0)
	r.window -= got
	return int(got)
}

// hold keeps a frame for later.
func (r *h2Room) hold(f heldFrame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = append(r.held, f)
	r.holding += len(f.data)
}

// holds tells whether something of the stream is held.
func (r *h2Room) holds(stream uint32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.held, func(f heldFrame) bool { return f.stream == stream })
}

// unhold is the next frame that may go. Without one, more says whether to wait.
func (r *h2Room) unhold() (frame []byte, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.held) == 0 {
		r.next()
		return nil, false
	}
	f := &r.held[0]
	if f.other != nil {
		frame = f.other
		r.held = slices.Delete(r.held, 0, 1)
		return frame, true
	}
	n := int(min(int64(len(f.data)), r.window, wire.MaxFrame))
	if n <= 0 {
		return nil, true
	}
	h := wire.FrameHead{Type: wire.FrameData, Length: n, Stream: f.stream}
	if n == len(f.data) {
		h.Flags = f.flags
	}
	frame = append(h.Append(nil), f.data[:n]...)
	if f.data = f.data[n:]; len(f.data) == 0 {
		r.held = slices.Delete(r.held, 0, 1)
	}
	r.window -= int64(n)
	r.holding -= n
	poke(r.freed)
	return frame, true
}

// unholdAll drops what is held of a stream, and returns how much of it was data,
// which the inner server believes to be sent.
func (r *h2Room) unholdAll(stream uint32) (dropped int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = slices.DeleteFunc(r.held, func(f heldFrame) bool {
		if f.stream == stream {
			dropped += len(f.data)
		}
		return f.stream == stream
	})
	r.holding -= dropped
	poke(r.freed)
	r.next()
	return dropped
}

// firstHeld is the stream whose turn it is among what is held; 0: there is none.
func (r *h2Room) firstHeld() uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.held) == 0 {
		return 0
	}
	return r.held[0].stream
}

func (r *h2Room) isFull() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.holding > maxHeld
}

// patience is how long somebody waits for room, from the first wait on.
type patience struct {
	limit time.Duration
	timer *time.Timer
}

func (p *patience) over() <-chan time.Time {
	if p.timer == nil {
		p.timer = time.NewTimer(p.limit)
	}
	return p.timer.C
}

func (p *patience) end() {
	if p.timer != nil {
		p.timer.Stop()
	}
	p.timer = nil
}

// await is reserve that waits, unless it is for nothing.
func (c *h2Conn) await(s *h2Stream, most int, wait *patience) (int, error) {
	for most > 0 {
		if n := c.reserve(s, int64(most)); n > 0 {
			return int(n), nil
		}
		var err error
		select {
		case <-s.moved:
			continue
		case <-wait.over():
			err = errH2Stuck
		case <-s.ctx.Done():
			err = s.ctx.Err()
		}
		c.giveUp(s)
		return 0, err
	}
	return 0, nil
}
