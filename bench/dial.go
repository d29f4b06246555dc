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
