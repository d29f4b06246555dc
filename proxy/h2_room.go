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
	moved chan struct{} // says that there is room for what is held, or nothing held
	freed chan struct{} // says that less is held

	mu      sync.Mutex           // guards what follows, and what h2Conn says
	taken   map[uint32]*h2Stream // streams of the fast path whose client waits for an answer
	window  int64                // room on the connection
	debt    int64                // what of it the fast path used and no grant has made up for
	initial int64                // room of a stream at its beginning
	queue   []*h2Stream          // those that wait for room on the connection, in turn
	held    []heldFrame
	holding int // bytes of data in held
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
		moved:   make(chan struct{}, 1),
		freed:   make(chan struct{}, 1),
		taken:   make(map[uint32]*h2Stream),
		window:  wire.InitialWindow,
		initial: wire.InitialWindow,
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
func (r *h2Room) grant(n int64) (forInner int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.window+n > maxWindow {
		return 0, false
	}
	r.window += n
	kept := min(n, r.debt)
	r.debt -= kept
	r.wakeNext()
	return n - kept, true
}

// wakeNext wakes whose turn it is. It is called with mu held.
func (r *h2Room) wakeNext() {
	switch {
	case len(r.held) > 0:
		poke(r.moved)
	case len(r.queue) > 0 && r.window > 0:
		poke(r.queue[0].moved)
	}
}

// grantStream adds to the room of a stream, if it is one of the fast path. One that
// is granted nothing, or more than there can be, is ended.
func (r *h2Room) grantStream(id uint32, n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.taken[id]
	switch {
	case s == nil:
		return false
	case n == 0:
		s.abandon(wire.CodeProtocol)
	case s.window+n > maxWindow:
		s.abandon(wire.CodeFlowControl)
	}
	s.window += n
	poke(s.moved)
	return true
}

// setInitial changes the room of all streams (RFC 9113, section 6.9.2), and says
// whether that became less while something is held.
func (r *h2Room) setInitial(n int64) (tooMuch bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.taken {
		s.window += n - r.initial
		poke(s.moved)
	}
	tooMuch = n < r.initial && len(r.held) > 0
	r.initial = n
	return tooMuch
}

// has tells whether a stream is one of the fast path, and its client waits.
func (r *h2Room) has(id uint32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken[id] != nil
}

// abandon ends a stream whose client wants no answer any more, if it is one of the
// fast path.
func (r *h2Room) abandon(id uint32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.taken[id]
	if s != nil {
		s.abandon(wire.CodeNone)
	}
	return s != nil
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

// unqueue lets the next one have its turn. It is called with mu held.
func (r *h2Room) unqueue(s *h2Stream) {
	if at := slices.Index(r.queue, s); at >= 0 {
		r.queue = slices.Delete(r.queue, at, at+1)
	}
	r.wakeNext()
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

// hold keeps a frame for later, together with what is there of its stream.
func (r *h2Room) hold(f heldFrame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holding += len(f.data)
	if last := len(r.held) - 1; last >= 0 && f.other == nil {
		if before := &r.held[last]; before.stream == f.stream && before.other == nil {
			before.data, before.flags = append(before.data, f.data...), f.flags
			return
		}
	}
	r.held = append(r.held, f)
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
		r.wakeNext()
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
	poke(r.moved)
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

// holdsMuch tells whether no more should come to be held.
func (r *h2Room) holdsMuch() bool {
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

// await is reserve that waits.
func (c *h2Conn) await(s *h2Stream, most int, wait *patience) (int, error) {
	for {
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
}
