package wire

import "bytes"

// What bounds the trailer section of a body, each size line, and the size in it.
const (
	maxTrailer  = 16 << 10
	maxSizeLine = 256
	maxDigits   = 16
)

// Chunks decodes a chunked body (RFC 9112, section 7.1), however it is cut into
// pieces. Its zero value is ready for the first byte.
type Chunks struct {
	Trailer []byte // the lines of the trailer section, once done; its fields are not checked

	part part
	left uint64 // of the chunk's data
	line int    // bytes of the size line so far
	Done bool   // the last byte of the body was there
}

// part is where in the body the next byte is.
type part int

const (
	inSize part = iota
	inPadding
	inExtension
	atSizeLF
	inData
	atDataCR
	atDataLF
	inTrailer
)

// Decode takes the framing out of b in place. The data are b[:n]; b[used:] is
// left over once c is Done, and nothing before. The error is [ErrMalformed].
func (c *Chunks) Decode(b []byte) (n, used int, err error) {
	for used < len(b) && !c.Done {
		data, size, ok := c.piece(b[used:])
		n += copy(b[n:], b[used:used+data])
		if used += size; !ok {
			return n, used, ErrMalformed
		}
	}
	return n, used, nil
}

// Skip goes past what b has of the body, as Decode does, and leaves it as it is.
func (c *Chunks) Skip(b []byte) (used int, err error) {
	for used < len(b) && !c.Done {
		_, size, ok := c.piece(b[used:])
		if used += size; !ok {
			return used, ErrMalformed
		}
	}
	return used, nil
}

// piece takes what is of one kind at the beginning of b, which is not empty: used
// bytes, all of them data or none.
func (c *Chunks) piece(b []byte) (data, used int, ok bool) {
	switch c.part {
	case inData:
		size := int(min(c.left, uint64(len(b))))
		if c.left -= uint64(size); c.left == 0 {
			c.part = atDataCR
		}
		return size, size, true
	case inTrailer:
		used, ok = c.trailer(b)
		return 0, used, ok
	}
	if !c.framing(b[0]) {
		return 0, 0, false
	}
	return 0, 1, true
}

// framing takes one byte of what is around the data. A chunk's extension is
// read and dropped.
func (c *Chunks) framing(b byte) bool {
	switch c.part {
	case inSize:
		c.line++
		switch {
		case classes[b]&isHex != 0:
			c.left = c.left<<4 | uint64(unhex(b))
			return c.line <= maxDigits
		case c.line == 1:
			return false
		case b == '\r':
			c.part = atSizeLF
		case b == ' ' || b == '\t': // some servers pad the size
			c.part = inPadding
		default:
			c.part = inExtension
			return b == ';'
		}
		return true
	case inPadding:
		c.line++
		if b == '\r' {
			c.part = atSizeLF
			return true
		}
		return (b == ' ' || b == '\t') && c.line <= maxSizeLine
	case inExtension:
		c.line++
		if b == '\r' {
			c.part = atSizeLF
			return true
		}
		return classes[b]&isText != 0 && c.line <= maxSizeLine
	case atSizeLF:
		c.part, c.line = inData, 0
		if c.left == 0 {
			c.part = inTrailer
		}
		return b == '\n'
	case atDataCR:
		c.part = atDataLF
		return b == '\r'
	default: // atDataLF
		c.part = inSize
		return b == '\n'
	}
}

// trailer takes what b has of the trailer section: lines, and then an empty one.
func (c *Chunks) trailer(b []byte) (used int, ok bool) {
	for used < len(b) {
		end := bytes.IndexByte(b[used:], '\n') + 1
		if end == 0 {
			end = len(b) - used
		}
		c.Trailer = append(c.Trailer, b[used:used+end]...)
		used += end
		if len(c.Trailer) > maxTrailer {
			return used, false
		}
		switch lines := c.Trailer; {
		case lines[len(lines)-1] != '\n': // more of the line is to come
		case !bytes.HasSuffix(lines, crlf):
			return used, false
		case len(lines) == 2 || bytes.HasSuffix(lines, endOfHead):
			c.Trailer, c.Done = lines[:len(lines)-2], true
			return used, true
		}
	}
	return used, true
}

func unhex(b byte) byte {
	if b <= '9' {
		return b - '0'
	}
	return b | 0x20 - 'a' + 10
}

// TrailerFields parses the trailer section after the body; where it is not plain
// there are none.
func (c *Chunks) TrailerFields() []Field {
	var fields []Field
	for lines := c.Trailer; len(lines) > 0; {
		var f Field
		var ok bool
		if f, lines, ok = nextField(lines); !ok || len(fields) == maxFields {
			return nil
		}
		fields = append(fields, f)
	}
	return fields
}
