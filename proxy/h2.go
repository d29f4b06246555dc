package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"

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
// see [h2Room].
//
// The inner server reads and writes as with any connection; Read is called by one
// goroutine at a time.
type h2Conn struct {
	net.Conn // of the client, decrypted
	p        *Proxy
	t        *tunnel
	ctx      context.Context // ends with the connection
	end      context.CancelFunc

	reading  sync.Mutex // guards what follows
	begun    bool       // the client's preface was passed on
	buf      []byte     // what was read and not looked at: from..to
	from, to int
	through  int    // bytes of it, or of what follows, that pass as they are
	out      []byte // what passes before that
	decoder  *hpack.Decoder
	encoder  *hpack.Encoder // for the inner server; nil until there is something to write
	block    bytes.Buffer   // that it writes to
	fields   []hpack.HeaderField
	listed   int             // size of fields, as section 6.5.2 counts it; beyond the limit, some are missing
	last     uint32          // the last stream that the client has begun
	passed   uint32          // the last one that the inner server was told of
	table    uint32          // of the client's decoder
	refused  map[uint32]bool // streams that were, and whose data may follow
	skip     int             // bytes that follow and are not for anybody
	since    time.Time       // when the connection began

	first   sync.Once
	opened  chan struct{} // closed when the inner server has sent its settings, which come first
	writing sync.Mutex    // guards partial, and the order of what the inner server sends
	partial []byte        // what it sent of a frame, or of a header block, that is not complete

	h2Room                        // its mu guards what follows, too
	taken    map[uint32]*h2Stream // streams of the fast path whose client waits for an answer
	others   map[uint32]struct{}  // streams of the inner server that have not been answered
	idle     []*h2Stream          // to be used again
	top      uint32               // the last stream that was taken
	busy     int                  // goroutines that have something to send
	flushing bool                 // one of them sends what is held
	rested   time.Time            // when the last stream ended
	injected []byte               // frames for the inner server that are not the client's
	asked    int                  // settings of the client
	acked    int                  // of which the inner server has taken note
	shrinks  int                  // which of them made the client's table smaller; 0: none
	small    bool                 // and from then on nobody uses it
	gone     bool                 // the client is
	ending   bool                 // the client was told that there are to be no more streams
	closed   bool                 // the inner server has ended the connection
}

// The bounds of what is read into memory.
const (
	h2Buffer     = 4 << 10 // at first
	maxH2Control = 4 << 10 // a frame about the connection
)

var (
	errH2Malformed = errors.New("the client's HTTP/2 is malformed")
	// errInjected: there is something to read that the client has not sent.
	errInjected = errors.New("the inner server is to be told something")
	// errH2Stuck: the client did not take what it had asked for.
	errH2Stuck = errors.New("the client grants no room for the answer")
)

func (p *Proxy) newH2(t *tunnel, conn net.Conn) *h2Conn {
	now := time.Now()
	c := &h2Conn{
		Conn:   conn,
		p:      p,
		t:      t,
		table:  wire.InitialTable,
		since:  now,
		rested: now,
		opened: make(chan struct{}),
		h2Room: newH2Room(),
		taken:  make(map[uint32]*h2Stream),
		others: make(map[uint32]struct{}),
	}
	c.ctx, c.end = context.WithCancel(p.base)
	c.decoder = hpack.NewDecoder(c.table, c.list)
	c.decoder.SetMaxStringLength(c.maxList())
	return c
}

// maxList is what net/http makes of a limit on heads.
func (c *h2Conn) maxList() int { return c.p.settings.Limits.HeadBytes + 320 }

// list keeps a field, as long as the fields are not too large together. The one
// that makes them so is kept, too: then the inner server says so.
func (c *h2Conn) list(f hpack.HeaderField) {
	if c.listed <= c.maxList() {
		c.fields = append(c.fields, f)
		c.listed += int(f.Size())
	}
}

// Read implements [net.Conn] for the inner server.
func (c *h2Conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	for {
		n, err := 0, error(nil)
		switch {
		case len(c.out) > 0:
			n = copy(p, c.out)
			c.out = c.out[n:]
		case c.through > 0:
			n, err = c.raw(p[:min(len(p), c.through)])
			c.through -= n
		case c.skip > 0:
			var skipped int
			skipped, err = c.raw(p[:min(len(p), c.skip)])
			c.skip -= skipped
		default:
			err = c.next()
		}
		switch {
		case err == errInjected:
		case err != nil:
			c.leave()
			return n, err
		case n > 0 && !c.isClosed():
			return n, nil
		}
	}
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
// told that this is the end. At the boundary of a frame it may be interrupted by
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

// next looks at the next frame. It is left to pass, or taken out.
func (c *h2Conn) next() error {
	if !c.begun {
		err := c.fill(len(wire.Preface), false)
		c.begun, c.through = true, len(wire.Preface)
		return err
	}
	if c.from == c.to {
		c.from, c.to = 0, 0
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
		if c.has(h.Stream) { // which has ended on the client's side
			return c.refuse(wire.CodeStreamClosed)
		}
		if c.isOver(h.Stream) {
			return c.skipData(h)
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

// skipData drops the body of a request that was refused.
func (c *h2Conn) skipData(h wire.FrameHead) error {
	if !c.refused[h.Stream] {
		return c.refuse(wire.CodeStreamClosed)
	}
	if h.Flags&wire.FlagEndStream != 0 {
		delete(c.refused, h.Stream)
	}
	c.from += wire.FrameHeadSize
	c.skip = h.Length
	_, _ = c.Conn.Write(windowUpdate(h.Length))
	return nil
}

// sizes are those of frames that have one.
var sizes = map[byte]int{wire.FrameWindowUpdate: 4, wire.FrameReset: 4, wire.FramePriority: 5}

// control takes note of a frame about the connection or a stream, and tells
// whether the inner server gets it, too. What is malformed it gets, to say so.
func (c *h2Conn) control(h wire.FrameHead, payload []byte) (pass bool, err error) {
	switch size, ok := sizes[h.Type]; {
	case ok && size != len(payload):
		return false, c.refuse(wire.CodeFrameSize)
	case h.Type == wire.FrameSettings:
		if h.Flags&wire.FlagAck == 0 {
			c.settings(payload)
		}
		return true, nil
	case h.Type == wire.FrameWindowUpdate:
		n := int64(binary.BigEndian.Uint32(payload) & maxWindow)
		if h.Stream != 0 {
			return !c.grantStream(h.Stream, n) && !c.isOver(h.Stream), nil
		}
		if n == 0 {
			return true, nil
		}
		n, ok := c.grant(n)
		if !ok {
			return false, c.refuse(wire.CodeFlowControl)
		}
		binary.BigEndian.PutUint32(payload, uint32(n))
		return n > 0, nil
	case h.Type == wire.FrameReset:
		delete(c.refused, h.Stream)
		c.over(h.Stream)
		if c.abandon(h.Stream) || c.isOver(h.Stream) {
			return false, nil
		}
		dropped := c.unholdAll(h.Stream)
		if dropped == 0 {
			return true, nil
		}
		c.out = append(append(c.out[:0], c.buf[c.from:][:wire.FrameHeadSize+h.Length]...), windowUpdate(dropped)...)
		return false, nil
	}
	return !c.has(h.Stream) && !c.isOver(h.Stream), nil
}

// isOver tells whether that was a stream of the fast path, or one that was refused.
// The inner server takes those beneath the last one that it knows for closed, too.
func (c *h2Conn) isOver(stream uint32) bool { return c.passed < stream && stream <= c.last }

// The settings that concern the fast path (RFC 9113, section 6.5.2).
func (c *h2Conn) settings(payload []byte) {
	c.mu.Lock()
	c.asked++
	c.mu.Unlock()
	for ; len(payload) >= 6; payload = payload[6:] {
		value := binary.BigEndian.Uint32(payload[2:])
		switch binary.BigEndian.Uint16(payload) {
		case wire.SettingHeaderTableSize:
			if c.shrink(value) {
				binary.BigEndian.PutUint32(payload[2:], 0)
			}
		case wire.SettingInitialWindowSize:
			c.setInitial(int64(value))
		}
	}
}

// shrink notes the size of the client's table. Where it became smaller, the next
// header block has to say so (RFC 7541, section 4.2), whoever writes it: from the
// moment that the inner server acknowledges that, there is none for anybody.
func (c *h2Conn) shrink(size uint32) (none bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if size < c.table && c.shrinks == 0 {
		c.shrinks = c.asked
	}
	c.table = size
	return c.shrinks > 0
}

// acknowledged: the inner server follows the client's settings.
func (c *h2Conn) acknowledged() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acked++
	c.small = c.shrinks > 0 && c.acked >= c.shrinks
}

// isSettling tells whether the client's table is between two sizes.
func (c *h2Conn) isSettling() bool { return c.shrinks > 0 && !c.small }

// headers reads a header block. It begins a stream of the fast path, or is written
// anew for the inner server.
func (c *h2Conn) headers(h wire.FrameHead) error {
	fragment, err := c.fragment(h)
	if err != nil {
		return err
	}
	var priority []byte
	if h.Flags&wire.FlagPadded != 0 {
		if len(fragment) == 0 || int(fragment[0]) > len(fragment)-1 {
			return c.refuse(wire.CodeProtocol)
		}
		fragment = fragment[1 : len(fragment)-int(fragment[0])]
	}
	if h.Flags&wire.FlagPriority != 0 {
		if len(fragment) < 5 {
			return c.refuse(wire.CodeFrameSize)
		}
		priority, fragment = bytes.Clone(fragment[:5]), fragment[5:]
	}
	err = c.decode(h, fragment)
	defer c.forgetFields()
	if err != nil {
		return err
	}
	if c.has(h.Stream) || c.isOver(h.Stream) {
		return c.refuse(wire.CodeStreamClosed)
	}
	if h.Stream > c.last && h.Stream&1 == 1 {
		c.last = h.Stream
		switch c.begin(h, priority) {
		case onFastPath:
			return nil
		case ofNobody:
			return c.refuseStream(h)
		}
		c.passed = h.Stream
	}
	c.rewrite(h, priority)
	return nil
}

// whose is who serves a stream.
type whose int

const (
	ofInnerServer whose = iota
	onFastPath
	ofNobody
)

// begin finds out who serves the stream of the fields that were read. One that
// depends on itself is for the inner server to refuse.
func (c *h2Conn) begin(h wire.FrameHead, priority []byte) whose {
	ofItself := priority != nil && binary.BigEndian.Uint32(priority)&maxWindow == h.Stream
	if h.Flags&wire.FlagEndStream != 0 && !ofItself && c.take(h.Stream) {
		return onFastPath
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.taken)+len(c.others) >= c.p.settings.Limits.Streams && !c.ending {
		return ofNobody
	}
	c.others[h.Stream] = struct{}{}
	return ofInnerServer
}

// refuseStream says no to one stream too many.
func (c *h2Conn) refuseStream(h wire.FrameHead) error {
	if len(c.refused) >= c.p.settings.Limits.Streams {
		return c.refuse(wire.CodeEnhanceYourCalm)
	}
	if h.Flags&wire.FlagEndStream == 0 {
		if c.refused == nil {
			c.refused = make(map[uint32]bool)
		}
		c.refused[h.Stream] = true
	}
	_, _ = c.Conn.Write(wire.AppendReset(nil, h.Stream, wire.CodeRefused))
	return nil
}

// fragment takes the next frame out of what was read. What it returns is good
// until more is read.
func (c *h2Conn) fragment(h wire.FrameHead) ([]byte, error) {
	if h.Length > 2*c.maxList() {
		return nil, c.refuse(wire.CodeEnhanceYourCalm)
	}
	if err := c.fill(wire.FrameHeadSize+h.Length, false); err != nil {
		return nil, err
	}
	payload := c.buf[c.from+wire.FrameHeadSize:][:h.Length]
	c.from += wire.FrameHeadSize + h.Length
	return payload, nil
}

// decode reads the fields of a header block, of which that is the first fragment.
func (c *h2Conn) decode(h wire.FrameHead, fragment []byte) error {
	read := 0
	for {
		if read += len(fragment) + 1; read > 2*c.maxList() {
			return c.refuse(wire.CodeEnhanceYourCalm)
		}
		if _, err := c.decoder.Write(fragment); err != nil {
			return c.refuse(wire.CodeCompression)
		}
		if h.Flags&wire.FlagEndHeaders != 0 {
			break
		}
		if err := c.fill(wire.FrameHeadSize, false); err != nil {
			return err
		}
		more := wire.ParseFrameHead(c.buf[c.from:])
		if more.Type != wire.FrameContinuation || more.Stream != h.Stream {
			return c.refuse(wire.CodeProtocol)
		}
		var err error
		if fragment, err = c.fragment(more); err != nil {
			return err
		}
		h.Flags = more.Flags
	}
	if c.decoder.Close() != nil {
		return c.refuse(wire.CodeCompression)
	}
	return nil
}

func (c *h2Conn) forgetFields() {
	clear(c.fields) // they may hold what the client keeps secret
	c.fields, c.listed = c.fields[:0], 0
}

// rewrite makes a header block of the fields for the inner server.
func (c *h2Conn) rewrite(h wire.FrameHead, priority []byte) {
	c.block.Reset()
	c.block.Write(make([]byte, wire.FrameHeadSize))
	if c.encoder == nil {
		c.encoder = hpack.NewEncoder(&c.block)
		c.encoder.SetMaxDynamicTableSize(0)
	}
	c.block.Write(priority)
	for _, f := range c.fields {
		_ = c.encoder.WriteField(f) // to memory
	}
	flags := h.Flags & (wire.FlagEndStream | wire.FlagPriority)
	c.out = wire.SealHeaders(c.block.Bytes(), 0, h.Stream, flags)
}

// refuse tells the client what is wrong with its connection, and ends it.
func (c *h2Conn) refuse(code wire.Code) error {
	c.goAway(c.last, code)
	return errH2Malformed
}

// has tells whether a stream is one of the fast path, and its client waits.
func (c *h2Conn) has(id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taken[id] != nil
}

// grantStream adds to the room of a stream, if it is one of the fast path. One that
// is granted nothing, or more than there can be, is ended.
func (c *h2Conn) grantStream(id uint32, n int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.taken[id]
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

// abandon ends a stream whose client wants no answer any more, if it is one of the
// fast path.
func (c *h2Conn) abandon(id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.taken[id]
	if s != nil {
		s.abandon(wire.CodeNone)
	}
	return s != nil
}

// over notes that the inner server has answered on a stream, or need not.
func (c *h2Conn) over(id uint32) {
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
