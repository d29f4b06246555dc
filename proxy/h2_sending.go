package proxy

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"attache/wire"
)

// h2Sending is what an [h2Conn] knows of what may be sent, and who sends: the
// streams of the fast path, each on its goroutine, and the inner server.
//
// The client grants room for data once for all streams. The inner server knows
// nothing of what the fast path sends, so of each grant it is told as much less:
// that is the debt. It may still send too early, by as much as the debt, and is
// made to wait then.
type h2Sending struct {
	opened chan struct{} // closed when the inner server has sent its settings, which come first

	mu      sync.Mutex           // guards what follows
	moved   chan struct{}        // closed when there is more room; nil: nobody waits for it
	window  int64                // room on the connection
	debt    int64                // what of it the fast path took since the client last gave some
	initial int64                // room of a stream at its beginning
	taken   map[uint32]*h2Stream // those whose client waits for an answer
	others  map[uint32]struct{}  // streams of the inner server that have not been answered
	idle    []*h2Stream          // to be used again
	busy    int                  // goroutines
	since   time.Time            // when the last stream ended
	gone    bool                 // the client is
	ending  bool                 // the client was told that there are to be no more streams
	closed  bool                 // the inner server has ended the connection

	writing sync.Mutex // guards what follows
	partial []byte     // a frame of the inner server that is not complete
	started bool
}

func (c *h2Sending) init() {
	c.opened = make(chan struct{})
	c.window, c.initial = wire.InitialWindow, wire.InitialWindow
	c.taken = make(map[uint32]*h2Stream)
	c.others = make(map[uint32]struct{})
	c.since = time.Now()
}

// grant adds to the room of the connection. What it returns is the inner server's.
func (c *h2Sending) grant(n int64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.window += n
	paid := min(n, c.debt)
	c.debt -= paid
	c.stir()
	return n - paid
}

// grantStream adds to the room of a stream, if it is one of the fast path.
func (c *h2Sending) grantStream(id uint32, n int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.taken[id]
	if s != nil {
		s.window += n
		c.stir()
	}
	return s != nil
}

// setInitial changes the room of all streams (RFC 9113, section 6.9.2).
func (c *h2Sending) setInitial(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.taken {
		s.window += n - c.initial
	}
	c.initial = n
	c.stir()
}

// stir wakes those who wait for room.
func (c *h2Sending) stir() {
	if c.moved != nil {
		close(c.moved)
		c.moved = nil
	}
}

// reserve takes up to so much room, of the connection and of s, where that is not
// nil. If there is none, the channel says when to try again.
func (c *h2Sending) reserve(s *h2Stream, most int64) (int64, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(most, c.window)
	if s != nil {
		n = min(n, s.window)
	} else if n < most { // the inner server has made its frame
		n = 0
	}
	if n > 0 || most == 0 {
		c.window -= n
		if s != nil {
			s.window -= n
		}
		return n, nil
	}
	if c.moved == nil {
		c.moved = make(chan struct{})
	}
	return 0, c.moved
}

// spend says how much of what was reserved is sent. The rest is given back.
func (c *h2Sending) spend(s *h2Stream, reserved, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.debt += n
	if left := reserved - n; left > 0 {
		s.window += left
		c.window += left
		c.stir()
	}
}

// await is reserve that waits.
func (c *h2Conn) await(ctx context.Context, s *h2Stream, most int64) (int64, error) {
	n, moved := c.reserve(s, most)
	if moved == nil {
		return n, nil
	}
	patience := time.NewTimer(c.p.settings.Limits.WriteTimeout)
	defer patience.Stop()
	for {
		select {
		case <-moved:
		case <-patience.C:
			return 0, errH2Stuck
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		if n, moved = c.reserve(s, most); moved == nil {
			return n, nil
		}
	}
}

// has tells whether a stream is one of the fast path, and its client waits.
func (c *h2Sending) has(id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taken[id] != nil
}

// open notes a stream of the inner server.
func (c *h2Sending) open(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.others[id] = struct{}{}
}

// over notes that the inner server has answered on a stream, or need not.
func (c *h2Sending) over(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.others, id)
	c.since = time.Now()
}

// reset ends a stream whose client wants no answer any more, and tells whether it
// is one of the fast path.
func (c *h2Sending) reset(id uint32) bool {
	c.over(id)
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.taken[id]
	if s != nil {
		s.abandon()
	}
	return s != nil
}

// maxIdleStreams is how many are kept to be used again.
const maxIdleStreams = 16

// putBack keeps s to be used again. The connection may have waited for that to end.
func (c *h2Sending) putBack(s *h2Stream) (last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy--
	c.since = time.Now()
	if s.ctx.Err() == nil && len(c.idle) < maxIdleStreams {
		c.idle = append(c.idle, s)
	} else {
		s.end()
	}
	return c.closed && c.busy == 0
}

// idleFor is for how long there has been no stream.
func (c *h2Sending) idleFor() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy > 0 || len(c.others) > 0 {
		return 0
	}
	return time.Since(c.since)
}

func (c *h2Sending) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// leave ends the streams of a client that has left.
func (c *h2Conn) leave() {
	c.end()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	for _, s := range c.taken {
		s.abandon()
	}
}

// Write implements [net.Conn] for the inner server, whose frames go out whole.
func (c *h2Conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	frames := p
	if len(c.partial) > 0 {
		c.partial = append(c.partial, p...)
		frames = c.partial
	}
	whole := 0
	for {
		rest := frames[whole:]
		if len(rest) < wire.FrameHeadSize {
			break
		}
		h := wire.ParseFrameHead(rest)
		size := wire.FrameHeadSize + h.Length
		if len(rest) < size {
			break
		}
		switch {
		case h.Type == wire.FrameData && h.Length > 0:
			if n, _ := c.reserve(nil, int64(h.Length)); n == 0 { // first what comes before it
				if err := c.send(frames[:whole]); err != nil {
					return 0, err
				}
				frames, whole = frames[whole:], 0
				if _, err := c.await(c.ctx, nil, int64(h.Length)); err != nil {
					return 0, err
				}
			}
		case h.Type == wire.FrameGoAway && len(rest) >= wire.FrameHeadSize+4:
			rest = append([]byte(nil), rest...)
			c.include(rest[wire.FrameHeadSize:])
			if err := c.send(frames[:whole]); err != nil {
				return 0, err
			}
			frames, whole = rest, 0
		}
		if h.Type == wire.FrameReset || h.Flags&wire.FlagEndStream != 0 && h.Type <= wire.FrameHeaders {
			c.over(h.Stream)
		}
		whole += size
	}
	if err := c.send(frames[:whole]); err != nil {
		return 0, err
	}
	c.partial = append(c.partial[:0:0], frames[whole:]...)
	return len(p), nil
}

func (c *h2Conn) send(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_, err := c.Conn.Write(b)
	if !c.started {
		c.started = true
		close(c.opened)
	}
	return err
}

// include puts the last stream that is served into a GOAWAY of the inner server,
// which does not know of those on the fast path.
func (c *h2Conn) include(payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = true
	for id := range c.taken {
		if id > binary.BigEndian.Uint32(payload) {
			binary.BigEndian.PutUint32(payload, id)
		}
	}
}

// Close implements [net.Conn] for the inner server. Streams of the fast path may
// end first; what the client sends until then is read for their sake.
func (c *h2Conn) Close() error {
	c.mu.Lock()
	wait := !c.closed && !c.gone && c.busy > 0
	c.closed = true
	c.mu.Unlock()
	if !wait || !c.p.enter() {
		return c.shut()
	}
	go func() {
		defer c.p.handlers.Done()
		_, _ = c.Read(make([]byte, h2Buffer))
	}()
	return nil
}

func (c *h2Conn) shut() error {
	c.end()
	return c.Conn.Close()
}
