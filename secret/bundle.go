package secret

import (
	"fmt"
	"io"
	"log/slog"
)

// Bundle is many Texts in one piece of memory, for whoever keeps so many that each
// of them would be work for the garbage collector. Like a Text it shows nothing
// of itself. The zero Bundle is empty, and a copy of any other is the same Bundle.
// It may be read from several goroutines, and added to by one while nobody reads;
// what was added stays until the Bundle goes.
//
// It is a pointer to a pointer because fmt, in a struct's unexported field, follows
// one to a slice for some verbs.
type Bundle struct{ p **[]byte }

// Span is where in a Bundle a Text is. The zero Span is the empty Text.
type Span struct{ at, size uint32 }

// Add puts a copy of t into the Bundle.
func (b *Bundle) Add(t Text) Span { return b.add([]byte(t.Expose())) }

// Carry puts a copy of what another Bundle has there into this one.
func (b *Bundle) Carry(from Bundle, s Span) Span { return b.add(from.bytes(s)) }

func (b *Bundle) add(text []byte) Span {
	if len(text) == 0 {
		return Span{}
	}
	if b.p == nil {
		b.p = new(new([]byte))
	}
	all := *b.p
	s := Span{uint32(len(*all)), uint32(len(text))}
	*all = append(*all, text...)
	return s
}

// Text is what is there.
func (b Bundle) Text(s Span) Text { return New(string(b.bytes(s))) }

func (b Bundle) bytes(s Span) []byte {
	if s.size == 0 {
		return nil
	}
	return (**b.p)[s.at:][:s.size]
}

// Len is how many bytes are in it, of all Texts.
func (b Bundle) Len() int {
	if b.p == nil {
		return 0
	}
	return len(**b.p)
}

// Format implements [fmt.Formatter]: every verb prints [Redacted].
func (b Bundle) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// LogValue implements [slog.LogValuer].
func (b Bundle) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText implements [encoding.TextMarshaler] with the redacted form.
func (b Bundle) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
