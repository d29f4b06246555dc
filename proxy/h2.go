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
// see h2Window.
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
	listed   int    // size of fields, as section 6.5.2 counts it; beyond the limit, some are missing
	last     uint32 // the last stream that the client has begun
	passed   uint32 // the last one that the inner server was told of
	table    uint32 // of the client's decoder
	shrunk   bool   // the client's decoder waits for the inner server to say that its table is smaller

	h2Sending
}

// The bounds of what is read into memory.
const (
	h2Buffer     = 4 << 10 // at first
	maxH2Control = 4 << 10 // a frame about the connection
)

var (
	errH2Malformed = errors.New("the client's HTTP/2 is malformed")
	// errH2Stuck: the client did not take what it had asked for.
	errH2Stuck = errors.New("the client grants no room for the answer")
)

func (p *Proxy) newH2(t *tunnel, conn net.Conn) *h2Conn {
	c := &h2Conn{Conn: conn, p: p, t: t, table: wire.InitialTable}
	c.ctx, c.end = context.WithCancel(p.base)
	c.decoder = hpack.NewDecoder(c.table, c.list)
	c.decoder.SetMaxStringLength(c.maxList())
	c.h2Sending.init()
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
		default:
			err = c.next()
		}
		if err != nil {
			c.leave()
			return n, err
		}
		if n > 0 && !c.isClosed() {
			return n, nil
		}
	}
}

// raw reads what was read before, or else from the client.
func (c *h2Conn) raw(p []byte) (int, error) {
	if c.from == c.to {
		return c.receive(p)
	}
	n := copy(p, c.buf[c.from:c.to])
	c.from += n
	return n, nil
}

// receive reads from the client. One that has no request under way for too long is
// told that this is the end.
func (c *h2Conn) receive(p []byte) (int, error) {
	limits := &c.p.settings.Limits
	for {
		until := wire.Lenient(time.Now(), limits.IdleTimeout)
		if !c.begun {
			until = time.Now().Add(limits.HeadTimeout)
		}
		_ = c.Conn.SetReadDeadline(until)
		n, err := c.Conn.Read(p)
		if n > 0 || !wire.IsTimeout(err) || !c.begun {
			return n, err
		}
		if c.idleFor() >= limits.IdleTimeout {
			c.goAway(wire.CodeNone)
			return 0, io.EOF
		}
	}
}

// fill reads until there are n bytes to look at.
func (c *h2Conn) fill(n int) error {
	if len(c.buf)-c.from < n {
		into := c.buf
		if len(into) < n {
			into = make([]byte, max(n, h2Buffer))
		}
		c.from, c.to = 0, copy(into, c.buf[c.from:c.to])
		c.buf = into
	}
	for c.to-c.from < n {
		got, err := c.receive(c.buf[c.to:])
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
		err := c.fill(len(wire.Preface))
		c.begun, c.through = true, len(wire.Preface)
		return err
	}
	if c.from == c.to {
		c.from, c.to = 0, 0
	}
	if err := c.fill(wire.FrameHeadSize); err != nil {
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
	case wire.FrameSettings, wire.FrameWindowUpdate, wire.FrameReset, wire.FramePriority:
		if h.Length > maxH2Control {
			return c.refuse(wire.CodeFrameSize)
		}
		if err := c.fill(wire.FrameHeadSize + h.Length); err != nil {
			return err
		}
		pass = c.control(h, c.buf[c.from+wire.FrameHeadSize:][:h.Length])
	}
	if pass {
		c.through = wire.FrameHeadSize + h.Length
	} else {
		c.from += wire.FrameHeadSize + h.Length
	}
	return nil
}

// control takes note of a frame about the connection or a stream, and tells
// whether the inner server gets it, too. What is malformed it gets, to say so.
func (c *h2Conn) control(h wire.FrameHead, payload []byte) (pass bool) {
	switch {
	case h.Type == wire.FrameSettings:
		if h.Flags&wire.FlagAck == 0 {
			c.settings(payload)
		}
		return true
	case h.Type == wire.FrameWindowUpdate && len(payload) == 4:
		n := int64(binary.BigEndian.Uint32(payload) & (1<<31 - 1))
		if h.Stream != 0 {
			return !c.grantStream(h.Stream, n) && !c.isOver(h.Stream)
		}
		if n == 0 {
			return true
		}
		n = c.grant(n)
		binary.BigEndian.PutUint32(payload, uint32(n))
		return n > 0
	case h.Type == wire.FrameReset && len(payload) == 4:
		return !c.reset(h.Stream) && !c.isOver(h.Stream)
	}
	return !c.has(h.Stream) && !c.isOver(h.Stream)
}

// isOver tells whether that was a stream of the fast path. The inner server takes
// those beneath the last one that it knows for closed, too.
func (c *h2Conn) isOver(stream uint32) bool { return c.passed < stream && stream <= c.last }

// The settings that concern the fast path (RFC 9113, section 6.5.2).
func (c *h2Conn) settings(payload []byte) {
	for ; len(payload) >= 6; payload = payload[6:] {
		value := binary.BigEndian.Uint32(payload[2:])
		switch binary.BigEndian.Uint16(payload) {
		case wire.SettingHeaderTableSize:
			// The next header block has to say so (RFC 7541, section 4.2), and that may be
			// one of ours, which does not.
			c.shrunk = c.shrunk || value < c.table
			c.table = value
		case wire.SettingInitialWindowSize:
			c.setInitial(int64(value))
		}
	}
}

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
		if h.Flags&wire.FlagEndStream != 0 && c.take(h.Stream) {
			return nil
		}
		c.passed = h.Stream
		c.open(h.Stream)
	}
	c.rewrite(h, priority)
	return nil
}

// fragment takes the next frame out of what was read. What it returns is good
// until more is read.
func (c *h2Conn) fragment(h wire.FrameHead) ([]byte, error) {
	if h.Length > 2*c.maxList() {
		return nil, c.refuse(wire.CodeEnhanceYourCalm)
	}
	if err := c.fill(wire.FrameHeadSize + h.Length); err != nil {
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
		if err := c.fill(wire.FrameHeadSize); err != nil {
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
	c.goAway(code)
	return errH2Malformed
}

// goAway says that no more streams are served (RFC 9113, section 6.8).
func (c *h2Conn) goAway(code wire.Code) {
	_, _ = c.Conn.Write(wire.AppendGoAway(nil, c.last, code))
}

// SetReadDeadline implements [net.Conn]. When to give up is decided here.
func (c *h2Conn) SetReadDeadline(time.Time) error { return nil }

// SetDeadline implements [net.Conn].
func (c *h2Conn) SetDeadline(time.Time) error { return nil }

// SetWriteDeadline implements [net.Conn]. Sockets have their own.
func (c *h2Conn) SetWriteDeadline(time.Time) error { return nil }
