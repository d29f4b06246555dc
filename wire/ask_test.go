package wire_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"attache/wire"
)

// held is a connection that can hold back what is written, to send it at once.
type held struct {
	net.Conn
	holds bool
	buf   []byte
}

func (h *held) hold() { h.holds = true }

func (h *held) release() {
	h.holds = false
	_ = h.SetWriteDeadline(time.Time{}) // which closing may have set
	_, _ = h.Conn.Write(h.buf)
	h.buf = nil
}

func (h *held) Write(p []byte) (int, error) {
	if h.holds {
		h.buf = append(h.buf, p...)
		return len(p), nil
	}
	return h.Conn.Write(p)
}

// asked sends a request of one byte, and reads the answer to its end.
func asked(c *wire.Conn) (body string, inStep bool, err error) {
	c.Lend(make([]byte, bufferSize))
	if err := c.Ask([]byte("x")); err != nil {
		return "", false, err
	}
	var r wire.Response
	if err := c.ReadHead(&r); err != nil {
		return "", false, err
	}
	var b wire.Body
	b.Begin(c, &r, []byte("GET"))
	all, err := io.ReadAll(&b)
	return string(all), b.InStep(), err
}

// What the peer of an idle connection has done shows before a request is sent.
func TestAStaleConnectionIsNotAsked(t *testing.T) {
	server := httptest.NewTLSServer(nil) // for its certificate
	defer server.Close()
	peers := map[string]struct {
		does  func(conn net.Conn, below *held) // with the first request
		stale bool
	}{
		"answers":          {func(conn net.Conn, _ *held) { say(conn) }, false},
		"answers and ends": {func(conn net.Conn, _ *held) { say(conn); _ = conn.Close() }, true},
		"answers and resets": {func(conn net.Conn, below *held) {
			say(conn)
			_ = below.Conn.(*net.TCPConn).SetLinger(0)
			_ = below.Close()
		}, true},
		"answers twice": {func(conn net.Conn, _ *held) { say(conn); say(conn) }, true},
		"answers twice in a segment": {func(conn net.Conn, below *held) {
			below.hold()
			say(conn)
			say(conn)
			below.release()
		}, true},
		"answers and says that it ends in a segment": {func(conn net.Conn, below *held) {
			below.hold()
			say(conn)
			if secure, ok := conn.(*tls.Conn); ok {
				_ = secure.CloseWrite()
			} else {
				say(conn)
			}
			below.release()
		}, true},
	}
	for name, peer := range peers {
		for layer, config := range map[string]*tls.Config{
			"TCP": nil, "TLS 1.3": server.TLS, "TLS 1.2": {Certificates: server.TLS.Certificates, MaxVersion: tls.VersionTLS12},
		} {
			t.Run(name+" over "+layer, func(t *testing.T) {
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				acted, ended := make(chan struct{}), make(chan struct{})
				defer func() { <-ended }()
				defer ln.Close()
				go func() {
					defer close(ended)
					c, err := ln.Accept()
					if err != nil {
						return
					}
					below := &held{Conn: c}
					conn := net.Conn(below)
					if config != nil {
						conn = tls.Server(below, config.Clone())
					}
					defer conn.Close()
					request := make([]byte, 1)
					for first := true; ; first = false {
						if _, err := io.ReadFull(conn, request); err != nil {
							return
						}
						if !first {
							say(conn)
							continue
						}
						peer.does(conn, below)
						close(acted) // over loopback, it has arrived
					}
				}()
				p := newPool(&dials{})
				p.Dial = func(ctx context.Context, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
				}
				if config != nil {
					p.Secure = func(ctx context.Context, conn net.Conn, _ string) (net.Conn, error) {
						secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
						return secure, secure.HandshakeContext(ctx)
					}
				}
				c := several(t, p, "a:1", 1)[0]
				defer p.Discard(c)
				_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
				body, inStep, err := asked(c)
				if body != "ok" || err != nil {
					t.Fatal(body, err)
				}
				<-acted
				if !inStep { // it has shown already
					if !peer.stale {
						t.Error("it is out of step")
					}
					return
				}
				p.Put(c)
				if c = several(t, p, "a:1", 1)[0]; !c.Reused {
					t.Fatal("it is another one")
				}
				body, _, err = asked(c)
				if errors.Is(err, wire.ErrStale) != peer.stale || !peer.stale && body != "ok" {
					t.Errorf("%q, %v", body, err)
				}
			})
		}
	}
}

func say(w io.Writer) { _, _ = io.WriteString(w, okAnswer) }

// Asking does not wait for the answer for longer than the deadline, and the
// request is sent once.
func TestAskingEndsWithTheDeadline(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got, more := make(chan string, 1), make(chan struct{})
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.ReadFull(c, make([]byte, 1))
		say(c)
		<-more
		say(c)
		all, _ := io.ReadAll(c)
		got <- string(all)
	}()
	defer ln.Close()
	p := newPool(&dials{})
	p.Dial = func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
	}
	c := several(t, p, "a:1", 1)[0]
	if _, _, err := asked(c); err != nil {
		t.Fatal(err)
	}
	p.Put(c)
	c = several(t, p, "a:1", 1)[0]

	_ = c.SetReadDeadline(time.Unix(1, 0)) // before it is sent
	c.Lend(make([]byte, bufferSize))
	if err := c.Ask([]byte("never sent")); err != wire.ErrLate {
		t.Errorf("a deadline that is over: %v", err)
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)) // after it
	if err := c.Ask([]byte("request")); err != nil {
		t.Errorf("a deadline that passes: %v", err)
	}
	var r wire.Response
	if err := c.ReadHead(&r); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("there is an answer: %v", err)
	}
	close(more)
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if err := c.ReadHead(&r); err != nil || r.Status != 200 {
		t.Error(err)
	}
	p.Discard(c)
	if all := <-got; all != "request" {
		t.Errorf("the peer got %q", all)
	}
}

// layer is like TLS: it may have read more than it has given out.
type layer struct {
	net.Conn
	held []byte
}

func (l *layer) Read(p []byte) (int, error) {
	if len(l.held) == 0 {
		return l.Conn.Read(p)
	}
	n := copy(p, l.held)
	l.held = l.held[n:]
	return n, nil
}

// A piece of a body is all that is there without asking the socket.
func TestAPieceIsAllThatALayerHolds(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n"
	top := &layer{held: []byte(head + "0123")}
	p := newPool(&dials{})
	p.Dial = func(context.Context, string) (net.Conn, error) {
		return &scripted{pieces: [][]byte{[]byte("4567")}}, nil
	}
	p.Secure = func(_ context.Context, conn net.Conn, _ string) (net.Conn, error) {
		top.Conn = conn
		return top, nil
	}
	c := several(t, p, "a:1", 1)[0]
	c.Lend(make([]byte, len(head)+2))
	var r wire.Response
	if err := c.ReadHead(&r); err != nil {
		t.Fatal(err)
	}
	var b wire.Body
	b.Begin(c, &r, []byte("GET"))
	piece := make([]byte, bufferSize)
	for _, want := range []string{"0123", "4567"} {
		if n, err := b.Read(piece); string(piece[:n]) != want || err != nil && err != io.EOF {
			t.Errorf("%q, %v; want %q", piece[:n], err, want)
		}
	}
	if !b.InStep() {
		t.Error("it is out of step")
	}
}

// Where there is no way to look at the socket, what a layer above it holds shows
// all the same.
func TestWhatALayerHoldsShowsOnAnySocket(t *testing.T) {
	top := &layer{}
	p := newPool(&dials{})
	p.Dial = func(context.Context, string) (net.Conn, error) { return &scripted{}, nil }
	p.Secure = func(_ context.Context, conn net.Conn, _ string) (net.Conn, error) {
		top.Conn = conn
		return top, nil
	}
	c := several(t, p, "a:1", 1)[0]
	p.Put(c)
	c = several(t, p, "a:1", 1)[0]
	if err := c.Ask([]byte("x")); err != nil {
		t.Errorf("it holds nothing: %v", err)
	}
	top.held = []byte(okAnswer)
	if err := c.Ask([]byte("x")); !errors.Is(err, wire.ErrStale) {
		t.Errorf("it holds an answer: %v", err)
	}
}
