package proxy

import (
	"encoding/binary"
	"time"

	"attache/wire"
)

// Write implements [net.Conn] for the inner server, whose frames go out whole, and
// a header block in one piece.
func (c *h2Conn) Write(p []byte) (int, error) {
	for c.isFull() {
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
		end := at + wire.FrameHeadSize + h.Length
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
	for at := 0; len(p)-at >= wire.FrameHeadSize; {
		h := wire.ParseFrameHead(p[at:])
		if at += wire.FrameHeadSize + h.Length; at > len(p) {
			break
		}
		if h.Type != wire.FrameHeaders && h.Type != wire.FrameContinuation || h.Flags&wire.FlagEndHeaders != 0 {
			whole = at
		}
	}
	c.partial = append([]byte(nil), p[whole:]...)
	return p[:whole]
}

// passes takes note of a frame of the inner server, and tells whether it may go
// out as it is. If not, something else may have to.
func (c *h2Conn) passes(h wire.FrameHead, frame []byte) (instead []byte, ok bool) {
	switch {
	case h.Type == wire.FrameGoAway && h.Length >= 8:
		return c.goodbye(frame), false
	case h.Type == wire.FrameSettings && h.Flags&wire.FlagAck != 0:
		c.acknowledged()
	case h.Type == wire.FrameReset || h.Flags&wire.FlagEndStream != 0 && h.Type <= wire.FrameHeaders:
		c.over(h.Stream)
	}
	if h.Type != wire.FrameData { // of data nothing is held unless there is no room
		if h.Stream == 0 || !c.holds(h.Stream) {
			return nil, true
		}
		c.holdBack(heldFrame{stream: h.Stream, other: append([]byte(nil), frame...)})
		return nil, false
	}
	data := frame[wire.FrameHeadSize:] // which net/http does not pad
	n := c.claim(len(data))
	if n == len(data) && !c.holds(h.Stream) {
		return nil, true
	}
	if n > 0 {
		instead = append(wire.FrameHead{Type: wire.FrameData, Length: n, Stream: h.Stream}.Append(nil), data[:n]...)
	}
	rest := heldFrame{stream: h.Stream, data: append([]byte(nil), data[n:]...), flags: h.Flags}
	if len(rest.data) == 0 {
		rest.other = append([]byte(nil), frame...)
	}
	c.holdBack(rest)
	return instead, false
}

// holdBack holds a frame, and sees to it that it is sent.
func (c *h2Conn) holdBack(f heldFrame) {
	c.hold(f)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.flushing {
		c.flushing = true
		c.busy++
		go c.flush()
	}
}

// flush sends what is held, as the client grants room for it. A stream that waits
// for too long for that is ended, on both sides.
func (c *h2Conn) flush() {
	wait := patience{limit: c.p.settings.Limits.WriteTimeout}
	defer wait.end()
	for {
		c.writing.Lock()
		frame, more := c.unhold()
		err := c.send(frame)
		if !more || err != nil {
			c.flushed()
			c.writing.Unlock()
			return
		}
		c.writing.Unlock()
		if frame != nil {
			wait.end()
			continue
		}
		select {
		case <-c.moved:
		case <-wait.over():
			c.endHeld(c.firstHeld())
			wait.end()
		case <-c.ctx.Done():
			c.flushed()
			return
		}
	}
}

// flushed ends the work of flush.
func (c *h2Conn) flushed() {
	c.mu.Lock()
	c.flushing = false
	c.busy--
	last := c.closed && c.busy == 0
	c.mu.Unlock()
	if last {
		_ = c.shut()
	}
}

// endHeld ends a stream of the inner server, of which something is held.
func (c *h2Conn) endHeld(stream uint32) {
	dropped := c.unholdAll(stream)
	c.over(stream)
	c.inject(append(wire.AppendReset(nil, stream, wire.CodeCancel), windowUpdate(dropped)...))
	c.writing.Lock()
	defer c.writing.Unlock()
	_ = c.send(wire.AppendReset(nil, stream, wire.CodeCancel))
}

// windowUpdate grants that much on the connection; nothing is no grant.
func windowUpdate(n int) []byte {
	if n == 0 {
		return nil
	}
	b := wire.FrameHead{Type: wire.FrameWindowUpdate, Length: 4}.Append(nil)
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// inject has the inner server read something that the client has not sent.
func (c *h2Conn) inject(frames []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.injected = append(c.injected, frames...)
	_ = c.Conn.SetReadDeadline(past)
}

// send writes to the client. One that cannot be written to is given up.
func (c *h2Conn) send(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_, err := c.Conn.Write(b)
	if err != nil {
		_ = c.shut()
	}
	c.first.Do(func() { close(c.opened) }) // these are the inner server's settings
	return err
}

// goodbye makes a GOAWAY of the inner server true, which does not know of the
// streams on the fast path. Those that are before the last of them, and that the
// inner server will not serve, are refused.
func (c *h2Conn) goodbye(frame []byte) []byte {
	frame = append([]byte(nil), frame...)
	served := binary.BigEndian.Uint32(frame[wire.FrameHeadSize:])
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = true
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

// goAway says that no more streams are served (RFC 9113, section 6.8).
func (c *h2Conn) goAway(last uint32, code wire.Code) {
	_, _ = c.Conn.Write(wire.AppendGoAway(nil, last, code))
}

// Close implements [net.Conn] for the inner server, which closes twice. Streams of
// the fast path may end first; what the client sends until then is read for their
// sake.
func (c *h2Conn) Close() error {
	c.mu.Lock()
	first, wait := !c.closed, c.busy > 0 && !c.gone
	c.closed = true
	told, top := c.ending, c.top
	c.mu.Unlock()
	switch {
	case !wait:
		return c.shut()
	case first && c.p.enter():
		if !told {
			c.goAway(top, wire.CodeNone)
		}
		go func() {
			defer c.p.handlers.Done()
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

// SetDeadline implements [net.Conn].
func (c *h2Conn) SetDeadline(time.Time) error { return nil }

// SetWriteDeadline implements [net.Conn]. Sockets have their own.
func (c *h2Conn) SetWriteDeadline(time.Time) error { return nil }
