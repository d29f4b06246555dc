// Package wire holds the parts of the fast path: strict HTTP/1.1 heads
// (RFC 9112), bodies, and a pool of upstream connections that needs no
// goroutine for any of them; and of HTTP/2 (RFC 9113) what it takes to stand between
// two who speak it: frames, and header blocks that depend on no table (RFC 7541).
//
// It is strict so that it need not be clever. A head that every server reads
// alike is parsed in place; of any other it says [ErrOdd], and whoever asked
// gives it, unread, to net/http. It knows no policy and no secrets.
package wire

import "errors"

// What a parser says of bytes that are no plain head.
var (
	// ErrIncomplete: the head has not ended; come again with more.
	ErrIncomplete = errors.New("the head is not complete")
	// ErrOdd: it is not plain. It may be correct, but is not for this package.
	ErrOdd = errors.New("the head is not plain")
	// ErrLong: it is longer than the buffer.
	ErrLong = errors.New("the head is longer than the buffer")
	// ErrMalformed: a body is not what its framing promised.
	ErrMalformed = errors.New("the body is malformed")
)

// Field is one field line of a head. Its slices are pieces of the buffer that
// was parsed, and end with it.
type Field struct {
	Name  []byte
	Value []byte // without white space around it
	Line  []byte // the whole line with its CRLF
}

// Is reports whether the field has that name, which is given in lower case.
func (f *Field) Is(lower string) bool { return equalFold(f.Name, lower) }

// HasPrefix is Is for the beginning of the name.
func (f *Field) HasPrefix(lower string) bool {
	return len(f.Name) >= len(lower) && equalFold(f.Name[:len(lower)], lower)
}

var (
	crlf      = []byte("\r\n")
	endOfHead = []byte("\r\n\r\n")
)

// maxFields is how many fields a plain head has at most.
const maxFields = 128

// equalFold compares without regard to the case of ASCII letters.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// What bytes may be, as bits.
const (
	isToken  = 1 << iota // of a field name or a method (RFC 9110, section 5.6.2)
	isText               // of a field value or a reason phrase
	isTarget             // of a path or query that needs no second look
	isHex
)

var classes = func() (table [256]byte) {
	for c := range 256 {
		b := byte(c)
		digit, lower := '0' <= b && b <= '9', 'a' <= b|0x20 && b|0x20 <= 'z'
		if digit || lower {
			table[b] |= isToken
		}
		if digit || 'a' <= b|0x20 && b|0x20 <= 'f' {
			table[b] |= isHex
		}
		if b >= ' ' && b != 0x7f || b == '\t' {
			table[b] |= isText
		}
		if b > ' ' && b < 0x7f {
			table[b] |= isTarget
		}
	}
	for _, b := range []byte("!#$%&'*+-.^_`|~") {
		table[b] |= isToken
	}
	for _, b := range []byte(`#"<>\^{|}` + "`") {
		table[b] &^= isTarget // net/url and servers differ about them
	}
	return table
}()

func all(b []byte, class byte) bool {
	for _, c := range b {
		if classes[c]&class == 0 {
			return false
		}
	}
	return true
}
