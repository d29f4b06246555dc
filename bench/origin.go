package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// The origin shares the processors with what is measured, so it does as little as
// it can: its HTTP/1.1 is a loop over a buffer. It is strict instead of complete,
// and closes the connection on whatever no proxy here should send.

// What the origin serves.
const (
	smallPath  = "/small"  // smallSize bytes, after the request's body
	bytesPath  = "/bytes/" // as many bytes as the number that follows
	eventsPath = "/events" // a stream of server-sent events, each with the time it left
	echoPath   = "/echo"   // a WebSocket that returns every message
	tokenPath  = "/token"  // an OAuth token endpoint
)

const (
	smallSize  = 200                  // bytes of a small answer
	eventEvery = 5 * time.Millisecond // on each stream of events
	bufferSize = 16 << 10             // that of a TLS record
)

// originTask is what an origin is told.
type originTask struct {
	Server     pair
	Credential string // the Authorization field that every request must have
	TokenLife  int    // seconds that an OAuth access token lives
}

// addresses are where the origin listens. On one it speaks HTTP/1.1 alone, so
// that no proxy can choose another; on the other HTTP/2 as well.
type addresses struct{ H1, H2 int } // ports on loopback

// port is the one for a workload.
func (a addresses) port(http2 bool) int {
	if http2 {
		return a.H2
	}
	return a.H1
}

// tally is what the origin has counted since it started.
type tally struct {
	Connections int64 // that it accepted
	Tokens      int64 // that its token endpoint issued
}

// origin is the server that everything is about.
type origin struct {
	originTask
	small       []byte // a whole small answer
	connections atomic.Int64
	tokens      atomic.Int64
}

// originRole serves, and answers each question with the tally.
func originRole(d dialogue) error {
	var o origin
	if err := d.Decode(&o.originTask); err != nil {
		return err
	}
	certificate, err := o.Server.load()
	if err != nil {
		return err
	}
	o.small = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", smallSize, body(smallSize))
	h1, err := o.listen(&tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}})
	if err != nil {
		return err
	}
	go o.accept(h1)
	h2, err := o.listen(&tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		return err
	}
	go func() { _ = (&http.Server{Handler: http.HandlerFunc(o.answer)}).Serve(h2) }()
	if err := d.Encode(addresses{portOf(h1), portOf(h2)}); err != nil {
		return err
	}
	return ask(d, func(struct{}) (tally, error) {
		return tally{o.connections.Load(), o.tokens.Load()}, nil
	})
}

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// body is n bytes of content.
func body(n int) []byte { return bytes.Repeat([]byte{'.'}, n) }

// counting is a listener that counts.
type counting struct {
	net.Listener
	n *atomic.Int64
}

// Accept counts the connection that it accepts.
func (c counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.n.Add(1)
	}
	return conn, err
}

func (o *origin) listen(c *tls.Config) (net.Listener, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return tls.NewListener(counting{ln, &o.connections}, c), nil
}

func (o *origin) accept(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = conn.Close() }()
			_ = o.serve(conn) // who broke the connection counts it as an error
		}()
	}
}

// head is what the origin reads of a request's head.
type head struct {
	path       []byte
	length     int64
	authorized bool // by the one Authorization field that it has
	fields     int  // Authorization
	closes     bool
	key        string // Sec-WebSocket-Key
}

// errHead: a request that the origin does not understand.
var errHead = errors.New("the origin does not understand the request")

// serve answers one request after the other.
func (o *origin) serve(conn net.Conn) error {
	br := bufio.NewReaderSize(conn, bufferSize)
	h := head{path: make([]byte, 0, 64)}
	for {
		if err := o.readHead(br, &h); err != nil {
			return err
		}
		if h.length > 0 {
			if _, err := br.Discard(int(h.length)); err != nil {
				return err
			}
		}
		if err := o.reply(conn, br, &h); err != nil || h.closes {
			return err
		}
	}
}

// reply writes the answer to a request whose body was read.
func (o *origin) reply(w io.Writer, br *bufio.Reader, h *head) error {
	switch path := h.path; {
	case string(path) == tokenPath:
		return o.token(w)
	case !h.authorized:
		h.closes = true
		_, err := io.WriteString(w, "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		return err
	case string(path) == smallPath:
		_, err := w.Write(o.small)
		return err
	case bytes.HasPrefix(path, []byte(bytesPath)):
		return writeBytes(w, string(path[len(bytesPath):]))
	case string(path) == eventsPath:
		return writeEvents(w)
	case string(path) == echoPath:
		return echo(w, br, h.key)
	default:
		return errHead
	}
}

func (o *origin) readHead(br *bufio.Reader, h *head) error {
	*h = head{path: h.path[:0]}
	line, err := br.ReadSlice('\n')
	if err != nil {
		return err
	}
	_, rest, _ := bytes.Cut(line, []byte(" "))
	path, version, _ := bytes.Cut(rest, []byte(" "))
	if string(version) != "HTTP/1.1\r\n" {
		return errHead
	}
	h.path = append(h.path, path...)
	for {
		line, err := br.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimSuffix(line, []byte("\r\n"))
		if len(line) == 0 {
			return nil
		}
		if err := o.readField(line, h); err != nil {
			return err
		}
	}
}

func (o *origin) readField(line []byte, h *head) error {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return errHead
	}
	value = bytes.TrimSpace(value)
	var err error
	switch {
	case is(name, "Authorization"):
		h.fields++
		h.authorized = h.fields == 1 && string(value) == o.Credential
	case is(name, "Content-Length"):
		h.length, err = strconv.ParseInt(string(value), 10, 64)
	case is(name, "Connection"):
		h.closes = is(value, "close")
	case is(name, "Sec-WebSocket-Key"):
		h.key = string(value)
	case is(name, "Transfer-Encoding"):
		err = errHead
	}
	return err
}

// is compares regardless of case.
func is(got []byte, want string) bool {
	return len(got) == len(want) && bytes.EqualFold(got, []byte(want))
}

// answer is the origin's HTTP/2, which net/http does.
func (o *origin) answer(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	switch {
	case !slices.Equal(r.Header["Authorization"], []string{o.Credential}):
		w.WriteHeader(http.StatusForbidden)
	case r.URL.Path != smallPath:
		w.WriteHeader(http.StatusNotFound)
	default:
		_, _ = w.Write(o.small[len(o.small)-smallSize:])
	}
}
