package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// exchange is a connection on which one request follows the other. It has a
// buffer for answers, and allocates nothing else.
type exchange struct {
	*dialer
	conn    *tls.Conn
	buffer  []byte
	message []byte // a whole request
}

func newExchange(d *dialer, w work) *exchange {
	if w.Kind == postKind {
		return &exchange{dialer: d, message: append(d.request(d.Host, "POST", smallPath, lengthField(w.Bytes)), body(int(w.Bytes))...)}
	}
	return &exchange{dialer: d, message: d.request(d.Host, "GET", smallPath)}
}

func lengthField(n int64) string { return fmt.Sprintf("Content-Length: %d", n) }

func (e *exchange) open() error {
	e.buffer = make([]byte, bufferSize)
	var err error
	if e.conn, err = e.dial(e.tls); err != nil || e.message == nil {
		return err
	}
	_, err = e.once()
	return err
}

func (e *exchange) once() (time.Duration, error) {
	start := time.Now()
	if _, err := e.conn.Write(e.message); err != nil {
		return 0, err
	}
	n, err := e.read()
	if err == nil && n != smallSize {
		err = fmt.Errorf("an answer of %d bytes instead of %d", n, smallSize)
	}
	return time.Since(start), err
}

func (e *exchange) close() {
	if e.conn != nil {
		_ = e.conn.NetConn().Close()
	}
}

// read reads an answer, which must be a success of known length, and returns
// that.
func (e *exchange) read() (int64, error) {
	for n := 0; n < len(e.buffer); {
		read, err := e.conn.Read(e.buffer[n:])
		n += read
		end := bytes.Index(e.buffer[:n], []byte("\r\n\r\n"))
		if end < 0 && err != nil {
			return 0, fmt.Errorf("read an answer: %w", err)
		}
		if end >= 0 {
			length, err := lengthOf(e.buffer[:end+2])
			if err != nil {
				return 0, err
			}
			return length, e.discard(length - int64(n-end-4))
		}
	}
	return 0, errors.New("an answer's head is too long")
}

// discard reads the rest of a body.
func (e *exchange) discard(left int64) error {
	for left > 0 {
		n, err := e.conn.Read(e.buffer[:min(left, int64(len(e.buffer)))])
		left -= int64(n)
		if err != nil && left > 0 {
			return fmt.Errorf("read a body: %w", err)
		}
	}
	if left < 0 {
		return errors.New("more came than was asked for")
	}
	return nil
}

// lengthOf is the Content-Length of a successful answer, given its head.
func lengthOf(head []byte) (int64, error) {
	if status, err := statusOf(head); err != nil || status != 200 {
		return 0, fmt.Errorf("the answer is %q", head)
	}
	for line := range bytes.Lines(head) {
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && is(name, "Content-Length") {
			return strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
		}
	}
	return 0, fmt.Errorf("the answer has no Content-Length: %q", head)
}

// connector does the whole of it each time: connection, tunnel, handshake and one
// small GET.
type connector struct {
	exchange
	config *tls.Config // its own, because a session is for one connection at a time
	fresh  bool
}

func newConnector(d *dialer, resume, fresh bool) *connector {
	c := &connector{exchange: exchange{dialer: d, message: d.request(d.Host, "GET", smallPath)}, config: d.tls.Clone(), fresh: fresh}
	if resume {
		c.config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	return c
}

func (c *connector) open() error {
	c.buffer = make([]byte, bufferSize)
	return nil
}

func (c *connector) once() (time.Duration, error) {
	if c.fresh {
		host, err := c.nextHost()
		if err != nil {
			return 0, err
		}
		c.config.ServerName, c.message = host, c.request(host, "GET", smallPath)
	}
	start := time.Now()
	conn, err := c.dial(c.config)
	if err != nil {
		return 0, err
	}
	c.conn = conn
	defer c.exchange.close()
	if conn.ConnectionState().DidResume {
		c.resumed.Add(1)
	}
	_, err = c.exchange.once()
	return time.Since(start), err
}

func (c *connector) close() {}
