package proxy_test

import (
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"attache/proxy"
)

// What the inner server's header blocks say depends on the ones before: they must
// arrive in the order in which they were made (RFC 7541, section 2.2), whatever else
// is held.
func TestHTTP2HeldTrailersKeepTheirPlaceAmongHeaderBlocks(t *testing.T) {
	if !hasFastPath() {
		return // nothing is held there
	}
	for name, reset := range map[string]bool{"held": false, "dropped by a reset": true} {
		t.Run(name, func(t *testing.T) {
			up := trailing(t)
			w := newWorld(t, up, nil, bearer("for-a", host))
			a := up.authority(host)
			p := w.h2()
			p.stingy = true
			_ = p.conn.SetReadDeadline(time.Now().Add(8 * time.Second))
			p.ask(1, plainH2(a, "/"))
			if s := p.wait(1); s.data.Len() != 65535 {
				t.Fatal(p.ended)
			}
			p.postTo(3, a, "/trailer")
			for len(p.stream(3).heads) == 0 && p.read() {
			}
			eventually(t, "the request goes on", func() bool { return len(w.requestEvents()) == 2 })
			for range 3 { // the inner server has written the trailer then
				p.pong()
			}
			if reset {
				_ = p.WriteRSTStream(3, http2.ErrCodeCancel)
				p.pong()
			}
			p.postTo(5, a, "/plain")
			for len(p.stream(5).heads) == 0 && p.read() {
			}
			s := p.stream(5)
			if s.fieldOf("x-a") != "one" || s.fieldOf("x-b") != "two" || s.fieldOf("x-sum") != "" {
				t.Errorf("the head of stream 5 is %v, %v", s.heads, p.ended)
			}
		})
	}
}

// What is held keeps within the room of its stream, too, which a client may make
// smaller (RFC 9113, section 6.9.2).
func TestHTTP2HeldDataKeepsWithinItsStream(t *testing.T) {
	if !hasFastPath() {
		return // nothing is held there
	}
	up := filler(t)
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2()
	p.stingy = true
	_ = p.conn.SetReadDeadline(time.Now().Add(8 * time.Second))
	p.ask(1, plainH2(a, "/"))
	p.wait(1)
	p.postTo(3, a, "/")
	for len(p.stream(3).heads) == 0 && p.read() {
	}
	eventually(t, "the request goes on", func() bool { return len(w.requestEvents()) == 2 })
	for range 3 {
		p.pong()
	}
	_ = p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	if !p.until(3*time.Second, isSettingsAck) {
		t.Fatal(p.ended)
	}
	_ = p.WriteWindowUpdate(0, 65535)
	for range 3 {
		p.pong()
	}
	if n := p.stream(3).data.Len(); n > 0 {
		t.Errorf("the proxy has acknowledged that the room of stream 3 is 0, and sends %d bytes: %v", n, p.ended)
	}
}

// A connection on which data was sent a moment ago is not idle.
func TestHTTP2AConnectionThatSentWhatWasHeldIsNotIdle(t *testing.T) {
	up := filler(t)
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.IdleTimeout = time.Second }, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2()
	p.ask(1, plainH2(a, "/"))
	p.takeAll(t, 1, 65535)
	p.postTo(3, a, "/")
	if !p.until(3*time.Second, isHead(3)) {
		t.Fatal(p.ended)
	}
	if p.until(1300*time.Millisecond, func(f http2.Frame) bool { return f.Header().Type == http2.FrameGoAway }); !errors.Is(p.ended, os.ErrDeadlineExceeded) {
		t.Fatal("the connection ended with a stream open", p.ended)
	}
	p.ended = nil
	_ = p.WriteWindowUpdate(0, 65535)
	p.takeAll(t, 3, 8<<10)
	p.ask(5, plainH2(a, "/"))
	if !p.until(3*time.Second, isHead(5)) {
		t.Errorf("stream 3 had its last byte a moment ago, and stream 5 is not served: %v", p.ended)
	}
}

// Serve gives an answer that waits for room its time to end, too.
func TestHTTP2ServeGivesWhatIsHeldTimeToEnd(t *testing.T) {
	if !hasFastPath() {
		return // nothing is held there
	}
	up := filler(t)
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2()
	p.stingy = true
	_ = p.conn.SetReadDeadline(time.Now().Add(8 * time.Second))
	p.ask(1, plainH2(a, "/"))
	p.wait(1)
	p.postTo(3, a, "/")
	for len(p.stream(3).heads) == 0 && p.read() {
	}
	eventually(t, "the request goes on", func() bool { return len(w.requestEvents()) == 2 })
	for range 3 {
		p.pong()
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); w.stop() }()
	if !p.until(4*time.Second, func(f http2.Frame) bool { return f.Header().Type == http2.FrameGoAway }) {
		t.Fatal(p.ended)
	}
	if p.until(1500*time.Millisecond, func(http2.Frame) bool { return false }); !errors.Is(p.ended, os.ErrDeadlineExceeded) {
		t.Fatalf("of five seconds to drain, less than two are over, and the connection ends: %v", p.ended)
	}
	p.ended = nil
	_ = p.conn.SetReadDeadline(time.Now().Add(3 * time.Second))
	_ = p.WriteWindowUpdate(0, 65535)
	if s := p.wait(3); s.data.Len() != 8<<10 || !s.ended || s.cut {
		t.Errorf("stream 3 has %d bytes: %v", s.data.Len(), p.ended)
	}
	<-stopped
}

// A stream that is reset at the moment when it is given up is not the end of the
// connection.
func TestHTTP2AResetWhenAStreamIsGivenUp(t *testing.T) {
	if !hasFastPath() {
		return // nothing is held there
	}
	up := filler(t)
	const limit = 60 * time.Millisecond
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.WriteTimeout = limit }, bearer("for-a", host))
	a := up.authority(host)
	stop := time.Now().Add(3 * time.Second)
	var all sync.WaitGroup
	var tries atomic.Int32
	for i := range 24 {
		peer := w.h2()
		all.Go(func() {
			p := peer
			p.ask(1, plainH2(a, "/"))
			p.stingy = true
			p.wait(1)
			for id := uint32(3); time.Now().Before(stop); id += 2 {
				p.postTo(id, a, "/")
				for len(p.stream(id).heads) == 0 && p.read() {
				}
				timer := time.NewTimer(limit - time.Millisecond + time.Duration((int(id)*37+i*11)%30)*100*time.Microsecond)
				<-timer.C
				_ = p.WriteRSTStream(id, http2.ErrCodeCancel)
				tries.Add(1)
				if !p.pong() || p.code != 0 || p.stream(0).cut {
					t.Errorf("try %d: the connection ends with %v, %v, reset of stream 0: %v", tries.Load(), p.code, p.ended, p.stream(0).cut)
					return
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d tries", tries.Load())
}

// Each stream is waited for from its own beginning on.
func TestHTTP2AStreamIsNotGivenUpForAnothersWait(t *testing.T) {
	if !hasFastPath() {
		return
	}
	up := filler(t)
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.WriteTimeout = 1500 * time.Millisecond }, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2()
	p.ask(1, plainH2(a, "/"))
	p.takeAll(t, 1, 65535)
	p.postTo(3, a, "/")
	if !p.until(3*time.Second, isHead(3)) {
		t.Fatal(p.ended)
	}
	p.until(1100*time.Millisecond, func(http2.Frame) bool { return false })
	p.ended = nil
	p.postTo(5, a, "/")
	if !p.until(3*time.Second, isHead(5)) {
		t.Fatal(p.ended)
	}
	began := time.Now()
	_ = p.WritePing(false, [8]byte{})
	p.until(time.Second, func(f http2.Frame) bool { return f.Header().Type == http2.FramePing })
	_ = p.WriteRSTStream(3, http2.ErrCodeCancel)
	if p.until(time.Second, func(f http2.Frame) bool { r, ok := f.(*http2.RSTStreamFrame); return ok && r.StreamID == 5 }) {
		t.Errorf("stream 5 is given up after %v, where 1.5 s are allowed", time.Since(began))
	}
}

// What the inner server is told may come between the bytes of a frame's head.
func TestHTTP2AStreamIsGivenUpInsideAFrameHead(t *testing.T) {
	if !hasFastPath() {
		return
	}
	up := filler(t)
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.WriteTimeout = 300 * time.Millisecond }, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2()
	p.ask(1, plainH2(a, "/"))
	p.takeAll(t, 1, 65535)
	for id := uint32(3); id < 9; id += 2 {
		cut := int(id) // of a frame of 17 bytes
		p.postTo(id, a, "/")
		var ping strings.Builder
		_ = http2.NewFramer(&ping, nil).WritePing(false, [8]byte{byte(id)})
		_, _ = io.WriteString(p.conn, ping.String()[:cut])
		if !p.until(3*time.Second, func(f http2.Frame) bool { r, ok := f.(*http2.RSTStreamFrame); return ok && r.StreamID == id }) {
			t.Fatal(p.ended)
		}
		_, _ = io.WriteString(p.conn, ping.String()[cut:])
		if !p.until(3*time.Second, func(f http2.Frame) bool { g, ok := f.(*http2.PingFrame); return ok && g.Data[0] == byte(id) }) {
			t.Fatal(p.ended)
		}
	}
	p.ask(21, plainH2(a, "/"))
	_ = p.WriteWindowUpdate(0, 65535)
	p.takeAll(t, 21, 65535)
}

// After the client's goodbye, what is held goes out as the client grants room.
func TestHTTP2WhatIsHeldOutlivesTheGoodbye(t *testing.T) {
	if !hasFastPath() {
		return
	}
	up := filler(t)
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2()
	p.ask(1, plainH2(a, "/"))
	p.takeAll(t, 1, 65535)
	p.postTo(3, a, "/")
	if !p.until(3*time.Second, isHead(3)) {
		t.Fatal(p.ended)
	}
	_ = p.WriteGoAway(0, http2.ErrCodeNo, nil)
	if p.until(1500*time.Millisecond, func(http2.Frame) bool { return false }); !errors.Is(p.ended, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection ends with a stream open: %v", p.ended)
	}
	p.ended = nil
	_ = p.WriteWindowUpdate(0, 65535)
	p.takeAll(t, 3, 8<<10)
	_ = p.conn.SetReadDeadline(time.Now().Add(3 * time.Second))
	if err := p.drain(); err != nil {
		t.Errorf("the connection ends with %v", err)
	}
}

// What a GOAWAY says is not served, a client may ask again elsewhere (RFC 9113,
// section 6.8): it must not be a stream that was served, and is being answered.
func TestHTTP2TheGoodbyeKnowsOfWhatIsHeld(t *testing.T) {
	up := filler(t)
	for range 10 {
		w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Drain = 500 * time.Millisecond }, bearer("for-a", host))
		a := up.authority(host)
		p := w.h2()
		p.ask(1, plainH2(a, "/"))
		p.takeAll(t, 1, 65535)
		p.postTo(3, a, "/")
		if !p.until(3*time.Second, isHead(3)) {
			t.Fatal(p.ended)
		}
		if hasFastPath() {
			eventually(t, "the request goes on", func() bool { return len(w.requestEvents()) == 2 })
		}
		for i := range byte(3) {
			_ = p.WritePing(false, [8]byte{i})
			p.until(time.Second, func(f http2.Frame) bool { return f.Header().Type == http2.FramePing })
		}
		go w.stop()
		all := []uint32{}
		p.until(2*time.Second, func(f http2.Frame) bool {
			if g, ok := f.(*http2.GoAwayFrame); ok {
				all = append(all, g.LastStreamID)
			}
			return false
		})
		for _, last := range all {
			if last < 3 {
				t.Fatalf("the client has the head of the answer on stream 3, and GOAWAY says %v", all)
			}
		}
		w.stop()
	}
}

// Who takes a byte of what is held now and then is not waited for.
func TestHTTP2WhatIsHeldIsNotKeptForSingleBytes(t *testing.T) {
	up := filler(t)
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.WriteTimeout = 300 * time.Millisecond }, bearer("for-a", host))
	p := w.h2()
	p.haveHeld(t, up.authority(host))
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 30 {
		<-tick.C
		_ = p.WriteWindowUpdate(0, 1)
		ended := false
		if !p.until(2*time.Second, func(f http2.Frame) bool {
			ended = f.Header().Type == http2.FrameRSTStream
			return ended || f.Header().Type == http2.FrameData
		}) || ended {
			return
		}
	}
	t.Error("30 bytes in 3 s, where a write may take 0.3 s")
}
