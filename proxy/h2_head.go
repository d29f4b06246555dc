package proxy

import (
	"bytes"
	"encoding/binary"
	"slices"

	"golang.org/x/net/http2/hpack"

	"attache/wire"
)

// h2Heads reads the client's header blocks, and writes them anew for the inner
// server.
type h2Heads struct {
	decoder *hpack.Decoder
	encoder *hpack.Encoder // nil until there is something to write
	block   *bytes.Buffer  // that it writes to
	fields  []hpack.HeaderField
	listed  int // their size, as section 6.5.2 of RFC 9113 counts it; beyond maxList, some are missing
	maxList int
}

// usualList is more fields than most requests have.
const usualList = 64

// usualFields is what net/http adds to a limit on heads: ten fields, and for each
// what HPACK counts besides its text.
const usualFields = 10 * 32

// init makes the decoder of a table as large as the inner server says that it is.
func (d *h2Heads) init(headBytes int) {
	d.maxList = headBytes + usualFields
	d.decoder = hpack.NewDecoder(wire.InitialTable, d.list)
	d.decoder.SetMaxStringLength(d.maxList)
}

// list keeps a field, as long as the fields are not too large together. The one
// that makes them so is kept, too: then the inner server says so.
func (d *h2Heads) list(f hpack.HeaderField) {
	if d.listed <= d.maxList {
		d.fields = append(d.fields, f)
		d.listed += int(f.Size())
	}
}

func (d *h2Heads) forgetFields() {
	d.listed = 0
	if len(d.fields) > usualList { // that was a large one
		d.fields = nil
		return
	}
	clear(d.fields) // so that they may be collected
	d.fields = d.fields[:0]
}

// headers reads a header block. It begins a stream of the fast path, or is written
// anew for the inner server. It is decoded whatever becomes of it: what the next
// one says depends on it.
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
	isNew := h.Stream > c.last && h.Stream&1 == 1
	switch {
	case c.isUnended(h.Stream):
		c.forgetUnended(h.Stream)
		c.trailers(h)
		return nil
	case c.isHidden(h.Stream):
		return c.refuse(wire.CodeStreamClosed)
	case isNew:
		c.last = h.Stream
		switch c.assign(h, priority) {
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

// fragment takes the next frame out of what was read. What it returns is good
// until more is read.
func (c *h2Conn) fragment(h wire.FrameHead) ([]byte, error) {
	if h.Length > 2*c.maxList {
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
		read += len(fragment) + 1 // or empty ones might go on for ever
		if read > 2*c.maxList {
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

// whose is who serves a stream.
type whose int

const (
	ofInnerServer whose = iota
	onFastPath
	ofNobody
)

// assign finds out who serves the stream of the fields that were read. One that
// depends on itself is for the inner server to refuse.
func (c *h2Conn) assign(h wire.FrameHead, priority []byte) whose {
	ofItself := priority != nil && binary.BigEndian.Uint32(priority)&maxWindow == h.Stream
	if !ofItself && c.take(h) {
		return onFastPath
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ending: // it is ignored
	case c.isFull():
		return ofNobody
	default:
		c.others[h.Stream] = struct{}{}
		c.top = h.Stream
	}
	return ofInnerServer
}

// refuseStream says no to one stream too many. What is on its way for it is
// dropped, unless that comes after very many others.
func (c *h2Conn) refuseStream(h wire.FrameHead) error {
	if h.Flags&wire.FlagEndStream == 0 {
		if len(c.refused) >= c.p.settings.Limits.Streams {
			c.refused = slices.Delete(c.refused, 0, 1)
		}
		c.refused = append(c.refused, h.Stream)
	}
	c.awaitSettings()
	_, _ = c.Conn.Write(wire.AppendReset(nil, h.Stream, wire.CodeRefused))
	return nil
}

// rewrite makes a header block of the fields for the inner server.
func (c *h2Conn) rewrite(h wire.FrameHead, priority []byte) {
	if c.encoder == nil || c.block.Cap() > h2Buffer {
		c.block = new(bytes.Buffer)
		c.encoder = hpack.NewEncoder(c.block)
		c.encoder.SetMaxDynamicTableSize(0)
	}
	c.block.Reset()
	c.block.Write(make([]byte, wire.FrameHeadSize))
	c.block.Write(priority)
	for _, f := range c.fields {
		_ = c.encoder.WriteField(f) // to memory
	}
	flags := h.Flags & (wire.FlagEndStream | wire.FlagPriority)
	c.out = wire.SealHeaders(c.block.Bytes(), 0, h.Stream, flags)
}
