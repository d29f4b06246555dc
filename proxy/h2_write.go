package proxy

import (
	"bytes"
	"encoding/binary"
	"time"

	"attache/wire"
)

// Write implements [net.Conn] for the inner server, whose frames go out whole, and
// a header block in one piece.
func (c *h2Conn) Write(p []byte) (int, error) {
	for c.holdsMuch() {
		select {
		case <-c.freed:
		case <-c.ctx.Done():
			return 0, c.ctx.Err()
		}
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	frames := c.whole(p)
	sent, at := 0, 0
	for at < len(frames) {
		h := wire.ParseFrameHead(frames[at:])
		end := at + blockSize(frames[at:])
		instead, ok := c.passes(h, frames[at:end])
		if !ok {
			if err := c.send(frames[sent:at]); err != nil {
				return 0, err
			}
			if err := c.send(instead); err != nil {
				return 0, err
			}
			sent = end
		}
		at = end
	}
	return len(p), c.send(frames[sent:])
}

// whole is what came up to the end of a frame after which something else may be
// sent. The rest is kept until it is.
func (c *h2Conn) whole(p []byte) []byte {
	if len(c.partial) > 0 {
		p = append(c.partial, p...)
	}
	whole := 0
	for {
		n := blockSize(p[whole:])
		if n == 0 {
			break
		}
		whole += n
	}
	c.partial = bytes.Clone(p[whole:])
	return p[:whole]
}

// blockSize is how many bytes at the beginning of b belong together: a frame, or
// all of a header block; 0: it is not complete.
func blockSize(b []byte) int {
	for at := 0; len(b)-at >= wire.FrameHeadSize; {
		h := wire.ParseFrameHead(b[at:])
		if at += wire.FrameHeadSize + h.Length; at > len(b) {
			break
		}
		if h.Type != wire.FrameHeaders && h.Type != wire.FrameContinuation || h.Flags&wire.FlagEndHeaders != 0 {
			return at
		}
	}
	return 0
}

// passes takes note of a frame of the inner server, or of a whole header block, and
// tells whether it may go out as it is. If not, something else may have to.
func (c *h2Conn) passes(h wire.FrameHead, frame []byte) (instead []byte, ok bool) {
	switch {
	case h.Type == wire.FrameGoAway && h.Length >= 8:
		return c.goodbye(frame), false
	case h.Type == wire.FrameReset || h.Flags&wire.FlagEndStream != 0 && (h.Type == wire.FrameData || h.Type == wire.FrameHeaders):
		c.answered(h.Stream)
	}
	switch {
	case c.cut[h.Stream]:
		if h.Type == wire.FrameData && h.Length > 0 {
			c.inject(windowUpdate(h.Length))
		}
		return nil, false
	case h.Type == wire.FrameHeaders || h.Type == wire.FrameReset:
		if !c.holds(h.Stream) {
			return nil, true
		}
		c.holdBack(heldFrame{stream: h.Stream, other: bytes.Clone(frame)})
		return nil, false
	case h.Type != wire.FrameData:
		return nil, true
	}
	data := frame[wire.FrameHeadSize:] // which net/http does not pad
	n := c.claim(len(data))
	if n == len(data) && !c.holds(h.Stream) {
		return nil, true
	}
	if n > 0 {
		instead = append(wire.FrameHead{Type: wire.FrameData, Length: n, Stream: h.Stream}.Append(nil), data[:n]...)
	}
	rest := heldFrame{stream: h.Stream, data: bytes.Clone(data[n:]), flags: h.Flags}
	if len(rest.data) == 0 { // an end needs no room, but waits for the data before it
		rest.other = bytes.Clone(frame)
	}
	c.holdBack(rest)
	return instead, false
}

// holdBack holds a frame, and sees to it that it is sent.
func (c *h2Conn) holdBack(f heldFrame) {
	c.hold(f)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.flushing && c.p.extendRelay() {
		c.flushing = true
		c.busy++
		go c.flush()
	}
}

// flush sends what is held, as the client grants room for it. A stream that waits
// for too long for that is ended, on both sides.
func (c *h2Conn) flush() {
	defer c.p.endRelay()
	defer c.contain()
	wait := patience{limit: c.p.settings.Limits.WriteTimeout}
	defer wait.end()
	waiting, passed := uint32(0), 0 // the stream that waits, and how much was sent meanwhile
	for {
		sent, more := c.flushOne()
		if !more {
			return
		}
		passed += sent
		if stream := c.firstHeld(); passed >= maxPiece || stream != waiting {
			wait.end()
			waiting, passed = stream, 0
		}
		if sent > 0 {
			continue
		}
		select {
		case <-c.moved:
		case <-wait.over():
			c.endHeld()
		case <-c.ctx.Done():
			c.flushed()
			return
		}
	}
}

// contain keeps a panic from ending more than this connection.
func (c *h2Conn) contain() {
	if v := recover(); v != nil {
		c.p.panicked("a connection", v)
		_ = c.shut()
	}
}

// flushOne sends one frame of what is held, or ends the flush if there is nothing.
func (c *h2Conn) flushOne() (sent int, more bool) {
	c.writing.Lock()
	defer c.writing.Unlock()
	frame, more := c.unhold()
	if c.send(frame) != nil {
		more = false
	}
	if !more {
		c.flushed()
	}
	return len(frame), more
}

// flushed ends the work of flush.
func (c *h2Conn) flushed() {
	c.lessBusy(func() {
		c.flushing = false
		c.rested = time.Now()
	})
}

// endHeld ends the stream of the inner server whose turn it is among what is held,
// on both sides. It says no where there is none.
func (c *h2Conn) endHeld() bool {
	c.writing.Lock()
	defer c.writing.Unlock()
	stream := c.firstHeld()
	if stream == 0 {
		return false
	}
	if dropped := c.unholdAll(stream); dropped > 0 {
		c.inject(windowUpdate(dropped))
	}
	c.inject(wire.AppendReset(nil, stream, wire.CodeCancel))
	c.answered(stream)
	if c.cut == nil {
		c.cut = make(map[uint32]bool)
	}
	c.cut[stream] = true
	_ = c.send(wire.AppendReset(nil, stream, wire.CodeCancel))
	return true
}

// send writes what is the inner server's to the client, with writing held. A client
// that cannot be written to is given up.
func (c *h2Conn) send(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_, err := c.Conn.Write(b)
	if err != nil {
		_ = c.shut()
	}
	if !c.greeted { // these are its settings
		c.greeted = true
		close(c.settled)
	}
	return err
}

// goodbye makes a GOAWAY of the inner server true, which does not know of the
// streams on the fast path. Those that are before the last of them, and that the
// inner server will not serve, are refused.
func (c *h2Conn) goodbye(frame []byte) []byte {
	frame = bytes.Clone(frame)
	served := binary.BigEndian.Uint32(frame[wire.FrameHeadSize:])
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = true
	c.final = max(served, c.top)
	if served >= c.top {
		return frame
	}
	binary.BigEndian.PutUint32(frame[wire.FrameHeadSize:], c.top)
	for id := range c.others {
		if served < id {
			delete(c.others, id)
			frame = wire.AppendReset(frame, id, wire.CodeRefused)
		}
	}
	return frame
}

// goAway says that no more streams are served, and which was the last (RFC 9113, section
// 6.8): not one behind final, once that is known.
func (c *h2Conn) goAway(last uint32, code wire.Code) {
	c.mu.Lock()
	if c.ending {
		last = min(last, c.final)
	}
	c.mu.Unlock()
	_, _ = c.Conn.Write(wire.AppendGoAway(nil, last, code))
}

// Close implements [net.Conn] for the inner server, which closes twice. Streams of
// the fast path may end first; what the client sends until then is read for their
// sake.
func (c *h2Conn) Close() error {
	c.mu.Lock()
	first, wait := !c.closed, c.busy > 0 && !c.gone
	told := c.ending
	if !told {
		c.ending, c.final = true, c.top
	}
	c.closed = true
	c.mu.Unlock()
	switch {
	case !wait:
		return c.shut()
	case first && c.p.enter():
		go func() {
			defer c.p.handlers.Done()
			if !told {
				c.goAway(maxWindow, wire.CodeNone)
			}
			_, _ = c.Read(make([]byte, h2Buffer))
		}()
	}
	return nil
}

// shut closes the connection.
func (c *h2Conn) shut() error {
	c.end()
	return c.Conn.Close()
}

// SetReadDeadline implements [net.Conn]. When to give up is decided by Read.
func (c *h2Conn) SetReadDeadline(time.Time) error { return nil }

// SetDeadline implements [net.Conn]. It is not the inner server's to set.
func (c *h2Conn) SetDeadline(time.Time) error { return nil }

// SetWriteDeadline implements [net.Conn]. Sockets have their own.
func (c *h2Conn) SetWriteDeadline(time.Time) error { return nil }
