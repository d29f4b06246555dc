package wire

import (
	"bytes"
	"io"
	"net"
)

// Conn is an upstream connection out of a [Pool]. It is for one exchange at a
// time, and for one goroutine, but that any may close it or set its deadlines.
type Conn struct {
	net.Conn
	Reused bool // it has had an exchange before

	gate      *gate
	heard     bool    // something of this exchange's answer has come
	dry       bool    // the last read got all that the layer above the gate had made out
	asking    *asking // nil: there is no way to look
	ahead     [1]byte
	buf       []byte // lent for the exchange
	from, to  int    // what of buf was read and not used
	authority string
	idleSince int   // a tick of the pool
	before    *Conn // in the pool's order of idleness
	after     *Conn
}

// Ask writes a request, for which c has been lent a buffer. After [ErrStale] and
// [ErrLate], which only a c can give that has been used before, nothing was written.
// Without an error, such a c may have waited for the answer to begin, until the deadline
// of reads, which the caller has set.
func (c *Conn) Ask(request []byte) error {
	if c.Reused && c.holds() {
		return ErrStale
	}
	if !c.Reused || c.asking == nil {
		_, err := c.Write(request)
		return err
	}
	return c.asking.write(request)
}

// Read implements [net.Conn]. What comes together with a deadline's error is given
// without it, since who gets that error waits on: crypto/tls says both at once where
// half an alert follows the data.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.dry = n < len(p)
	if n > 0 && err != nil && IsTimeout(err) {
		err = nil
	}
	return n, err
}

// holds reports whether something came together with the last answer.
func (c *Conn) holds() bool {
	if c.dry && c.gate.drained() {
		return false
	}
	_, err := c.readHeld(c.ahead[:])
	return err != errShut
}

// held reads what the layer above the gate has made out and not given yet, which is
// there where a buffer was too small for it.
func (c *Conn) held(p []byte) int {
	if c.dry || len(p) == 0 {
		return 0
	}
	n, _ := c.readHeld(p) // an error will come again
	return n
}

// readHeld reads what the layer above the gate holds; [errShut] where that is nothing.
func (c *Conn) readHeld(p []byte) (int, error) {
	c.gate.shut = true
	n, err := c.Read(p)
	c.gate.shut = false
	return n, err
}

// Lend gives c a buffer to read into, for the exchange that begins, or a larger one. All
// heads of the answer must fit in, those before the final one included. The buffer is
// c's until it is put back or discarded.
func (c *Conn) Lend(buf []byte) {
	c.from, c.to = 0, copy(buf, c.buf[c.from:c.to])
	c.buf = buf
}

// Untouched reports whether nothing of an answer was received in this exchange.
func (c *Conn) Untouched() bool { return !c.heard }

// ReadHead reads the head of an answer into r, which is good until the body is
// read. After an error that was a deadline's it may be called again, and after
// [ErrLong] with a larger buffer. After that or the parser's [ErrOdd], [Conn.Unread]
// has it all.
func (c *Conn) ReadHead(r *Response) error {
	for {
		if c.to > c.from {
			n, err := r.Parse(c.buf[c.from:c.to])
			if err == nil {
				c.from += n
				return nil
			}
			if err != ErrIncomplete {
				return ErrOdd
			}
		}
		if c.to == len(c.buf) {
			return ErrLong
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

func (c *Conn) fill() error {
	n, err := c.Read(c.buf[c.to:])
	c.to += n
	if n > 0 {
		c.heard = true
		return nil
	}
	if err == io.EOF && c.to > c.from {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Buffered is what was received and not used.
func (c *Conn) Buffered() []byte { return c.buf[c.from:c.to] }

// Unread is a reader of what was received and not used, and of all that follows.
func (c *Conn) Unread() io.Reader {
	return io.MultiReader(bytes.NewReader(c.Buffered()), c.Conn)
}

// Body reads the body of an answer. Its zero value is to be begun.
type Body struct {
	conn    *Conn
	left    int64 // of a body whose length is known
	sized   bool
	chunked bool
	chunks  Chunks
	ended   bool
}

// Begin makes b the body that follows r, the head that was last read from c, in
// the answer to a request with that method.
func (b *Body) Begin(c *Conn, r *Response, method []byte) {
	*b = Body{conn: c}
	switch {
	case !r.HasBody(method):
		b.sized, b.ended = true, true
	case r.Chunked:
		b.chunked = true
	default:
		b.left, b.sized = r.Length, r.Length >= 0
	}
}

// Ended reports whether the body has been read to its proper end.
func (b *Body) Ended() bool { return b.ended }

// Left is how many bytes are to come; negative where that is not known.
func (b *Body) Left() int64 {
	if !b.sized {
		return -1
	}
	return b.left
}

// InStep reports whether the connection is where another answer may begin.
func (b *Body) InStep() bool {
	return b.ended && (b.sized || b.chunked) && b.conn.from == b.conn.to
}

// Trailer is what followed a body in chunks that has ended.
func (b *Body) Trailer() []Field {
	return b.chunks.TrailerFields()
}

// Read implements [io.Reader]. The last piece comes together with [io.EOF]; a body
// that breaks off ends with another error. It reads at most once from the
// connection for each piece, but for framing that comes alone.
func (b *Body) Read(p []byte) (int, error) {
	for {
		if b.ended {
			return 0, io.EOF
		}
		n, err := b.raw(p)
		if !b.chunked {
			return b.counted(n, err)
		}
		if n > 0 {
			if n, err = b.decode(p[:n]); n > 0 || err != nil {
				return n, err
			}
			continue
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
}

// raw reads bytes of the connection, those first that came with the head.
func (b *Body) raw(p []byte) (int, error) {
	if b.sized && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	c := b.conn
	if c.from < c.to {
		n := copy(p, c.buf[c.from:c.to])
		c.from += n
		return n + c.held(p[n:]), nil
	}
	return c.Read(p)
}

func (b *Body) counted(n int, err error) (int, error) {
	if !b.sized {
		b.ended = err == io.EOF
		return n, err
	}
	if b.left -= int64(n); b.left == 0 {
		b.ended = true
		return n, io.EOF
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// decode takes the data out of p. What is left over after the end means that the
// connection is out of step, and is put back only to be seen.
func (b *Body) decode(p []byte) (int, error) {
	n, used, err := b.chunks.Decode(p)
	if err != nil {
		return n, err
	}
	if !b.chunks.Done {
		return n, nil
	}
	b.ended = true
	if used < len(p) {
		b.conn.from, b.conn.to = 0, copy(b.conn.buf, p[used:])
	}
	return n, io.EOF
}
