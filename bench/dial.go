package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// openTime bounds how long opening a connection may take.
const openTime = 30 * time.Second

// dialer opens connections to the origin, on the route that was given.
type dialer struct {
	*shared
	http2 bool
}

// authority is a host with the origin's port.
func (d *dialer) authority(host string) string {
	return net.JoinHostPort(host, strconv.Itoa(d.Ports.port(d.http2)))
}

// dial opens a TLS connection to a host of the origin, through a tunnel where
// there is a forward proxy.
func (d *dialer) dial(c *tls.Config) (*tls.Conn, error) {
	to := d.authority("127.0.0.1")
	if d.Proxy != "" {
		to = d.Proxy
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	if d.Proxy != "" {
		err = d.tunnel(conn, d.authority(c.ServerName))
	}
	secure := tls.Client(conn, c)
	if err == nil {
		err = secure.HandshakeContext(ctx)
	}
	if err == nil && d.http2 != (secure.ConnectionState().NegotiatedProtocol == "h2") {
		err = errors.New("the other side does not speak HTTP/2")
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secure, nil
}

// tunnel asks the proxy for a tunnel (RFC 9110, section 9.3.6).
func (d *dialer) tunnel(conn net.Conn, authority string) error {
	_ = conn.SetDeadline(time.Now().Add(openTime))
	var ask []byte
	ask = fmt.Appendf(ask, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n", authority, authority)
	if d.Authorization != "" {
		ask = fmt.Appendf(ask, "Proxy-Authorization: %s\r\n", d.Authorization)
	}
	if _, err := conn.Write(append(ask, "\r\n"...)); err != nil {
		return err
	}
	var answer [2048]byte
	for n := 0; n < len(answer); {
		read, err := conn.Read(answer[n:])
		n += read
		if err != nil {
			return fmt.Errorf("CONNECT: %w", err)
		}
		if bytes.HasSuffix(answer[:n], []byte("\r\n\r\n")) {
			if status, err := statusOf(answer[:n]); err != nil || status != 200 {
				return fmt.Errorf("CONNECT: %q", answer[:n])
			}
			return conn.SetDeadline(time.Time{})
		}
	}
	return errors.New("CONNECT: the answer is too long")
}

// statusOf is the status in the first line of an answer.
func statusOf(answer []byte) (int, error) {
	const before = len("HTTP/1.1 ")
	if len(answer) < before+3 || !bytes.HasPrefix(answer, []byte("HTTP/1.")) {
		return 0, fmt.Errorf("not an answer: %q", answer[:min(len(answer), 100)])
	}
	return strconv.Atoi(string(answer[before : before+3]))
}

// request is the head of a request with everything that a client sends.
func (d *dialer) request(host, method, path string, fields ...string) []byte {
	text := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench/1\r\nAccept: */*\r\n", method, path, d.authority(host))
	if d.Credential != "" {
		text = fmt.Appendf(text, "Authorization: %s\r\n", d.Credential)
	}
	for _, f := range fields {
		text = fmt.Appendf(text, "%s\r\n", f)
	}
	return append(text, "\r\n"...)
}

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
