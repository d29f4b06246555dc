package proxy

import (
	"slices"

	"attache/wire"
)

// The bodies of requests on the fast path, which the inner server does not see: the
// reader of the connection collects them, and gives the client back the room that
// they have taken; the stream's goroutine waits for the end.

// isUnended tells whether that is a stream which the inner server does not know of,
// and more may come.
func (c *h2Conn) isUnended(stream uint32) bool {
	return slices.Contains(c.refused, stream) || slices.Contains(c.sending, stream)
}

// forgetUnended is for a stream of which no more comes.
func (c *h2Conn) forgetUnended(stream uint32) {
	is := func(id uint32) bool { return id == stream }
	c.refused, c.sending = slices.DeleteFunc(c.refused, is), slices.DeleteFunc(c.sending, is)
}

// ownData takes data of a stream that the inner server does not know of: they are
// the request's body on the fast path, or else they are dropped.
func (c *h2Conn) ownData(h wire.FrameHead) error {
	end := h.Flags&wire.FlagEndStream != 0
	if end {
		c.forgetUnended(h.Stream)
	}
	if c.owed += h.Length; c.owed >= mostOwed {
		c.awaitSettings(c.ctx)
		_, _ = c.Conn.Write(windowUpdate(c.owed))
		c.owed = 0
	}
	if h.Flags&wire.FlagPadded == 0 && h.Length > 0 {
		c.from += wire.FrameHeadSize
		c.own, c.ownStream, c.ownEnds = h.Length, h.Stream, end
		return nil
	}
	payload, err := c.fragment(h)
	if err != nil {
		return err
	}
	data, ok := unpadded(h, payload)
	if !ok {
		return c.refuse(wire.CodeProtocol)
	}
	c.collect(h.Stream, data, end)
	return nil
}

// unpadded is what a frame carries, without padding (RFC 9113, section 6.1).
func unpadded(h wire.FrameHead, payload []byte) ([]byte, bool) {
	if h.Flags&wire.FlagPadded == 0 {
		return payload, true
	}
	if len(payload) == 0 || int(payload[0]) > len(payload)-1 {
		return nil, false
	}
	return payload[1 : len(payload)-int(payload[0])], true
}

// readOwn reads data that are not the inner server's.
func (c *h2Conn) readOwn() error {
	if c.from == c.to {
		c.from, c.to = 0, 0
		if err := c.fill(1, false); err != nil {
			return err
		}
	}
	data := c.buf[c.from:c.to]
	data = data[:min(len(data), c.own)]
	c.from += len(data)
	c.own -= len(data)
	c.collect(c.ownStream, data, c.ownEnds && c.own == 0)
	return nil
}

// collect adds to the body of a request on the fast path. Where nobody waits for
// that any more, it is dropped.
func (c *h2Conn) collect(id uint32, data []byte, ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.taken[id]
	switch {
	case s == nil:
		return
	case int64(len(data)) > s.lacks:
		s.abandon(wire.CodeProtocol)
		return
	}
	s.in = append(s.in, data...)
	s.lacks -= int64(len(data))
	s.ended = ended
	poke(s.moved)
}

// awaitBody waits for the end of the request, and returns what is wrong with it.
func (s *h2Stream) awaitBody() *problem {
	wait := patience{limit: s.p.settings.Limits.IdleTimeout}
	defer wait.end()
	for {
		lacks, ended := s.rest()
		if ended && lacks == 0 {
			return nil
		}
		s.record.in.Store(s.request.Length - lacks)
		if ended {
			return &brokenBody
		}
		select {
		case <-s.moved:
			wait.end()
		case <-wait.over():
			return &stalled
		case <-s.ctx.Done():
			return &clientGone
		}
	}
}

// rest is how much of the body is not there, and whether nothing more comes.
func (s *h2Stream) rest() (lacks int64, ended bool) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.lacks, s.ended
}
