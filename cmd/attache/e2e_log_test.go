package main_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"testing"
	"time"
)

// net/http prints what a server sends beyond its answer, whatever the program
// logs. Where that is an echo, it is a credential.
func TestWhatAnUpstreamEchoesIsInNoLog(t *testing.T) {
	up := newUpstream(t)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: up.certificate})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	closed := make(chan error, 1) // the proxy has closed the connection
	go func() { closed <- echoOne(ln) }()

	in := install(t, up)
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	s := sites[0]
	in.store(t, s, port)
	in.attache(t, "run", "--integration", integration, "--", find(t, "curl", "curl"), "-sSI", "https://"+net.JoinHostPort(s.host, port)+"/")
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	expectNowhere(t, map[string][]byte{"what attache printed": []byte(in.printed.String())}, "the credential", s.secret)
}

// echoOne answers one HEAD, sends after the answer the head that it was asked
// with, and waits until the connection is closed.
func echoOne(ln net.Listener) error {
	c, err := ln.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return err
	}
	head, err := httputil.DumpRequest(r, false)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"+string(head)); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, c)
	return err
}
