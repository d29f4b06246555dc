package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// reencrypting is the least that a proxy can do which puts a credential into what is
// encrypted: it decrypts what comes, puts the field in without a look at what it is,
// and encrypts it again. It has the standard library, no
// deadlines, and no more to know than the bytes.
type reencrypting struct {
	client *tls.Config // towards the origin
	server *tls.Config
	field  []byte // with the line end after it, and the one that ends the head
}

// serveReencrypting serves until the process ends.
func serveReencrypting(task ownTask, ln net.Listener) error {
	ca, err := task.Authority.load()
	if err != nil {
		return err
	}
	roots, err := pool(task.Roots)
	if err != nil {
		return err
	}
	own, err := (&authority{task.Authority, ca}).server(host)
	if err != nil {
		return err
	}
	certificate, err := own.load()
	if err != nil {
		return err
	}
	p := &reencrypting{
		client: &tls.Config{RootCAs: roots, ServerName: host, NextProtos: []string{"http/1.1"}},
		server: &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}},
		field:  []byte("Authorization: " + task.Credential + "\r\n\r\n"),
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _ = p.tunnel(conn) }() // the load says what it misses
		}
	}()
	return nil
}

// tunnel serves one CONNECT.
func (p *reencrypting) tunnel(conn net.Conn) error {
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	_ = conn.SetDeadline(time.Now().Add(openTime))
	r, err := http.ReadRequest(bufio.NewReader(conn)) // the client says no more before the answer
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		return err
	}
	up, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return err
	}
	defer func() { _ = up.Close() }()
	if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Time{})
	client, origin := tls.Server(conn, p.server), tls.Client(up, p.client)
	if err := errors.Join(client.HandshakeContext(ctx), origin.HandshakeContext(ctx)); err != nil {
		return err
	}
	go func() { _ = pass(client, origin, nil) }()
	return pass(origin, client, p.field)
}

// pass copies from src until its end, which is dst's then, too, and puts the field
// into each head that ends with a piece.
func pass(dst, src *tls.Conn, field []byte) error {
	defer func() { _ = dst.Close() }()
	var b [4 << 10]byte
	for {
		n, err := src.Read(b[:len(b)-len(field)])
		if err != nil {
			return err
		}
		piece := b[:n]
		if field != nil && bytes.HasSuffix(piece, []byte("\r\n\r\n")) {
			piece = append(piece[:n-len("\r\n")], field...)
		}
		if _, err := dst.Write(piece); err != nil {
			return err
		}
	}
}
