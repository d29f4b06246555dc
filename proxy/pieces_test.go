package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What an upstream says arrives, in whatever pieces.

func TestHTTP2ALongHeadLeavesRoomForTheBody(t *testing.T) {
	body := strings.Repeat("b", 5000)
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n", len(body))
	for i := range 110 {
		head += fmt.Sprintf("X-%03d: %s\r\n", i, strings.Repeat("v", 200))
	}
	up := rawUpstream(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := readHead(br); err == nil {
			_, _ = io.WriteString(c, head+"\r\n")
			<-time.After(20 * time.Millisecond)
			_, _ = io.WriteString(c, body)
		}
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	resp, err := w.client().Do(request(t, "GET", w.url("/"), nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != body {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// heldBack keeps what is written while it holds.
type heldBack struct {
	net.Conn
	holds bool
	buf   bytes.Buffer
}

func (h *heldBack) Write(p []byte) (int, error) {
	if h.holds {
		return h.buf.Write(p)
	}
	return h.Conn.Write(p)
}

// goodbye answers two requests over one connection, and ends it in the middle of the
// alert that says so: with the last piece comes a part of it, and the rest later.
func goodbye(t *testing.T, raw net.Conn, config *tls.Config, arrived <-chan struct{}) {
	defer raw.Close()
	below := &heldBack{Conn: raw}
	c := tls.Server(below, config)
	br := bufio.NewReader(c)
	if _, err := readHead(br); err != nil {
		return
	}
	_, _ = io.WriteString(c, okAnswer)
	if _, err := readHead(br); err != nil {
		return
	}
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
	<-arrived
	below.holds = true
	_, _ = io.WriteString(c, "all of the body")
	_ = c.CloseWrite()
	_ = raw.SetDeadline(time.Now().Add(10 * time.Second)) // which CloseWrite took away
	b := below.buf.Bytes()
	_, _ = raw.Write(b[:len(b)-10])
	<-time.After(300 * time.Millisecond)
	_, _ = raw.Write(b[len(b)-10:])
}

func TestAPieceThatComesWithHalfAGoodbyeArrives(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{issue(t, time.Now().Add(time.Hour), host)}}
	arrived := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { goodbye(t, raw, config, arrived) })
		}
	})
	w := newWorld(t, &origin{port: portOf(t, ln.Addr())}, nil, bearer("for-a", host))
	t.Cleanup(func() { _ = ln.Close(); w.stop(); all.Wait() })
	client := w.client(h1)
	if resp, got := get(t, client, request(t, "GET", w.url("/"), nil)); resp.StatusCode != 200 || got != "ok" {
		t.Errorf("%d %q", resp.StatusCode, got)
	}
	resp, err := client.Do(request(t, "GET", w.url("/"), nil))
	close(arrived)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != "all of the body" {
		t.Errorf("%q, %v", got, err)
	}
}

// A request is not sent again once the upstream has said a byte, also where a hint has
// just filled the buffer.
func TestARequestIsNotRepeatedAfterAHintOfAnySize(t *testing.T) {
	for _, size := range []int{4095, 4096, 4097} {
		var asked atomic.Int32
		up := rawUpstream(t, func(c net.Conn, br *bufio.Reader) {
			for {
				if _, err := readHead(br); err != nil {
					return
				}
				if asked.Add(1) == 2 {
					hint := "HTTP/1.1 103 Early Hints\r\nX: "
					_, _ = io.WriteString(c, hint+strings.Repeat("y", size-len(hint)-4)+"\r\n\r\n")
					return
				}
				_, _ = io.WriteString(c, okAnswer)
			}
		})
		w := newWorld(t, up, nil, bearer("for-a", host))
		client := w.client(h1)
		get(t, client, request(t, "GET", w.url("/"), nil))
		resp, _ := get(t, client, request(t, "GET", w.url("/"), nil))
		if resp.StatusCode != 502 || asked.Load() != 2 {
			t.Errorf("a hint of %d bytes: %d, and the upstream was asked %d times", size, resp.StatusCode, asked.Load())
		}
	}
}
