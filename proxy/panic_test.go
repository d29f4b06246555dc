package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"attache"
	"attache/proxy"
	"attache/secret"
)

// A panic on the way of an HTTP/2 request ends its connection at most: another one works,
// and the proxy ends when it is told to.
func TestAPanicWhileAStreamBeginsEndsItsConnection(t *testing.T) {
	up := newOrigin(t, echo)
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Drain = time.Second }, oauthConnection())
	var asked atomic.Int32
	w.fresh = func(context.Context, *attache.Connection, uint64) (attache.Grant, error) {
		if asked.Add(1) == 1 {
			panic("a defect")
		}
		return attache.Grant{Generation: 1, AccessToken: secret.New(canary)}, nil
	}
	a := up.authority(host)
	p := w.h2()
	p.ask(1, plainH2(a, "/"))
	if s := p.wait(1); s.status() == 200 {
		t.Errorf("%+v", s)
	}
	p = w.h2()
	p.ask(1, plainH2(a, "/"))
	if s := p.wait(1); s.status() != 200 {
		t.Errorf("%+v, and the connection ended with %v", s, p.ended)
	}
	_ = p.conn.Close()
	began := time.Now()
	if w.stop(); time.Since(began) > 30*time.Second {
		t.Errorf("it ended after %v", time.Since(began))
	}
}

// While the proxy ends, the answer that there is none is the tunnel's last, and says so.
func TestThatThereIsNoAnswerMayBeTheLastThing(t *testing.T) {
	asked, leave := make(chan struct{}), make(chan struct{})
	up := rawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
		_, _ = readHead(br)
		close(asked)
		<-leave
		_ = conn.Close()
	})
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Drain = 10 * time.Second }, bearer("for-a", host))
	a := up.authority(host)
	conn := w.secure(w.open(a), host)
	br := bufio.NewReader(conn)
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n\r\n", a)
	<-asked
	stopped := make(chan struct{})
	go func() { defer close(stopped); w.stop() }()
	eventually(t, "the proxy does not begin to end", func() bool {
		c, err := net.Dial("tcp", w.addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	close(leave)
	if resp, _ := answer(t, br, "POST"); resp.StatusCode != 502 || !resp.Close {
		t.Errorf("answer %d, the last one: %v", resp.StatusCode, resp.Close)
	}
	<-stopped
}
