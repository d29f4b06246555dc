package proxy

import (
	"slices"
	"time"

	"attache/wire"
)

// The bodies of requests on the fast path, which the inner server does not see: the
// reader of the connection collects them, and has the client get back the room that
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

// maySend makes room for one more stream that the client has not ended, at the cost
// of one that nobody waits for.
func (c *h2Conn) maySend() bool {
	if len(c.sending) < c.p.settings.Limits.Streams {
		return true
	}
	at := slices.IndexFunc(c.sending, func(id uint32) bool { return !c.has(id) })
	if at >= 0 {
		c.sending = slices.Delete(c.sending, at, at+1)
	}
	return at >= 0
}

// ownData takes data of a stream that the inner server does not know of: they are
// the request's body on the fast path, or else they are dropped.
func (c *h2Conn) ownData(h wire.FrameHead) error {
	c.own, c.ownStream, c.ownEnds = h.Length, h.Stream, h.Flags&wire.FlagEndStream != 0
	if c.ownEnds {
		c.forgetUnended(h.Stream)
	}
	if h.Flags&wire.FlagPadded != 0 { // RFC 9113, section 6.1
		if h.Length == 0 {
			return c.refuse(wire.CodeProtocol)
		}
		if err := c.fill(wire.FrameHeadSize+1, false); err != nil {
			return err
		}
		c.padding = int(c.buf[c.from+wire.FrameHeadSize])
		if c.own -= 1 + c.padding; c.own < 0 {
			return c.refuse(wire.CodeProtocol)
		}
		c.from++
	}
	c.from += wire.FrameHeadSize
	c.owe(h.Stream, h.Length, h.Length-c.own)
	if c.own == 0 {
		c.collect(h.Stream, nil, c.ownEnds)
	}
	return nil
}

// owe notes that room for n bytes of a stream is to be given back, and has it done if it
// is worth a frame. Who does so may wait for a client that does not read, for which
// nothing else is to wait. The stream itself has room for all of a body, but not for what
// that may be padded with.
func (c *h2Conn) owe(stream uint32, n, padding int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owed += n
	if padding > 0 && c.taken[stream] != nil {
		if c.padded == nil {
			c.padded = make(map[uint32]int)
		}
		c.padded[stream] += padding
	}
	if c.owed >= mostOwed && !c.repaying && c.p.extendRelay() {
		c.repaying = true
		c.busy++
		go c.repay()
	}
}

// repay gives the client room back, until that is not worth a frame any more.
func (c *h2Conn) repay() {
	defer c.p.endRelay()
	defer c.lessBusy(func() {})
	defer c.contain()
	c.awaitSettings()
	for grants := c.due(); grants != nil; grants = c.due() {
		if _, err := c.Conn.Write(grants); err != nil {
			_ = c.shut()
		}
	}
}

// due are frames that give back what is owed; nil ends repay.
func (c *h2Conn) due() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.owed < mostOwed {
		c.repaying = false
		return nil
	}
	grants := windowUpdate(c.owed)
	for stream, n := range c.padded {
		if c.taken[stream] != nil {
			grants = appendWindowUpdate(grants, stream, n)
		}
	}
	c.owed, c.padded = 0, nil
	return grants
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

// trailers end a body. They are dropped, because nobody has announced them; what
// they may not be, they may not be here either.
func (c *h2Conn) trailers(h wire.FrameHead) {
	wrong := h.Flags&wire.FlagEndStream == 0
	for _, f := range c.fields {
		_, ok := wire.AppendRequestField(nil, f.Name, f.Value)
		wrong = wrong || !ok
	}
	if wrong {
		c.malformed(h.Stream)
	}
	c.collect(h.Stream, nil, true)
}

// malformed ends a stream of the fast path.
func (c *h2Conn) malformed(stream uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.taken[stream]; s != nil {
		s.abandon(wire.CodeProtocol)
	}
}

// awaitBody waits for the end of the request, and returns what is wrong with it. The
// client may take its time, as long as it goes on.
func (s *h2Stream) awaitBody() *problem {
	wait := patience{limit: s.p.settings.Limits.IdleTimeout}
	defer wait.end()
	for before := s.request.Length; ; {
		lacks, ended := s.missing()
		s.record.BytesIn = s.request.Length - lacks
		switch {
		case ended && lacks == 0:
			return nil
		case ended:
			return &brokenBody
		case lacks < before:
			wait.end()
			before = lacks
		}
		select {
		case <-s.moved:
		case <-wait.over():
			return &stalled
		case <-s.ctx.Done():
			return &clientGone
		}
	}
}

// readBody waits for the body, and asks again whether the request may be sent: that
// may have changed meanwhile. The event is that of the second decision.
func (s *h2Stream) readBody() bool {
	if why := s.awaitBody(); why != nil {
		s.conn.awaitSettings()
		s.fail(*why)
		if _, ended := s.missing(); !ended && why.code != clientGone.code { // it need not go on
			_ = s.write(wire.AppendReset(nil, s.id, wire.CodeNone))
		}
		return false
	}
	began, protocol := s.record.Time, s.record.Protocol
	s.record.drop()
	s.now = time.Now()
	ix := s.p.with.Index()
	if !s.admit(ix, began, protocol) {
		s.conn.awaitSettings()
		s.detour()
		return false
	}
	s.strips = ix.Strips(s.x.integration)
	return true
}

// missing is how much of the body is not there, and whether nothing more comes.
func (s *h2Stream) missing() (lacks int64, ended bool) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.lacks, s.ended
}
