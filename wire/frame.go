package wire

import (
	"bytes"
	"encoding/binary"
	"strconv"
)

// FrameHead is what each frame of HTTP/2 begins with (RFC 9113, section 4.1).
type FrameHead struct {
	Length int // of what follows
	Type   byte
	Flags  byte
	Stream uint32 // 0: the connection
}

// FrameHeadSize is how many bytes a FrameHead has.
const FrameHeadSize = 9

// The types of frames that have a name here (RFC 9113, section 6).
const (
	FrameData         = 0x0
	FrameHeaders      = 0x1
	FramePriority     = 0x2
	FrameReset        = 0x3
	FrameSettings     = 0x4
	FrameGoAway       = 0x7
	FrameWindowUpdate = 0x8
	FrameContinuation = 0x9
)

// The flags of frames (RFC 9113, section 6).
const (
	FlagAck        = 0x1 // of SETTINGS
	FlagEndStream  = 0x1
	FlagEndHeaders = 0x4
	FlagPadded     = 0x8
	FlagPriority   = 0x20
)

// Code is why a stream or a connection ends (RFC 9113, section 7).
type Code uint32

// The codes that are used here.
const (
	CodeNone            Code = 0x0
	CodeProtocol        Code = 0x1
	CodeInternal        Code = 0x2
	CodeFlowControl     Code = 0x3
	CodeStreamClosed    Code = 0x5
	CodeFrameSize       Code = 0x6
	CodeRefused         Code = 0x7
	CodeCancel          Code = 0x8
	CodeCompression     Code = 0x9
	CodeEnhanceYourCalm Code = 0xb
)

// The settings that have a name here (RFC 9113, section 6.5.2).
const (
	SettingHeaderTableSize   = 0x1
	SettingInitialWindowSize = 0x4
)

// What holds before any settings came (RFC 9113, section 6.5.2).
const (
	MaxFrame      = 1 << 14 // how much every peer takes in one frame (section 4.2)
	InitialTable  = 4096
	InitialWindow = 1<<16 - 1
)

// Preface is what a client's connection begins with (RFC 9113, section 3.4).
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// ParseFrameHead reads the FrameHeadSize bytes at the beginning of b.
func ParseFrameHead(b []byte) FrameHead {
	return FrameHead{
		Length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		Type:   b[3],
		Flags:  b[4],
		Stream: binary.BigEndian.Uint32(b[5:]) & (1<<31 - 1),
	}
}

// Put writes h over the first FrameHeadSize bytes of b.
func (h FrameHead) Put(b []byte) {
	binary.BigEndian.PutUint32(b, uint32(h.Length)<<8|uint32(h.Type))
	b[4] = h.Flags
	binary.BigEndian.PutUint32(b[5:], h.Stream)
}

// Append appends h to b.
func (h FrameHead) Append(b []byte) []byte {
	b = append(b, make([]byte, FrameHeadSize)...)
	h.Put(b[len(b)-FrameHeadSize:])
	return b
}

// How a status is written of which HPACK's static table has the value (RFC 7541,
// appendix A), and how any other.
var knownStatus = map[int]byte{200: 0x88, 204: 0x89, 206: 0x8a, 304: 0x8b, 400: 0x8c, 404: 0x8d, 500: 0x8e}

const otherStatus = 0x08

// EmptyTable is what a header block begins with where the client's decoder is to
// keep nothing (RFC 7541, section 6.3).
const EmptyTable = 0x20

// AppendStatus appends the field :status to a header block (RFC 7541). Neither it
// nor [AppendField] refers to HPACK's dynamic table or changes it, so that what
// they write may stand between the blocks of another encoder.
func AppendStatus(b []byte, status int) []byte {
	if known, ok := knownStatus[status]; ok {
		return append(b, known)
	}
	b = append(b, otherStatus, 3)
	return strconv.AppendInt(b, int64(status), 10)
}

// AppendField appends a field to a header block, its name in lower case, as HTTP/2
// has it (RFC 9113, section 8.2).
func AppendField[T []byte | string](b []byte, name, value T) []byte {
	b = appendSize(append(b, 0), len(name))
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return append(appendSize(b, len(value)), value...)
}

// appendSize writes the size of a string that is not compressed (RFC 7541, section
// 5.1, with a prefix of seven bits).
func appendSize(b []byte, n int) []byte {
	const most = 1<<7 - 1
	if n < most {
		return append(b, byte(n))
	}
	return binary.AppendUvarint(append(b, most), uint64(n-most))
}

// AppendReset appends a frame that ends a stream (RFC 9113, section 6.4).
func AppendReset(b []byte, stream uint32, why Code) []byte {
	b = FrameHead{Type: FrameReset, Stream: stream, Length: 4}.Append(b)
	return binary.BigEndian.AppendUint32(b, uint32(why))
}

// AppendGoAway appends a frame that says that streams after the last are not served
// (RFC 9113, section 6.8).
func AppendGoAway(b []byte, last uint32, why Code) []byte {
	b = FrameHead{Type: FrameGoAway, Length: 8}.Append(b)
	b = binary.BigEndian.AppendUint32(b, last)
	return binary.BigEndian.AppendUint32(b, uint32(why))
}

// SealHeaders makes frames, each with at most MaxFrame bytes, of the header block
// at the end of b. It begins FrameHeadSize bytes after at: they are for the head of
// the first frame. The flags are those of that frame, FlagEndHeaders aside.
func SealHeaders(b []byte, at int, stream uint32, flags byte) []byte {
	h := FrameHead{Type: FrameHeaders, Flags: flags, Stream: stream}
	block := b[at+FrameHeadSize:]
	if len(block) > MaxFrame {
		block = bytes.Clone(block)
		for b = b[:at]; len(block) > MaxFrame; block = block[MaxFrame:] {
			h.Length = MaxFrame
			b = append(h.Append(b), block[:MaxFrame]...)
			h.Type, h.Flags = FrameContinuation, 0
		}
		b = append(append(b, make([]byte, FrameHeadSize)...), block...)
		at = len(b) - len(block) - FrameHeadSize
	}
	h.Length = len(block)
	h.Flags |= FlagEndHeaders
	h.Put(b[at:])
	return b
}
