package wire_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"attache/wire"
)

const bufferSize = 4 << 10

// exchanged is what became of an answer.
type exchanged struct {
	Body           string
	Trailer        []string
	Err            error
	Ended, InStep  bool
	LeftOver       string
	Status, Before int // of the final answer, and how many came before it
}

// exchange reads the answer to a request with that method.
func exchange(t *testing.T, c *wire.Conn, method string) (e exchanged) {
	t.Helper()
	var r wire.Response
	for {
		if e.Err = c.ReadHead(&r); e.Err != nil {
			return e
		}
		if r.Status >= 200 {
			break
		}
		e.Before++
	}
	e.Status = r.Status
	var b wire.Body
	b.Begin(c, &r, []byte(method))
	body, err := io.ReadAll(&b)
	e.Body, e.Err, e.Ended, e.InStep, e.LeftOver = string(body), err, b.Ended(), b.InStep(), string(c.Buffered())
	for _, f := range b.Trailer() {
		e.Trailer = append(e.Trailer, string(f.Line))
	}
	if n, err := b.Read(make([]byte, 1)); b.Ended() && (n != 0 || err != io.EOF) {
		t.Errorf("after the end: %d, %v", n, err)
	}
	return e
}

func TestAnswersAreReadToTheirEnd(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	const sized = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
	for name, c := range map[string]struct {
		says, method string
		want         exchanged
	}{
		"a length": {sized + "body", "GET", exchanged{Body: "body", Ended: true, InStep: true}},
		"a length, and more": {sized + "bodyHTTP/1.1 200 OK\r\n", "GET",
			exchanged{Body: "body", Ended: true, LeftOver: "HTTP/1.1 200 OK\r\n"}},
		"a length, and less": {sized + "bod", "GET", exchanged{Body: "bod", Err: io.ErrUnexpectedEOF}},
		"a length of nothing": {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET",
			exchanged{Ended: true, InStep: true}},
		"a length of nothing, and more": {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nx", "GET",
			exchanged{Ended: true, LeftOver: "x"}},
		"chunks": {chunked + "2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n", "GET", exchanged{Body: "body", Ended: true, InStep: true}},
		"chunks with trailers": {chunked + "4\r\nbody\r\n0\r\nX: y\r\n\r\n", "GET",
			exchanged{Body: "body", Ended: true, InStep: true, Trailer: []string{"X: y\r\n"}}},
		"chunks with an odd trailer": {chunked + "4\r\nbody\r\n0\r\nX\r\n\r\n", "GET",
			exchanged{Body: "body", Ended: true, InStep: true}},
		"chunks, and more": {chunked + "4\r\nbody\r\n0\r\n\r\nHTTP", "GET",
			exchanged{Body: "body", Ended: true, LeftOver: "HTTP"}},
		"chunks, and less":                  {chunked + "4\r\nbody\r\n0\r\n", "GET", exchanged{Body: "body", Err: io.ErrUnexpectedEOF}},
		"chunks that end inside one":        {chunked + "4\r\nbo", "GET", exchanged{Body: "bo", Err: io.ErrUnexpectedEOF}},
		"chunks that break":                 {chunked + "4\r\nbodyy\r\n", "GET", exchanged{Body: "body", Err: wire.ErrMalformed}},
		"no chunk":                          {chunked, "GET", exchanged{Err: io.ErrUnexpectedEOF}},
		"until the end":                     {"HTTP/1.1 200 OK\r\n\r\nbody", "GET", exchanged{Body: "body", Ended: true}},
		"nothing until the end":             {"HTTP/1.1 200 OK\r\n\r\n", "GET", exchanged{Ended: true}},
		"to HEAD, with a length":            {sized, "HEAD", exchanged{Ended: true, InStep: true}},
		"to HEAD, with a length and a body": {sized + "body", "HEAD", exchanged{Ended: true, LeftOver: "body"}},
		"to HEAD, with chunks":              {chunked, "HEAD", exchanged{Ended: true, InStep: true}},
		"no content":                        {"HTTP/1.1 204 No Content\r\n\r\n", "GET", exchanged{Status: 204, Ended: true, InStep: true}},
		"no content, with a length": {"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n", "GET",
			exchanged{Status: 204, Ended: true, InStep: true}},
		"no content, in chunks": {"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "GET",
			exchanged{Status: 204, Ended: true, LeftOver: "0\r\n\r\n"}},
		"not modified": {"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", "GET",
			exchanged{Status: 304, Ended: true, InStep: true}},
		"hints first": {"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + sized + "body", "GET",
			exchanged{Body: "body", Ended: true, InStep: true, Before: 2}},
	} {
		if c.want.Status == 0 {
			c.want.Status = 200
		}
		for how, sizes := range map[string][]byte{"at once": nil, "byte by byte": {0}, "in threes": {2}, "unevenly": {40, 3, 11}} {
			got := exchange(t, lent(t, &scripted{pieces: cut([]byte(c.says), sizes)}, bufferSize), c.method)
			if sizes != nil && c.want.LeftOver != "" { // of what is too much, only what came with the last piece is seen
				if got.InStep != (got.LeftOver == "") || !strings.HasPrefix(c.want.LeftOver, got.LeftOver) {
					t.Errorf("%s, %s: in step %v, with %q", name, how, got.InStep, got.LeftOver)
				}
				got.LeftOver, got.InStep = c.want.LeftOver, false
			}
			if diff := cmp.Diff(c.want, got, cmpopts.EquateErrors()); diff != "" {
				t.Errorf("%s, %s: %s", name, how, diff)
			}
		}
	}
}

func TestAHeadThatDoesNotComeIsAnError(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		peer      scripted
		want      error
		untouched bool
	}{
		"nothing":               {scripted{}, io.EOF, true},
		"nothing, and an error": {scripted{end: broken}, broken, true},
		"half a head":           {scripted{pieces: [][]byte{[]byte("HTTP/1.1 2")}}, io.ErrUnexpectedEOF, false},
		"a hint and nothing":    {scripted{pieces: [][]byte{[]byte("HTTP/1.1 103 \r\n\r\n")}}, io.EOF, false},
		"no head":               {scripted{pieces: [][]byte{[]byte("hello\r\n\r\n")}}, wire.ErrOdd, false},
		"a head that is longer than the buffer": {
			scripted{pieces: [][]byte{[]byte("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", bufferSize))}}, wire.ErrLong, false,
		},
		"a head that just does not fit": {
			scripted{pieces: [][]byte{[]byte("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", bufferSize-23) + "\r\n\r\n")}}, wire.ErrLong, false,
		},
	} {
		conn := lent(t, &c.peer, bufferSize)
		var r wire.Response
		var err error
		for err == nil {
			err = conn.ReadHead(&r)
		}
		if !errors.Is(err, c.want) || conn.Untouched() != c.untouched {
			t.Errorf("%s: %v, untouched %v", name, err, conn.Untouched())
		}
	}
}

// late gives its bytes together with the error of a deadline, as crypto/tls does where
// half an alert follows them.
type late struct{ net.Conn }

func (l late) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if err == nil {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

func TestBytesThatComeWithADeadlineAreNotLost(t *testing.T) {
	peer := &scripted{pieces: [][]byte{[]byte("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n"), []byte("the "), []byte("body")}}
	p := &wire.Pool{
		Dial:       func(context.Context, string) (net.Conn, error) { return peer, nil },
		Secure:     func(_ context.Context, c net.Conn, _ string) (net.Conn, error) { return late{c}, nil },
		MaxPerHost: 1,
	}
	c, err := p.Get(t.Context(), "a:1", func() {})
	if err != nil {
		t.Fatal(err)
	}
	c.Lend(make([]byte, bufferSize))
	if got := exchange(t, c, "GET"); got.Body != "the body" || got.Err != nil || !got.InStep {
		t.Errorf("%+v", got)
	}
}

// A hint has been heard, also where nothing of it is left in the buffer.
func TestAHintIsNotForgotten(t *testing.T) {
	const hint = "HTTP/1.1 103 \r\n\r\n"
	c := lent(t, &scripted{pieces: [][]byte{[]byte(hint)}}, len(hint))
	var r wire.Response
	if err := c.ReadHead(&r); err != nil {
		t.Fatal(err)
	}
	if err := c.ReadHead(&r); err != wire.ErrLong {
		t.Fatal(err)
	}
	c.Lend(make([]byte, bufferSize))
	if c.Untouched() {
		t.Error("nothing was received")
	}
}

func TestAHeadMayFillTheBuffer(t *testing.T) {
	head := "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", bufferSize-24) + "\r\n\r\n"
	got := exchange(t, lent(t, &scripted{pieces: [][]byte{[]byte(head), []byte("body")}}, bufferSize), "GET")
	if want := (exchanged{Status: 200, Body: "body", Ended: true}); got.Body != want.Body || got.Err != nil || !got.Ended || got.InStep {
		t.Errorf("%+v", got)
	}
}

// A head that is too long for one buffer goes on in another, with what came before
// it out of the way.
func TestALongHeadGoesOnInALargerBuffer(t *testing.T) {
	const hint = "HTTP/1.1 103 \r\n\r\n"
	long := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: " + strings.Repeat("y", bufferSize) + "\r\n\r\nok"
	c := lent(t, &scripted{pieces: [][]byte{[]byte(hint + long)}}, bufferSize)
	var r wire.Response
	if err := c.ReadHead(&r); err != nil || r.Status != 103 {
		t.Fatal(r.Status, err)
	}
	if err := c.ReadHead(&r); !errors.Is(err, wire.ErrLong) {
		t.Fatal(err)
	}
	c.Lend(make([]byte, len(long)))
	if err := c.ReadHead(&r); err != nil || r.Status != 200 || len(r.Fields) != 2 || len(r.Fields[1].Value) != bufferSize {
		t.Fatal(r.Status, err)
	}
	var b wire.Body
	b.Begin(c, &r, []byte("GET"))
	if body, err := io.ReadAll(&b); string(body) != "ok" || err != nil || !b.InStep() {
		t.Errorf("%q, %v", body, err)
	}
}

// Hints that fill the buffer leave no room to read into: that is for others, and
// not for ever.
func TestHintsMayFillTheBuffer(t *testing.T) {
	const hint = "HTTP/1.1 103 \r\n\r\n"
	hints := strings.Repeat(hint, bufferSize/len(hint))
	hints += "HTTP/1.1 103 " + strings.Repeat("x", bufferSize-len(hints)) // what is left of the room
	hints = hints[:bufferSize-len("\r\n\r\n")] + "\r\n\r\n"
	for _, says := range []string{hints, strings.Repeat(hint, bufferSize)} {
		c := lent(t, &scripted{pieces: [][]byte{[]byte(says), []byte(okAnswer)}}, bufferSize)
		var r wire.Response
		read := make(chan error, 1)
		go func() {
			var err error
			for err == nil {
				err = c.ReadHead(&r)
			}
			read <- err
		}()
		select {
		case err := <-read:
			if !errors.Is(err, wire.ErrLong) {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("it reads into nothing for ever")
		}
		if rest, err := io.ReadAll(c.Unread()); err != nil || !strings.HasSuffix(string(rest), okAnswer) {
			t.Errorf("unread are %.40q, %v", rest, err)
		}
	}
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// What a deadline interrupts goes on where it was.
func TestADeadlineLosesNothing(t *testing.T) {
	for _, says := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbod\r\n1\r\ny\r\n0\r\nX: y\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\nbody",
	} {
		s := &scripted{}
		for i := range len(says) {
			s.pieces = append(s.pieces, nil, []byte(says[i:i+1]))
		}
		c := lent(t, s, bufferSize)
		var r wire.Response
		interrupted := 0
		isLate := func(err error) bool {
			var late net.Error
			is := errors.Is(err, os.ErrDeadlineExceeded) && errors.As(err, &late) && late.Timeout()
			if is {
				interrupted++
			}
			return is
		}
		err := c.ReadHead(&r)
		for isLate(err) {
			err = c.ReadHead(&r)
		}
		if err != nil {
			t.Fatal(err)
		}
		var b wire.Body
		b.Begin(c, &r, []byte("GET"))
		var body []byte
		p := make([]byte, 10)
		for err == nil || isLate(err) {
			var n int
			n, err = b.Read(p)
			body = append(body, p[:n]...)
		}
		if err != io.EOF || string(body) != "body" || interrupted != len(says) {
			t.Errorf("%q, %v after %d interruptions", body, err, interrupted)
		}
	}
}

// A body is read into what the caller has, however small.
func TestABodyFitsIntoAnything(t *testing.T) {
	for _, says := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\n012\r\n7\r\n3456789\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\n0123456789",
	} {
		for size := 1; size < 40; size++ {
			c := lent(t, &scripted{pieces: [][]byte{[]byte(says)}}, bufferSize)
			var r wire.Response
			if err := c.ReadHead(&r); err != nil {
				t.Fatal(err)
			}
			var b wire.Body
			b.Begin(c, &r, []byte("GET"))
			var body []byte
			p := make([]byte, size)
			for {
				n, err := b.Read(p)
				body = append(body, p[:n]...)
				if err == io.EOF {
					break
				}
				if err != nil || n == 0 {
					t.Fatalf("%d, %v", n, err)
				}
			}
			if string(body) != "0123456789" {
				t.Errorf("in %ds: %q", size, body)
			}
		}
	}
}

func TestWhatIsUnreadIsAllThatCame(t *testing.T) {
	const odd = "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\nbody"
	c := lent(t, &scripted{pieces: cut([]byte("HTTP/1.1 103 \r\n\r\n"+odd), []byte{5})}, bufferSize)
	var r wire.Response
	if err := c.ReadHead(&r); err != nil || r.Status != 103 {
		t.Fatal(r.Status, err)
	}
	if err := c.ReadHead(&r); !errors.Is(err, wire.ErrOdd) {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(c.Unread()); string(rest) != odd || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
}
