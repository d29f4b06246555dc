package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"attache/wire"
)

// h2Conn is the fast path for a client that speaks HTTP/2 (RFC 9113): it stands
// between that client's connection and the inner server, and takes the plain
// requests out of what the server reads. Those get an [h2Stream] each, which
// answers in between what the server writes. All else passes: the server sees a
// connection on which the other streams are all there is, and it alone speaks of
// settings, pings and the end.
//
// Two things are shared, and so are kept account of. What the client's header
// blocks say depends on the ones before (RFC 7541): they are all decoded here, and
// those for the server written anew, in a way that depends on nothing; answers of
// the fast path are written in that way, and so may stand between those of the
// server. And what may be sent on the connection is granted once for all streams:
// to us by the client, see [h2Room]; and to the client by the server, which does not
// see the bodies of the fast path, so that those are granted anew here.
//
// Locks are taken in this order: reading, then writing, then mu, then a stream's
// watch.
type h2Conn struct {
	// Of the client, decrypted. Every Write is of whole frames, and of a header block
	// with all of its frames; crypto/tls keeps one Write apart from another.
	net.Conn
	p       *Proxy
	t       *tunnel
	ctx     context.Context // ends with the connection
	end     context.CancelFunc
	since   time.Time     // when the connection began
	settled chan struct{} // closed when the inner server has sent its settings, which come first

	// The inner server reads, one goroutine at a time, and after Close a goroutine of
	// ours may.
	reading   sync.Mutex // guards what follows
	begun     bool       // the client's preface was passed on
	buf       []byte     // what was read and not looked at: from..to
	from, to  int
	through   int      // bytes of it, or of what follows, that pass as they are
	own       int      // and that are data of a stream which the server does not know of
	ownStream uint32   // which one that is
	ownEnds   bool     // it ends with them
	padding   int      // and that are for nobody
	out       []byte   // what passes before that
	last      uint32   // the last stream that the client has begun
	passed    uint32   // the last one that the inner server was told of
	tableless bool     // the inner server was told to do without a table
	refused   []uint32 // streams that were refused, and the client has not ended
	sending   []uint32 // streams that were taken, and the client has not ended
	h2Heads

	writing sync.Mutex      // guards what follows, and keeps what the inner server sends in order, held or not
	partial []byte          // what it sent of a frame, or of a header block, that is not complete
	greeted bool            // it has sent its settings
	cut     map[uint32]bool // its streams that were ended here, and it may not know yet

	h2Room                       // whose mu guards what follows, too
	others   map[uint32]struct{} // streams of the inner server that have not been answered
	idle     []*h2Stream         // to be used again
	top      uint32              // the last stream that is served
	busy     int                 // goroutines that may have something to send
	owed     int                 // room for bodies that the client is still to get back
	padded   map[uint32]int      // what of that streams are to get back, too
	repaying bool                // one of them gives it back
	flushing bool                // one of them sends what is held
	rested   time.Time           // when the last stream ended
	injected []byte              // frames for the inner server that are not the client's
	gone     bool                // the client is
	ending   bool                // the client was told that there are to be no more streams
	final    uint32              // the last one that is served, from then on
	closed   bool                // the inner server has ended the connection
}

// The bounds of what is read into memory.
const (
	h2Buffer     = 4 << 10 // at first
	maxH2Control = 4 << 10 // a frame about the connection
	// mostOwed is how much room the client waits for at most, of the 1 MiB that net/http
	// grants at first.
	mostOwed = 128 << 10
)

var (
	errH2Malformed = errors.New("the client's HTTP/2 is malformed")
	// errH2Stuck: the client did not take what it had asked for.
	errH2Stuck = errors.New("the client grants no room for the answer")
	// errInjected: there is something to read that the client has not sent.
	errInjected = errors.New("the inner server is to be told something")
)

func (p *Proxy) newH2(t *tunnel, conn net.Conn) *h2Conn {
	now := time.Now()
	c := &h2Conn{
		Conn:    conn,
		p:       p,
		t:       t,
		since:   now,
		rested:  now,
		settled: make(chan struct{}),
		h2Room:  newH2Room(),
		others:  make(map[uint32]struct{}),
	}
	c.ctx, c.end = context.WithCancel(p.base)
	c.h2Heads.init(p.settings.Limits.HeadBytes)
	return c
}

// Read implements [net.Conn] for the inner server.
func (c *h2Conn) Read(p []byte) (n int, err error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	defer func() {
		if v := recover(); v != nil {
			c.p.panicked("a connection", v)
			n, err = 0, errH2Malformed
		}
		if err != nil {
			c.leave()
		}
	}()
	for {
		n, err = c.step(p)
		switch {
		case err == errInjected:
		case err != nil:
			return n, err
		case n > 0 && !c.isClosed(): // what was for an inner server that has left is dropped
			return n, nil
		}
	}
}

// step reads something for the inner server, or works on what is not for it.
func (c *h2Conn) step(p []byte) (n int, err error) {
	switch {
	case len(c.out) > 0:
		n = copy(p, c.out)
		c.out = c.out[n:]
	case c.through > 0:
		n, err = c.raw(p[:min(len(p), c.through)])
		c.through -= n
	case c.own > 0:
		err = c.readOwn()
	case c.padding > 0:
		var read int
		read, err = c.raw(p[:min(len(p), c.padding)])
		c.padding -= read
	default:
		err = c.nextFrame()
	}
	return n, err
}

// raw reads what was read before, or else from the client.
func (c *h2Conn) raw(p []byte) (int, error) {
	if c.from == c.to {
		return c.receive(p, false)
	}
	n := copy(p, c.buf[c.from:c.to])
	c.from += n
	return n, nil
}

// receive reads from the client. One that has no request under way for too long is
// told that this is the end, also if what it says then is a ping, or a request that
// comes too late. At the boundary of a frame, receive may be interrupted by
// something else that is to be read.
func (c *h2Conn) receive(p []byte, boundary bool) (int, error) {
	idle := c.p.settings.Limits.IdleTimeout
	for {
		if err := c.bound(boundary); err != nil {
			return 0, err
		}
		n, err := c.Conn.Read(p)
		switch {
		case !c.begun:
			return n, err
		case (n > 0 || wire.IsTimeout(err)) && c.idleFor() >= idle:
			c.goAway(c.last, wire.CodeNone)
			return 0, io.EOF
		case n > 0 || !wire.IsTimeout(err):
			return n, err
		}
	}
}

// bound sets the deadline of a read, or hands over what is to be read before it.
// The deadline is set with mu held, because inject sets it, too.
func (c *h2Conn) bound(boundary bool) error {
	limits := &c.p.settings.Limits
	until := c.since.Add(limits.HeadTimeout)
	if c.begun {
		until = wire.Lenient(time.Now(), limits.IdleTimeout)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if boundary && len(c.injected) > 0 {
		c.out, c.injected = c.injected, nil
		return errInjected
	}
	return c.Conn.SetReadDeadline(until)
}

// fill reads until there are n bytes to look at.
func (c *h2Conn) fill(n int, boundary bool) error {
	if len(c.buf)-c.from < n {
		into := c.buf
		if len(into) < n {
			into = make([]byte, max(n, h2Buffer))
		}
		c.from, c.to = 0, copy(into, c.buf[c.from:c.to])
		c.buf = into
	}
	for c.to-c.from < n {
		got, err := c.receive(c.buf[c.to:], boundary)
		c.to += got
		if got == 0 && err != nil {
			return err
		}
	}
	return nil
}

// frameSizes are those of the types that have one.
var frameSizes = map[byte]int{wire.FrameWindowUpdate: 4, wire.FrameReset: 4, wire.FramePriority: 5}

// nextFrame looks at the next frame. It is left to pass, or taken out.
func (c *h2Conn) nextFrame() error {
	if !c.begun {
		err := c.fill(len(wire.Preface), false)
		c.begun, c.through = true, len(wire.Preface)
		return err
	}
	if c.from == c.to {
		c.from, c.to = 0, 0
		if len(c.buf) > h2Buffer { // that was a large one
			c.buf = nil
		}
	}
	if err := c.fill(wire.FrameHeadSize, true); err != nil {
		return err
	}
	h := wire.ParseFrameHead(c.buf[c.from:])
	pass := true
	switch h.Type {
	case wire.FrameHeaders:
		return c.headers(h)
	case wire.FrameData:
		switch {
		case c.isUnended(h.Stream):
			return c.ownData(h)
		case c.isHidden(h.Stream): // it has ended on the client's side
			return c.refuse(wire.CodeStreamClosed)
		}
	case wire.FrameSettings, wire.FrameWindowUpdate, wire.FrameReset, wire.FramePriority:
		if h.Length > maxH2Control {
			return c.refuse(wire.CodeFrameSize)
		}
		if err := c.fill(wire.FrameHeadSize+h.Length, false); err != nil {
			return err
		}
		var err error
		if pass, err = c.control(h, c.buf[c.from+wire.FrameHeadSize:][:h.Length]); err != nil {
			return err
		}
	}
	if pass {
		c.through = wire.FrameHeadSize + h.Length
	} else {
		c.from += wire.FrameHeadSize + h.Length
	}
	return nil
}

// isHidden tells whether that is, or was, a stream that the inner server does not
// know of. It takes those beneath the last one that it knows for closed, anyway.
func (c *h2Conn) isHidden(stream uint32) bool {
	return c.has(stream) || c.passed < stream && stream <= c.last
}

// control takes note of a frame about the connection or a stream, and tells
// whether the inner server gets it, too. One of the wrong size ends the connection
// here, because it might be about a stream of the fast path; what else is wrong is
// for the inner server to say.
func (c *h2Conn) control(h wire.FrameHead, payload []byte) (pass bool, err error) {
	if size, ok := frameSizes[h.Type]; ok && size != len(payload) {
		return false, c.refuse(wire.CodeFrameSize)
	}
	switch h.Type {
	case wire.FrameSettings:
		if h.Flags&wire.FlagAck != 0 || h.Stream != 0 || len(payload)%settingSize != 0 {
			return true, nil
		}
		c.noteSettings(payload)
		c.out = c.withoutTable(h, payload)
		return false, nil
	case wire.FrameWindowUpdate:
		return c.windowUpdate(h, payload)
	case wire.FrameReset:
		return c.reset(h), nil
	default: // a priority
		return !c.isHidden(h.Stream), nil
	}
}

// windowUpdate is control for room that the client grants.
func (c *h2Conn) windowUpdate(h wire.FrameHead, payload []byte) (pass bool, err error) {
	n := int64(binary.BigEndian.Uint32(payload) & maxWindow)
	if h.Stream != 0 {
		return !c.grantStream(h.Stream, n) && !c.isHidden(h.Stream), nil
	}
	if n == 0 {
		return true, nil
	}
	forInner, ok := c.grant(n)
	if !ok {
		return false, c.refuse(wire.CodeFlowControl)
	}
	binary.BigEndian.PutUint32(payload, uint32(forInner))
	return forInner > 0, nil
}

// reset is control for a stream whose client wants no answer any more.
func (c *h2Conn) reset(h wire.FrameHead) (pass bool) {
	c.forgetUnended(h.Stream)
	c.answered(h.Stream)
	if c.abandon(h.Stream) || c.isHidden(h.Stream) {
		return false
	}
	dropped := c.unholdAll(h.Stream)
	if dropped == 0 {
		return true
	}
	frame := c.buf[c.from:][:wire.FrameHeadSize+h.Length]
	c.out = append(append(c.out[:0], frame...), windowUpdate(dropped)...)
	return false
}

// settingSize is how many bytes a setting has (RFC 9113, section 6.5.1).
const settingSize = 6

// noteSettings notes how large windows are at first. Where they become smaller,
// what the inner server believes to be sent may be too much, and is not sent.
func (c *h2Conn) noteSettings(payload []byte) {
	for ; len(payload) > 0; payload = payload[settingSize:] {
		if binary.BigEndian.Uint16(payload) != wire.SettingInitialWindowSize {
			continue
		}
		if c.setInitial(int64(binary.BigEndian.Uint32(payload[2:]))) {
			for c.endHeld() {
			}
		}
	}
}

// withoutTable is the client's settings for the inner server, which is to write
// header blocks that depend on no table: they are not alone on the connection, and
// one may be late, or not be sent at all. It is told so once, at the beginning,
// because net/http must not be told while it writes one.
func (c *h2Conn) withoutTable(h wire.FrameHead, payload []byte) []byte {
	frame := h.Append(nil)
	for ; len(payload) > 0; payload = payload[settingSize:] {
		if binary.BigEndian.Uint16(payload) != wire.SettingHeaderTableSize {
			frame = append(frame, payload[:settingSize]...)
		}
	}
	if !c.tableless {
		c.tableless = true
		frame = binary.BigEndian.AppendUint16(frame, wire.SettingHeaderTableSize)
		frame = binary.BigEndian.AppendUint32(frame, 0)
	}
	h.Length = len(frame) - wire.FrameHeadSize
	h.Put(frame)
	return frame
}

// refuse tells the client what is wrong with its connection, and ends it.
func (c *h2Conn) refuse(code wire.Code) error {
	c.awaitSettings()
	c.goAway(c.last, code)
	return errH2Malformed
}

// awaitSettings waits for those of the inner server, before which nothing may be
// sent.
func (c *h2Conn) awaitSettings() {
	select {
	case <-c.settled:
	case <-c.ctx.Done():
	}
}

// answered notes that the inner server has answered on a stream, or need not.
func (c *h2Conn) answered(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.others[id]; ok {
		delete(c.others, id)
		c.rested = time.Now()
	}
}

// idleFor is for how long there has been no stream.
func (c *h2Conn) idleFor() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy > 0 || len(c.others) > 0 {
		return 0
	}
	return time.Since(c.rested)
}

func (c *h2Conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// isFull tells whether there may be no more streams. It is called with mu held.
func (c *h2Conn) isFull() bool {
	return len(c.taken)+len(c.others) >= c.p.settings.Limits.Streams
}

// lessBusy notes that one goroutine less has something to send, and closes the
// connection if that waited for it.
func (c *h2Conn) lessBusy(note func()) {
	c.mu.Lock()
	c.busy--
	note()
	last := c.closed && c.busy == 0
	c.mu.Unlock()
	if last {
		_ = c.shut()
	}
}

// leave ends the streams of a client that has left.
func (c *h2Conn) leave() {
	c.end()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	for _, s := range c.taken {
		s.abandon(wire.CodeNone)
	}
}

// inject has the inner server read something that the client has not sent.
func (c *h2Conn) inject(frames []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.injected = append(c.injected, frames...)
	_ = c.Conn.SetReadDeadline(past)
}

// windowUpdate grants that much on the connection.
func windowUpdate(n int) []byte { return appendWindowUpdate(nil, 0, n) }

// appendWindowUpdate is that for a stream, or for the connection, which is 0.
func appendWindowUpdate(out []byte, stream uint32, n int) []byte {
	out = wire.FrameHead{Type: wire.FrameWindowUpdate, Length: 4, Stream: stream}.Append(out)
	return binary.BigEndian.AppendUint32(out, uint32(n))
}
