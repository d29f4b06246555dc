package proxy_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"attache"
	"attache/proxy"
)

// A client that says goodbye gets what it is waiting for, and then the end.
func TestAClientsGoAwayLetsItsRequestsEnd(t *testing.T) {
	finish := make(chan struct{})
	up := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		<-finish
		_, _ = w.Write(make([]byte, 100_000)) // more than one window
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	p := w.h2()
	p.ask(1, plainH2(up.authority(host), "/"))
	eventually(t, "the request does not arrive", func() bool { return up.count() == 1 })
	_ = p.WriteGoAway(0, http2.ErrCodeNo, nil)
	for p.last == 0 && p.read() {
	}
	close(finish)
	if s := p.wait(1); s.data.Len() != 100_000 || s.cut || p.last != 1 {
		t.Errorf("%d bytes, %v; the last stream is %d", s.data.Len(), p.ended, p.last)
	}
	if err := p.drain(); err != nil {
		t.Errorf("the connection ended with %v", err)
	}
	w.event(isConnect)
}

// A client that was told of the end, and asks on, does not put it off.
func TestAConnectionThatEndsServesNoMore(t *testing.T) {
	finish := make(chan struct{})
	up := newOrigin(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			<-finish
		}
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2()
	p.ask(1, plainH2(a, "/held"))
	eventually(t, "the request does not arrive", func() bool { return up.count() == 1 })
	_ = p.WriteGoAway(0, http2.ErrCodeNo, nil)
	for p.last == 0 && p.read() {
	}
	for id := uint32(3); id < 30; id += 2 {
		p.ask(id, plainH2(a, "/"))
	}
	close(finish)
	if s := p.wait(1); s.status() != 200 {
		t.Errorf("%+v, %v", s, p.ended)
	}
	_ = p.drain()
	if up.count() != 1 {
		t.Errorf("%d requests were served, want 1", up.count())
	}
}

// The end of the proxy is as gentle.
func TestServeGivesStreamsTimeToEnd(t *testing.T) {
	finish := make(chan struct{})
	up := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		<-finish
		_, _ = io.WriteString(w, "done")
	})
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Drain = 10 * time.Second }, bearer("for-a", host))
	p := w.h2()
	p.ask(1, plainH2(up.authority(host), "/"))
	eventually(t, "the request does not arrive", func() bool { return up.count() == 1 })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.stop()
	}()
	w.awaitStop()
	close(finish)
	if s := p.wait(1); s.status() != 200 || s.data.String() != "done" {
		t.Errorf("%+v, %v", s, p.ended)
	}
	<-ended
}

// A connection without requests ends politely, and one with them stays.
func TestAnIdleHTTP2ConnectionEnds(t *testing.T) {
	finish := make(chan struct{})
	up := newOrigin(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			<-finish
		}
	})
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.IdleTimeout = 300 * time.Millisecond }, bearer("for-a", host))
	a := up.authority(host)
	held, idle := w.h2(), w.h2()
	held.ask(1, plainH2(a, "/held"))
	idle.ask(1, plainH2(a, "/"))
	if s := idle.wait(1); s.status() != 200 {
		t.Errorf("%+v", s)
	}
	if err := idle.drain(); err != nil || idle.code != http2.ErrCodeNo || idle.last != 1 {
		t.Errorf("the idle connection ended with %v, %v, last %d", err, idle.code, idle.last)
	}
	close(finish)
	if s := held.wait(1); s.status() != 200 {
		t.Errorf("the other: %+v, %v", s, held.ended)
	}
	if err := held.drain(); err != nil || held.code != http2.ErrCodeNo {
		t.Errorf("the other connection ended with %v, %v", err, held.code)
	}
}

// After the inner server has said goodbye, streams of the fast path may end.
func TestHTTP2StreamsOutliveTheInnerServersGoodbye(t *testing.T) {
	p, free := heldRequest(t)
	defer free()
	_ = p.WriteGoAway(0, http2.ErrCodeNo, nil)
	var last uint32
	if !p.until(3*time.Second, func(f http2.Frame) bool {
		g, ok := f.(*http2.GoAwayFrame)
		if ok {
			last = g.LastStreamID
		}
		return ok
	}) {
		t.Fatal(p.ended)
	}
	// net/http closes a second later
	if p.until(2500*time.Millisecond, func(http2.Frame) bool { return false }); !errors.Is(p.ended, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection ended before stream 1 did, which the GOAWAY says is served (last %d): %v", last, p.ended)
	}
	p.ended = nil
	free()
	_ = p.conn.SetReadDeadline(time.Now().Add(3 * time.Second))
	if s := p.wait(1); s.status() != 200 || !s.ended {
		t.Errorf("stream 1 is answered %d: %v", s.status(), p.ended)
	}
	if err := p.drain(); err != nil {
		t.Errorf("then the connection ends with %v", err)
	}
}

// A stream that a GOAWAY says is not served is not served: its client may send the
// request again elsewhere (RFC 9113, section 6.8).
func TestHTTP2NoStreamIsServedAfterGoAway(t *testing.T) {
	var late atomic.Int32
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.URL.Path == "/late" {
			late.Add(1)
		}
		sized(c, 2)
	})
	for name, goodbye := range map[string]func(*h2Peer){
		"the client's":       func(p *h2Peer) { _ = p.WriteGoAway(0, http2.ErrCodeNo, nil) },
		"for an idle stream": func(p *h2Peer) { _ = p.WriteWindowUpdate(101, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			late.Store(0)
			w := newWorld(t, up, nil, bearer("for-a", host))
			p := w.h2()
			p.ask(1, plainH2(up.authority(host), "/"))
			p.wait(1)
			goodbye(p)
			var last uint32
			if !p.until(3*time.Second, func(f http2.Frame) bool {
				g, ok := f.(*http2.GoAwayFrame)
				if ok {
					last = g.LastStreamID
				}
				return ok
			}) {
				t.Fatal(p.ended)
			}
			p.ask(103, h2Fields(up.authority(host), []string{":method", "POST", ":path", "/late"}))
			_ = p.conn.SetReadDeadline(time.Now().Add(4 * time.Second))
			_ = p.drain()
			if late.Load() != 0 && last < 103 {
				t.Errorf("GOAWAY says %d, and a POST on stream 103 was served: %d", last, p.stream(103).status())
			}
		})
	}
}

// Where nothing can be written to a client any more, its connection ends.
func TestHTTP2AConnectionThatCannotBeWrittenToEnds(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) { sized(c, 48<<20) })
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.WriteTimeout = 300 * time.Millisecond }, bearer("for-a", host))
	p := w.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	_ = p.WriteWindowUpdate(0, 1<<30)
	p.ask(1, plainH2(up.authority(host), "/"))
	if e := w.event(isRequest); e.Code != attache.CodeClientGone {
		t.Fatalf("event %+v", e)
	}
	if p.until(4*time.Second, func(http2.Frame) bool { return false }); errors.Is(p.ended, os.ErrDeadlineExceeded) {
		t.Error("the client is kept waiting on a connection that is dead")
	}
}

// Serve ends, whatever streams wait for.
func TestHTTP2ServeEndsWithStreamsThatHang(t *testing.T) {
	asked, release := make(chan struct{}, 10), make(chan struct{})
	up := speaker(t, func(c net.Conn, r *http.Request) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
		asked <- struct{}{}
		<-release
	})
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Drain = 200 * time.Millisecond }, bearer("for-a", host))
	defer close(release)
	p := w.h2()
	for id := uint32(1); id < 7; id += 2 {
		p.ask(id, plainH2(up.authority(host), "/"))
		<-asked
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); w.stop() }()
	_ = p.conn.SetReadDeadline(time.Now().Add(6 * time.Second))
	_ = p.drain()
	select {
	case <-stopped:
	case <-time.After(6 * time.Second):
		t.Fatal("Serve does not end")
	}
	if all := w.requestEvents(); len(all) != 3 {
		t.Errorf("events %+v", all)
	}
}

// When Serve is told to stop, every client is told at once to go elsewhere, whatever
// a stream of one of them waits for.
func TestHTTP2AHangingStreamKeepsTheGoodbyeFromNobody(t *testing.T) {
	asked, release := make(chan struct{}, 1), make(chan struct{})
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.URL.Path == "/held" {
			asked <- struct{}{}
			<-release
		}
		sized(c, 2)
	})
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Drain = 3 * time.Second }, bearer("for-a", host))
	defer close(release)
	hangs, idle := w.h2(), w.h2()
	hangs.ask(1, plainH2(up.authority(host), "/held"))
	<-asked
	idle.ask(1, plainH2(up.authority(host), "/"))
	idle.wait(1)
	stopped := make(chan struct{})
	go func() { defer close(stopped); w.stop() }()
	if !idle.until(2*time.Second, func(f http2.Frame) bool { return f.Header().Type == http2.FrameGoAway }) {
		t.Errorf("two thirds of the time to drain are over, and there was no GOAWAY: %v", idle.ended)
	}
	<-stopped
}

// A connection without streams ends in time, also where its client sends pings.
func TestHTTP2PingsKeepNoConnectionAlive(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) { sized(c, 2) })
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.IdleTimeout = 300 * time.Millisecond }, bearer("for-a", host))
	p := w.h2()
	p.ask(1, plainH2(up.authority(host), "/"))
	p.wait(1)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 25 {
		<-tick.C
		_ = p.WritePing(false, [8]byte{})
		ended := false
		if !p.until(2*time.Second, func(f http2.Frame) bool {
			ended = f.Header().Type == http2.FrameGoAway
			return ended || f.Header().Type == http2.FramePing
		}) || ended {
			return
		}
	}
	t.Error("after 2.5 s, where 0.3 s are allowed, the connection is there")
}

// The preface has to arrive in time as a whole.
func TestHTTP2ThePrefaceHasToArriveInTime(t *testing.T) {
	if !hasFastPath() {
		return // net/http has ten seconds of its own
	}
	up := speaker(t, func(c net.Conn, r *http.Request) { sized(c, 2) })
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.HeadTimeout = 300 * time.Millisecond }, bearer("for-a", host))
	conn := w.secure(w.open(up.authority(host)), host, "h2")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, _ = io.Copy(io.Discard, conn)
	}()
	tick := time.NewTicker(150 * time.Millisecond)
	defer tick.Stop()
	defer func() { conn.Close(); <-ended }()
	for i := range len(http2.ClientPreface) - 4 {
		select {
		case <-tick.C:
			_, _ = io.WriteString(conn, http2.ClientPreface[i:i+1])
		case <-ended:
			return
		}
	}
	t.Error("after 3 s, where 0.3 s are allowed, it is still waited for")
}

// Serve ends in time, also where a client takes nothing of what is sent to it.
func TestHTTP2ServeEndsWithAClientThatDoesNotRead(t *testing.T) {
	var sent atomic.Int64
	up := speaker(t, func(c net.Conn, r *http.Request) {
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 48<<20)
		for piece, n := strings.Repeat("x", 8<<10), 48<<20; n > 0; n -= len(piece) {
			if _, err := io.WriteString(c, piece); err != nil {
				return
			}
			sent.Add(1)
		}
	})
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Drain = 300 * time.Millisecond }, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	_ = p.WriteWindowUpdate(0, 1<<30)
	p.ask(1, plainH2(a, "/"))
	p.postTo(3, a, "/")
	if !p.until(5*time.Second, isHead(3)) {
		t.Fatal(p.ended)
	}
	last, since := int64(-1), time.Now()
	eventually(t, "the upstream is not stopped", func() bool { // until nothing moves for a while
		if n := sent.Load(); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > 500*time.Millisecond
	})
	stopped := make(chan struct{})
	began := time.Now()
	go func() { defer close(stopped); w.stop() }()
	select {
	case <-stopped:
	case <-time.After(5 * time.Second):
		t.Errorf("Serve goes on after %v, where 0.3 s are allowed", time.Since(began))
		_ = p.conn.(*tls.Conn).NetConn().Close()
	}
	<-stopped
}

// The last goodbye knows of the inner server's streams: a request that was served is
// not to be sent again.
func TestHTTP2TheLastGoodbyeKnowsOfTheInnerServersStreams(t *testing.T) {
	const room = 4 << 20
	served := make(chan struct{}, 10)
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.URL.Path == "/served" {
			served <- struct{}{}
			sized(c, 2)
			return
		}
		if r.URL.Path == "/held" {
			served <- struct{}{}
			_, _ = io.ReadFull(c, make([]byte, 1)) // until the proxy leaves
			return
		}
		sized(c, room)
	})
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Drain = 300 * time.Millisecond }, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	_ = p.WriteWindowUpdate(0, room-65535)
	p.ask(1, plainH2(a, "/"))
	p.takeAll(t, 1, room)
	p.ask(3, plainH2(a, "/held"))
	<-served
	p.postTo(5, a, "/")
	if !p.until(5*time.Second, isHead(5)) {
		t.Fatal(p.ended)
	}
	for range 30 {
		_ = p.WritePing(false, [8]byte{})
		if !p.until(300*time.Millisecond, func(f http2.Frame) bool { return f.Header().Type == http2.FramePing }) {
			break
		}
	}
	p.ended = nil
	p.postTo(7, a, "/served")
	<-served
	go w.stop()
	last, told := uint32(0), false
	p.until(3*time.Second, func(f http2.Frame) bool {
		g, ok := f.(*http2.GoAwayFrame)
		if ok {
			last, told = g.LastStreamID, true
		}
		return false
	})
	if told && last < 7 {
		t.Errorf("a POST on stream 7 was served, and GOAWAY says %d", last)
	}
	w.stop()
}

// A client takes streams behind the last one that it was told of for unserved, and sends
// them again: that cannot be taken back (RFC 9113, section 6.8).
func TestTheLastStreamOfAGoodbyeDoesNotBecomeGreater(t *testing.T) {
	p, free := heldRequest(t)
	defer free()
	_ = p.WriteGoAway(0, http2.ErrCodeNo, nil)
	var last []uint32
	isGoodbye := func(f http2.Frame) bool {
		g, ok := f.(*http2.GoAwayFrame)
		if ok {
			last = append(last, g.LastStreamID)
		}
		return ok
	}
	p.until(2*time.Second, isGoodbye)
	p.ended = nil
	p.ask(3, plainH2("x", "/"))
	p.ask(5, plainH2("x", "/"))
	_ = p.WriteRawFrame(http2.FrameWindowUpdate, 0, 0, []byte{1})
	p.until(2*time.Second, isGoodbye)
	if len(last) < 2 && hasFastPath() || len(last) == 2 && last[1] > last[0] {
		t.Errorf("the last streams are said to be %v", last)
	}
}
