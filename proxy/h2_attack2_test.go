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
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"attache/proxy"
)

// fieldOf is the value of a field of the stream's first head.
func (s *h2Answer) fieldOf(name string) string {
	if len(s.heads) > 0 {
		for _, f := range s.heads[0] {
			if f.Name == name {
				return f.Value
			}
		}
	}
	return ""
}

// pong waits for the answer to a ping, and reads what comes before it.
func (p *h2Peer) pong() bool {
	_ = p.WritePing(false, [8]byte{7})
	for p.ended == nil {
		f, err := p.ReadFrame()
		if err != nil {
			p.ended = err
			return false
		}
		if g, ok := f.(*http2.PingFrame); ok && g.IsAck() {
			return true
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			p.last, p.code = g.LastStreamID, g.ErrCode
		}
		if d, ok := f.(*http2.DataFrame); ok {
			p.stream(d.StreamID).data.Write(d.Data())
		}
		if h, ok := f.(*http2.HeadersFrame); ok {
			p.decode(h.StreamID, h.HeaderBlockFragment(), h.HeadersEnded())
		}
		if r, ok := f.(*http2.RSTStreamFrame); ok {
			s := p.stream(r.StreamID)
			s.ended, s.reset, s.cut = true, r.ErrCode, true
		}
	}
	return false
}

// trailing answers GET with what fills the room, and POST with what the paths say.
func trailing(t testing.TB) *origin {
	return speaker(t, func(c net.Conn, r *http.Request) {
		switch {
		case r.Method == "GET":
			sized(c, 65535)
		case r.URL.Path == "/trailer":
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-A: one\r\nX-B: two\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\nX-Sum: three\r\n\r\n")
		default:
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-A: one\r\nX-B: two\r\nContent-Length: 0\r\n\r\n")
		}
	})
}

// What the inner server's header blocks say depends on the ones before: they must
// arrive in the order in which they were made (RFC 7541, section 2.2), whatever else
// is held.
func TestH2Attack2HeldTrailersKeepTheirPlaceAmongHeaderBlocks(t *testing.T) {
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
func TestH2Attack2HeldDataKeepsWithinItsStream(t *testing.T) {
	if !hasFastPath() {
		return // nothing is held there
	}
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.Method == "POST" {
			sized(c, 8<<10)
			return
		}
		sized(c, 65535)
	})
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
	if !p.until(3*time.Second, func(f http2.Frame) bool { s, ok := f.(*http2.SettingsFrame); return ok && s.IsAck() }) {
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
func TestH2Attack2AConnectionThatSentWhatWasHeldIsNotIdle(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.Method == "POST" {
			sized(c, 8<<10)
			return
		}
		sized(c, 65535)
	})
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

// Streams that were refused, and of which the client says no more, are forgotten.
func TestH2Attack2RefusedStreamsAreForgotten(t *testing.T) {
	asked, release := make(chan struct{}, 10), make(chan struct{}, 10)
	up := speaker(t, func(c net.Conn, r *http.Request) {
		asked <- struct{}{}
		<-release
		sized(c, 2)
	})
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Streams = 2 }, bearer("for-a", host))
	defer close(release)
	a := up.authority(host)
	p := w.h2()
	_ = p.conn.SetReadDeadline(time.Now().Add(8 * time.Second))
	id := uint32(1)
	for round := range 5 {
		for range 2 {
			p.ask(id, plainH2(a, "/"))
			<-asked
			id += 2
		}
		// refused, and so the client sends no body
		_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.encode(h2Fields(a, []string{":method", "POST", ":path", "/"})), EndHeaders: true})
		if s := p.wait(id); s.reset != http2.ErrCodeRefusedStream && s.reset != http2.ErrCodeProtocol {
			t.Fatalf("round %d: one stream too many is answered %+v: %v, %v", round, s, p.code, p.ended)
		}
		release <- struct{}{}
		release <- struct{}{}
		for i := id - 4; i < id; i += 2 {
			if s := p.wait(i); s.status() != 200 {
				t.Fatalf("round %d: answer %d: %v, %v", round, s.status(), p.code, p.ended)
			}
		}
		id += 2
	}
}

// A stream that its client has reset counts no more (RFC 9113, section 5.1.2).
func TestH2Attack2AResetStreamLeavesItsPlace(t *testing.T) {
	asked := make(chan struct{}, 100)
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			asked <- struct{}{}
			<-r.Context().Done()
		}
	})
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Streams = 1 }, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2()
	_ = p.conn.SetReadDeadline(time.Now().Add(8 * time.Second))
	for id := uint32(1); id < 40; id += 4 {
		p.ask(id, plainH2(a, "/held"))
		<-asked
		var both strings.Builder // in one record
		f := http2.NewFramer(&both, nil)
		_ = f.WriteRSTStream(id, http2.ErrCodeCancel)
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id + 2, BlockFragment: p.encode(plainH2(a, "/")), EndStream: true, EndHeaders: true})
		_, _ = io.WriteString(p.conn, both.String())
		if s := p.wait(id + 2); s.status() != 200 {
			t.Fatalf("the one stream that there is is answered %d, reset %v: %v", s.status(), s.reset, p.ended)
		}
		eventually(t, "the stream that was reset goes on", func() bool { return len(w.requestEvents()) == int(id+3)/2 })
	}
}

// The first frame that the server sends is its settings (RFC 9113, section 3.4).
func TestH2Attack2NothingComesBeforeTheSettings(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) { sized(c, 2) })
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Streams = 1 }, bearer("for-a", host))
	a := up.authority(host)
	limit := time.After(8 * time.Second)
	for i := range 300 {
		select {
		case <-limit:
			return
		default:
		}
		conn := w.secure(w.open(a), host, "h2")
		var all strings.Builder // in one record
		all.WriteString(http2.ClientPreface)
		f := http2.NewFramer(&all, nil)
		_ = f.WriteSettings()
		e := newBlocks()
		for id := uint32(1); id < 20; id += 2 {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: e.encode(h2Fields(a, []string{":method", "POST", ":path", "/"})), EndHeaders: true})
		}
		_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
		_, _ = io.WriteString(conn, all.String())
		first, err := http2.NewFramer(nil, conn).ReadFrame()
		_ = conn.Close()
		if err != nil {
			t.Fatal(err)
		}
		if first.Header().Type != http2.FrameSettings {
			t.Fatalf("connection %d: the first frame is %v", i, first.Header())
		}
	}
}

// newBlocks is an encoder alone.
func newBlocks() *h2Peer {
	p := &h2Peer{}
	p.encoder = hpack.NewEncoder(&p.block)
	return p
}

// Serve gives an answer that waits for room its time to end, too.
func TestH2Attack2ServeGivesWhatIsHeldTimeToEnd(t *testing.T) {
	if !hasFastPath() {
		return // nothing is held there
	}
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.Method == "POST" {
			sized(c, 8<<10)
			return
		}
		sized(c, 65535)
	})
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
func TestH2Attack2AResetWhenAStreamIsGivenUp(t *testing.T) {
	if !hasFastPath() {
		return // nothing is held there
	}
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.Method == "POST" {
			sized(c, 8<<10)
			return
		}
		sized(c, 65535)
	})
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
func TestH2Attack2AStreamIsNotGivenUpForAnothersWait(t *testing.T) {
	if !hasFastPath() {
		return
	}
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.Method == "POST" {
			sized(c, 8<<10)
			return
		}
		sized(c, 65535)
	})
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
func TestH2Attack2AStreamIsGivenUpInsideAFrameHead(t *testing.T) {
	if !hasFastPath() {
		return
	}
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.Method == "POST" {
			sized(c, 8<<10)
			return
		}
		sized(c, 65535)
	})
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
func TestH2Attack2WhatIsHeldOutlivesTheGoodbye(t *testing.T) {
	if !hasFastPath() {
		return
	}
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.Method == "POST" {
			sized(c, 8<<10)
			return
		}
		sized(c, 65535)
	})
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
func TestH2Attack2TheGoodbyeKnowsOfWhatIsHeld(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.Method == "POST" {
			sized(c, 8<<10)
			return
		}
		sized(c, 65535)
	})
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

// Settings that the inner server acknowledges together are acknowledged all.
func TestH2Attack2SettingsMayBeAcknowledgedTogether(t *testing.T) {
	if !hasFastPath() {
		return
	}
	up := newOrigin(t, echo)
	w := newWorld(t, up, nil, bearer("for-a", host))
	p := w.h2()
	var all strings.Builder // in one record
	f := http2.NewFramer(&all, nil)
	for range 50 {
		_ = f.WriteSettings()
	}
	_ = f.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
	_, _ = io.WriteString(p.conn, all.String())
	_ = p.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	for range 3 {
		p.pong()
	}
	p.ask(1, plainH2(up.authority(host), "/"))
	if s := p.wait(1); !strings.HasPrefix(s.data.String(), "HTTP/1.1") {
		t.Errorf("the fast path is left for good: %q, %v", s.data.String(), p.ended)
	}
}

// Serve ends in time, also where a client takes nothing of what is sent to it.
func TestH2Attack2ServeEndsWithAClientThatDoesNotRead(t *testing.T) {
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
func TestH2Attack2TheLastGoodbyeKnowsOfTheInnerServersStreams(t *testing.T) {
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
