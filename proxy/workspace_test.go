package proxy

import (
	"bytes"
	"net"
	"testing"
	"time"

	"attache"
)

// A client that has sent more than a workspace holds does not make it grow.
func TestAWorkspaceKeepsItsSize(t *testing.T) {
	client, conn := net.Pipe()
	defer client.Close()
	p := &Proxy{settings: Settings{}.withDefaults()}
	f := &relay{conn: conn, errand: errand{p: p, t: &tunnel{authority: "a:443", target: attache.Target{Host: "a", Port: 443}}}}
	f.prepare()
	request := append([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"), "some data"...)
	sent := make(chan error, 1)
	go func() {
		_, err := client.Write(bytes.Repeat(request, 4*bufferSize/len(request)))
		sent <- err
	}()
	for round := range 100 {
		_ = conn.SetReadDeadline(time.Time{})
		for len(f.room()) > 0 { // as a body does that comes piece by piece
			n, err := conn.Read(f.room())
			if f.in = f.in[:len(f.in)+n]; err != nil {
				t.Fatal(err)
			}
		}
		if f.receive(time.Now().Add(time.Minute)) != next {
			t.Fatalf("round %d: it is not a request", round)
		}
		f.startWatch(conn, func() {})
		select {
		case <-f.watcher:
		case <-time.After(10 * time.Second):
			t.Fatal("the watch reads nothing")
		}
		f.unwatch()
		if cap(f.in) != bufferSize || len(f.large) != 1 {
			t.Fatalf("round %d: the buffer has %d bytes, and there are %d", round, cap(f.in), len(f.large))
		}
		f.advance()
	}
	_ = conn.Close()
	<-sent
}
