package wire_test

import (
	"context"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"attache/wire"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// scripted is a connection whose peer sends the pieces, one for each read, and
// then ends. A nil piece is a deadline that passes.
type scripted struct {
	net.Conn
	pieces [][]byte
	end    error // io.EOF where it is nil
	closed bool
}

func (s *scripted) Read(p []byte) (int, error) {
	switch {
	case len(p) == 0:
		return 0, nil // as crypto/tls has it
	case len(s.pieces) == 0 && s.end != nil:
		return 0, s.end
	case len(s.pieces) == 0:
		return 0, io.EOF
	case s.pieces[0] == nil:
		s.pieces = s.pieces[1:]
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, s.pieces[0])
	if s.pieces[0] = s.pieces[0][n:]; len(s.pieces[0]) == 0 {
		s.pieces = s.pieces[1:]
	}
	return n, nil
}

func (s *scripted) Write(p []byte) (int, error)     { return len(p), nil }
func (s *scripted) SetReadDeadline(time.Time) error { return nil }
func (s *scripted) Close() error                    { s.closed = true; return nil }

// lent is a connection to that peer with a buffer of that size.
func lent(t testing.TB, s *scripted, size int) *wire.Conn {
	t.Helper()
	pool := &wire.Pool{
		Dial:       func(context.Context, string) (net.Conn, error) { return s, nil },
		MaxPerHost: 1,
	}
	c, err := pool.Get(t.Context(), "api.example.test:443", func() {})
	if err != nil {
		t.Fatal(err)
	}
	c.Lend(make([]byte, size))
	return c
}

// cut divides b into pieces whose lengths are 1 + the bytes of sizes, again and
// again; without sizes there is one piece.
func cut(b, sizes []byte) [][]byte {
	var pieces [][]byte
	for i := 0; len(b) > 0; i++ {
		n := len(b)
		if len(sizes) > 0 {
			n = min(n, 1+int(sizes[i%len(sizes)]))
		}
		pieces = append(pieces, b[:n:n])
		b = b[n:]
	}
	return pieces
}
