package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"attache"
	"attache/proxy"
	"attache/secret"
)

// speaker is a raw HTTP/1.1 upstream. answer writes the whole answer.
func speaker(t testing.TB, answer func(c net.Conn, r *http.Request)) *origin {
	return rawUpstream(t, func(c net.Conn, br *bufio.Reader) {
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			answer(c, r)
		}
	})
}

// sized writes an answer of n bytes.
func sized(c net.Conn, n int) {
	fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", n)
	for piece := strings.Repeat("x", 8<<10); n > 0; n -= len(piece) {
		if _, err := io.WriteString(c, piece[:min(n, len(piece))]); err != nil {
			return
		}
	}
}

// postTo is a request with a body, which the inner server gets.
func (p *h2Peer) postTo(id uint32, authority, path string) {
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.encode(h2Fields(authority, []string{":method", "POST", ":path", path})), EndHeaders: true})
	_ = p.WriteData(id, true, []byte("body"))
}

// until reads frames, and grants no room, until one is what is wanted.
func (p *h2Peer) until(d time.Duration, is func(http2.Frame) bool) bool {
	_ = p.conn.SetReadDeadline(time.Now().Add(d))
	for {
		f, err := p.ReadFrame()
		if err != nil {
			p.ended = err
			return false
		}
		if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
			_ = p.WriteSettingsAck()
		}
		if is(f) {
			return true
		}
	}
}

func isHead(id uint32) func(http2.Frame) bool {
	return func(f http2.Frame) bool { h, ok := f.(*http2.HeadersFrame); return ok && h.StreamID == id }
}

// takeAll has the fast path use up the room on the connection.
func (p *h2Peer) takeAll(t testing.TB, id uint32, n int) {
	t.Helper()
	if !p.until(5*time.Second, func(f http2.Frame) bool {
		d, ok := f.(*http2.DataFrame)
		if ok && d.StreamID == id {
			n -= len(d.Data())
		}
		return n <= 0
	}) {
		t.Fatalf("stream %d stopped with %d bytes to come: %v", id, n, p.ended)
	}
}

// Streams whose upstream says nothing (server-sent events, long polls) must not
// keep the room of those that have something to say.
func TestH2AttackIdleStreamsHoldNoRoom(t *testing.T) {
	release := make(chan struct{})
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.URL.Path == "/idle" {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			<-release
			_, _ = io.WriteString(c, "0\r\n\r\n")
			return
		}
		sized(c, 2)
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	defer close(release)
	p := w.h2()
	for id := uint32(1); id < 11; id += 2 {
		p.ask(id, plainH2(up.authority(host), "/idle"))
		if !p.until(5*time.Second, isHead(id)) {
			t.Fatal(p.ended)
		}
	}
	p.ask(11, plainH2(up.authority(host), "/x"))
	_ = p.conn.SetReadDeadline(time.Now().Add(3 * time.Second))
	if s := p.wait(11); !s.ended || s.data.String() != "ok" && s.data.Len() != 2 {
		t.Errorf("five idle streams, on which not one byte was sent, and there is no room for two bytes: %v", p.ended)
	}
}

// The room that the fast path has used up must not keep the inner server from
// speaking of other things than data.
func TestH2AttackPingsAreAnsweredWithoutRoom(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.Method == "POST" {
			sized(c, 2)
			return
		}
		sized(c, 65535)
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	p := w.h2()
	p.ask(1, plainH2(up.authority(host), "/"))
	p.takeAll(t, 1, 65535)
	p.postTo(3, up.authority(host), "/")
	if !p.until(5*time.Second, isHead(3)) {
		t.Fatal(p.ended)
	}
	for i := range byte(20) {
		_ = p.WritePing(false, [8]byte{i})
		if !p.until(2*time.Second, func(f http2.Frame) bool { g, ok := f.(*http2.PingFrame); return ok && g.IsAck() && g.Data[0] == i }) {
			t.Fatalf("ping %d is not answered: %v", i, p.ended)
		}
	}
}

// An upload needs the server's word that there is room for it, whatever waits in the
// other direction.
func TestH2AttackUploadsGoOnWithoutRoom(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.URL.Path == "/small" {
			sized(c, 2)
			return
		}
		sized(c, 65535)
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	p := w.h2()
	a := up.authority(host)
	p.ask(1, plainH2(a, "/"))
	p.takeAll(t, 1, 65535)
	p.postTo(3, a, "/small")
	if !p.until(5*time.Second, isHead(3)) {
		t.Fatal(p.ended)
	}
	// 1 MiB is what the inner server takes of a stream before it says more.
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 5, BlockFragment: p.encode(h2Fields(a, []string{":method", "POST", ":path", "/small"})), EndHeaders: true})
	piece := make([]byte, 16<<10)
	for range 60 {
		_ = p.WriteData(5, false, piece)
	}
	if !p.until(3*time.Second, func(f http2.Frame) bool { u, ok := f.(*http2.WindowUpdateFrame); return ok && u.StreamID == 5 }) {
		t.Errorf("no room for the upload: %v", p.ended)
	}
}

// A stream that waits too long for room is not the end of the connection.
func TestH2AttackAStreamWithoutRoomEndsAlone(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.Method == "POST" {
			sized(c, 2)
			return
		}
		sized(c, 65535)
	})
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.WriteTimeout = 300 * time.Millisecond }, bearer("for-a", host))
	p := w.h2()
	p.ask(1, plainH2(up.authority(host), "/"))
	p.takeAll(t, 1, 65535)
	p.postTo(3, up.authority(host), "/")
	if !p.until(5*time.Second, func(f http2.Frame) bool { r, ok := f.(*http2.RSTStreamFrame); return ok && r.StreamID == 3 }) && !errors.Is(p.ended, os.ErrDeadlineExceeded) {
		t.Errorf("the connection ended: %v", p.ended)
	}
}

// The inner server's answer gets its share of what the client grants.
func TestH2AttackTheInnerServerIsNotStarved(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.Method == "POST" {
			sized(c, 8<<10)
			return
		}
		sized(c, 64<<20)
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	p := w.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	p.ask(1, plainH2(up.authority(host), "/"))
	p.takeAll(t, 1, 65535)
	p.postTo(3, up.authority(host), "/")
	if !p.until(5*time.Second, isHead(3)) {
		t.Fatal(p.ended)
	}
	got := map[uint32]int{}
	for range 500 {
		_ = p.WriteWindowUpdate(0, 1024)
		left := 1024
		if !p.until(2*time.Second, func(f http2.Frame) bool {
			if d, ok := f.(*http2.DataFrame); ok {
				got[d.StreamID] += len(d.Data())
				left -= len(d.Data())
			}
			return left <= 0 || got[3] == 8<<10
		}) {
			t.Fatal(p.ended)
		}
		if got[3] == 8<<10 {
			return
		}
	}
	t.Errorf("while the fast path sent %d bytes, the inner server sent %d", got[1], got[3])
}

// What room there is, the inner server uses.
func TestH2AttackTheInnerServerUsesTheRoomThatThereIs(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.Method == "POST" {
			sized(c, 8<<10)
			return
		}
		sized(c, 60_000)
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	p := w.h2()
	p.ask(1, plainH2(up.authority(host), "/"))
	p.takeAll(t, 1, 60_000)
	p.postTo(3, up.authority(host), "/")
	got := 0
	if !p.until(3*time.Second, func(f http2.Frame) bool {
		if d, ok := f.(*http2.DataFrame); ok && d.StreamID == 3 {
			got += len(d.Data())
		}
		return got == 5535
	}) {
		t.Errorf("of 5535 bytes of room it used %d: %v", got, p.ended)
	}
}

// A stream that is reset while its token is refreshed leaves no deadline on the
// connection that goes back to the pool.
func TestH2AttackACancelledStreamLeavesTheUpstreamConnectionAsItWas(t *testing.T) {
	var n atomic.Int32
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if n.Add(1) == 1 {
			_, _ = io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
			return
		}
		sized(c, 2)
	})
	for _, protocol := range []string{"h2", "http/1.1"} {
		t.Run(protocol, func(t *testing.T) {
			n.Store(0)
			w := newWorld(t, up, nil, oauthConnection())
			refreshing := make(chan struct{}, 1)
			w.fresh = func(ctx context.Context, _, _ string, used uint64) (attache.Grant, error) {
				if used != 0 {
					refreshing <- struct{}{}
					<-ctx.Done()
					return attache.Grant{}, ctx.Err()
				}
				return attache.Grant{State: attache.GrantActive, Generation: 1, AccessToken: secret.New(canary)}, nil
			}
			a := up.authority(host)
			p := w.h2()
			if protocol == "h2" {
				p.ask(1, plainH2(a, "/1"))
				<-refreshing
				_ = p.WriteRSTStream(1, http2.ErrCodeCancel)
			} else {
				conn := w.secure(w.open(a), host)
				fmt.Fprintf(conn, "GET /1 HTTP/1.1\r\nHost: %s\r\n\r\n", a)
				<-refreshing
				_ = conn.Close()
			}
			w.event(isRequest)
			p.ask(3, plainH2(a, "/2"))
			if s := p.wait(3); s.status() != 200 {
				t.Errorf("the next request is answered %d %s", s.status(), s.data.String())
			}
		})
	}
}

// A header block is in one piece (RFC 9113, section 4.3), whoever writes it.
func TestH2AttackNothingComesBetweenHeadersAndContinuation(t *testing.T) {
	var large strings.Builder
	for i := range 50 {
		fmt.Fprintf(&large, "X-%d: %s\r\n", i, strings.Repeat("&", 1000))
	}
	var answered atomic.Int32
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.Method == "POST" {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+large.String()+"Content-Length: 0\r\n\r\n")
			answered.Add(1)
			return
		}
		sized(c, 4<<20)
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	_ = p.WriteWindowUpdate(0, 1<<30)
	id := uint32(1)
	for range 6 {
		p.ask(id, plainH2(a, "/"))
		id += 2
	}
	for range 8 {
		p.postTo(id, a, "/")
		id += 2
	}
	eventually(t, "no answers", func() bool { return answered.Load() == 8 })
	open, bad, ended := uint32(0), "", 0
	if !p.until(12*time.Second, func(f http2.Frame) bool {
		h := f.Header()
		if open != 0 && (h.Type != http2.FrameContinuation || h.StreamID != open) {
			bad = fmt.Sprintf("%v inside the header block of stream %d", h, open)
			return true
		}
		if h.Type == http2.FrameHeaders || h.Type == http2.FrameContinuation {
			open = h.StreamID
			if h.Flags&http2.FlagHeadersEndHeaders != 0 {
				open = 0
			}
		}
		if h.Flags&http2.FlagDataEndStream != 0 && (h.Type == http2.FrameData || h.Type == http2.FrameHeaders) {
			ended++
		}
		return ended == 14
	}) {
		t.Fatal(p.ended)
	}
	if bad != "" {
		t.Error(bad)
	}
}

// After the inner server has said goodbye, streams of the fast path may end.
func TestH2AttackStreamsOutliveTheInnerServersGoodbye(t *testing.T) {
	asked, release := make(chan struct{}, 1), make(chan struct{})
	up := speaker(t, func(c net.Conn, r *http.Request) {
		asked <- struct{}{}
		<-release
		sized(c, 2)
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	free := sync.OnceFunc(func() { close(release) })
	defer free()
	p := w.h2()
	p.ask(1, plainH2(up.authority(host), "/"))
	<-asked
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
func TestH2AttackNoStreamIsServedAfterGoAway(t *testing.T) {
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
func TestH2AttackAConnectionThatCannotBeWrittenToEnds(t *testing.T) {
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

// Limits.Streams is for the whole connection.
func TestH2AttackStreamsAreLimited(t *testing.T) {
	asked, release := make(chan struct{}, 10), make(chan struct{})
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.URL.Path == "/held" {
			asked <- struct{}{}
			<-release
		}
		sized(c, 2)
	})
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Streams = 2 }, bearer("for-a", host))
	defer close(release)
	p := w.h2()
	for id := uint32(1); id < 5; id += 2 {
		p.ask(id, plainH2(up.authority(host), "/held"))
		<-asked
	}
	p.ask(5, plainH2(up.authority(host), "/more"))
	_ = p.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if s := p.wait(5); !s.cut {
		t.Errorf("two streams are allowed, and the third is answered %d: %v", s.status(), p.ended)
	}
}

// A client that made its table smaller is told so at the beginning of the next
// header block (RFC 7541, section 4.2).
func TestH2AttackATableThatBecameSmallerIsAcknowledged(t *testing.T) {
	asked, release := make(chan struct{}, 1), make(chan struct{})
	up := speaker(t, func(c net.Conn, r *http.Request) {
		asked <- struct{}{}
		<-release
		sized(c, 2)
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	free := sync.OnceFunc(func() { close(release) })
	defer free()
	p := w.h2()
	p.ask(1, plainH2(up.authority(host), "/"))
	<-asked
	if !p.until(3*time.Second, func(f http2.Frame) bool { s, ok := f.(*http2.SettingsFrame); return ok && s.IsAck() }) {
		t.Fatal(p.ended)
	}
	_ = p.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
	if !p.until(3*time.Second, func(f http2.Frame) bool { s, ok := f.(*http2.SettingsFrame); return ok && s.IsAck() }) {
		t.Fatal(p.ended)
	}
	free()
	first := byte(0)
	p.until(3*time.Second, func(f http2.Frame) bool {
		h, ok := f.(*http2.HeadersFrame)
		if ok {
			first = h.HeaderBlockFragment()[0]
		}
		return ok
	})
	if first&0xe0 != 0x20 {
		t.Errorf("the block begins with %#x, which is no new size", first)
	}
}

// The end of a body needs no room.
func TestH2AttackABodyThatFillsTheRoomEnds(t *testing.T) {
	for name, answer := range map[string]string{
		"a length": "HTTP/1.1 200 OK\r\nContent-Length: 65535\r\n\r\n" + strings.Repeat("x", 65535),
		"chunks":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n" + strings.Repeat("x", 65535) + "\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			up := speaker(t, func(c net.Conn, r *http.Request) { _, _ = io.WriteString(c, answer) })
			w := newWorld(t, up, nil, bearer("for-a", host))
			p := w.h2()
			p.stingy = true
			p.ask(1, plainH2(up.authority(host), "/"))
			_ = p.conn.SetReadDeadline(time.Now().Add(2 * time.Second))
			if s := p.wait(1); !s.ended || s.data.Len() != 65535 {
				t.Errorf("the stream has %d bytes and no end: %v", s.data.Len(), p.ended)
			}
		})
	}
}

// A client is told by whom it is answered, also where the upstream would not shake
// hands over HTTP/1.1, and the event says what the client speaks.
func TestH2AttackADetoursProblemIsMarkedAsOurs(t *testing.T) {
	up := newOrigin(t, nil, func(s *httptest.Server) {
		s.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, errors.New("no") }
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	p := w.h2()
	for i, id := range []uint32{1, 3} {
		p.ask(id, plainH2(up.authority(host), "/"+strconv.Itoa(i)))
		s := p.wait(id)
		marked := false
		for _, f := range slices.Concat(s.heads...) {
			marked = marked || f.Name == "attache-error"
		}
		if s.status() != 502 || !marked {
			t.Errorf("request %d: answer %d %v", i, s.status(), s.heads)
		}
		e := w.event(func(e attache.Event) bool { return isRequest(e) && e.Path == "/"+strconv.Itoa(i) })
		if e.Protocol != "HTTP/2.0" {
			t.Errorf("request %d: the event says %s", i, e.Protocol)
		}
	}
}

// A POST whose stream has ended has a length, and it is 0: without it, some servers
// answer 411.
func TestH2AttackAnEmptyPostHasALength(t *testing.T) {
	up, seen := heads(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	w := newWorld(t, up, nil, bearer("for-a", host))
	p := w.h2()
	for i, method := range []string{"POST", "PUT", "PATCH"} {
		id := uint32(2*i + 1)
		p.ask(id, h2Fields(up.authority(host), []string{":method", method}))
		p.wait(id)
		if head := <-seen; !strings.Contains(strings.ToLower(head), "\r\ncontent-length: 0\r\n") {
			t.Errorf("%s: the upstream saw %q", method, head)
		}
	}
}

// Serve lets streams end that are under way.
func TestH2AttackServeGivesStreamsTimeToEnd(t *testing.T) {
	asked, release := make(chan struct{}, 1), make(chan struct{})
	up := speaker(t, func(c net.Conn, r *http.Request) {
		asked <- struct{}{}
		<-release
		sized(c, 100_000)
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	p := w.h2()
	p.ask(1, plainH2(up.authority(host), "/"))
	<-asked
	stopped := make(chan struct{})
	go func() { defer close(stopped); w.stop() }()
	eventually(t, "the listener is still open", func() bool {
		c, err := net.Dial("tcp", w.addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	close(release)
	if s := p.wait(1); s.status() != 200 || s.data.Len() != 100_000 {
		t.Errorf("answer %d with %d bytes: %v", s.status(), s.data.Len(), p.ended)
	}
	_ = p.drain()
	<-stopped
	if all := w.requestEvents(); len(all) != 1 || all[0].Code != "" {
		t.Errorf("events %+v", all)
	}
}

// A header block may come padded, with a priority, and in any pieces.
func TestH2AttackHeaderBlocksInPieces(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) { sized(c, 2) })
	w := newWorld(t, up, nil, bearer("for-a", host))
	p := w.h2()
	id := uint32(1)
	for _, c := range []struct {
		pad      uint8
		priority bool
		piece    int
	}{{}, {pad: 255}, {priority: true}, {7, true, 0}, {0, false, 1}, {9, true, 1}, {200, true, 11}} {
		block := p.encode(plainH2(up.authority(host), "/"+strconv.Itoa(int(id)), "x", "y"))
		h := http2.HeadersFrameParam{StreamID: id, EndStream: true, PadLength: c.pad}
		if c.priority {
			h.Priority = http2.PriorityParam{StreamDep: id + 100, Weight: 3, Exclusive: true}
		}
		if c.piece == 0 {
			h.BlockFragment, h.EndHeaders = block, true
			_ = p.WriteHeaders(h)
		} else {
			first := min(len(block), c.piece)
			h.BlockFragment, block = block[:first], block[first:]
			_ = p.WriteHeaders(h)
			for len(block) > 0 {
				n := min(len(block), c.piece)
				_ = p.WriteContinuation(id, false, block[:n])
				block = block[n:]
			}
			_ = p.WriteContinuation(id, true, nil)
		}
		if s := p.wait(id); s.status() != 200 || s.data.Len() != 2 {
			t.Fatalf("%+v: answer %d: %v", c, s.status(), p.ended)
		}
		id += 2
	}
}

// The two who send keep within the room together, and use all of it, however
// streams end.
func TestH2AttackTheRoomIsKeptAccountOf(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Path[1:])
		sized(c, n)
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 30_000})
	room, rooms := int64(65535), map[uint32]int64{}
	open := map[uint32]bool{}
	granted := 0
	account := func(f http2.Frame, grant bool) {
		id := f.Header().StreamID
		d, ok := f.(*http2.DataFrame)
		if ok {
			n := int64(f.Header().Length)
			room, rooms[id] = room-n, rooms[id]-n
			if room < 0 || rooms[id] < 0 {
				t.Fatalf("stream %d sends %d bytes without room: %d left of the connection, %d of the stream", id, n, room, rooms[id])
			}
			if grant && n > 0 {
				_ = p.WriteWindowUpdate(0, uint32(n))
				room += n
				if granted++; granted%7 == 0 && open[id] && !d.StreamEnded() {
					_ = p.WriteRSTStream(id, http2.ErrCodeCancel)
					delete(open, id)
				} else if !d.StreamEnded() {
					_ = p.WriteWindowUpdate(id, uint32(n))
					rooms[id] += n
				}
			}
		}
		if h, head := f.(*http2.HeadersFrame); ok && d.StreamEnded() || head && h.StreamEnded() || f.Header().Type == http2.FrameRSTStream {
			delete(open, id)
		}
	}
	id := uint32(1)
	ask := func(n int, post bool) {
		open[id], rooms[id] = true, 30_000
		if path := "/" + strconv.Itoa(n); post {
			p.postTo(id, a, path)
		} else {
			p.ask(id, plainH2(a, path))
		}
		id += 2
	}
	for round := range 12 {
		for i := range 8 {
			ask(1+(round*7919+i*10007)%90_000, (round+i)%3 == 0)
		}
		if !p.until(5*time.Second, func(f http2.Frame) bool { account(f, true); return len(open) == 0 }) {
			t.Fatalf("round %d: streams %v are left, with %d of room: %v", round, open, room, p.ended)
		}
	}
	// What was on its way when a stream was reset has come before the answer to a ping.
	for range 2 {
		_ = p.WritePing(false, [8]byte{1})
		if !p.until(5*time.Second, func(f http2.Frame) bool {
			account(f, true)
			g, ok := f.(*http2.PingFrame)
			return ok && g.IsAck()
		}) {
			t.Fatal(p.ended)
		}
	}
	eventually(t, "streams go on", func() bool { return len(w.requestEvents()) == 96 })
	for _, post := range []bool{true, false, true} { // all of the room, by either
		_ = p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		ask(int(room), post)
		rooms[id-2] = 1 << 20
		want := room
		if !p.until(5*time.Second, func(f http2.Frame) bool { account(f, false); return len(open) == 0 }) {
			t.Fatalf("post %v: %d of %d bytes came: %v", post, want-room, want, p.ended)
		}
		_ = p.WriteWindowUpdate(0, uint32(want))
		room += want
	}
}

// A stream that is reset before its request is sent costs nobody else a connection.
func TestH2AttackResetsLeaveTheIdleConnectionsAlone(t *testing.T) {
	const idle, resets = 30, 3
	var opened, held atomic.Int32
	round := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	up := rawUpstream(t, func(c net.Conn, br *bufio.Reader) {
		opened.Add(1)
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if i := strings.IndexByte("01", r.URL.Path[1]); i >= 0 { // each on a connection of its own
				if n := held.Add(1); n%idle == 0 {
					close(round[i])
				}
				<-round[i]
			}
			sized(c, 2)
		}
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2()
	id, events := uint32(1), 0
	all := func(path string) {
		first := id
		for ; id < first+2*idle; id += 2 {
			p.ask(id, plainH2(a, path))
		}
		for i := first; i < id; i += 2 {
			if s := p.wait(i); s.status() != 200 {
				t.Fatalf("answer %d: %v", s.status(), p.ended)
			}
		}
		events += idle
		eventually(t, "requests go on", func() bool { return len(w.requestEvents()) >= events })
	}
	all("/0")
	for range resets {
		var both strings.Builder // in one record
		f := http2.NewFramer(&both, nil)
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.encode(plainH2(a, "/reset")), EndStream: true, EndHeaders: true})
		_ = f.WriteRSTStream(id, http2.ErrCodeCancel)
		_, _ = io.WriteString(p.conn, both.String())
		id += 2
		events++
		if hasFastPath() { // net/http may drop one that it has not begun
			eventually(t, "a stream that was reset goes on", func() bool { return len(w.requestEvents()) >= events })
		}
	}
	all("/1")
	if n := opened.Load(); hasFastPath() && n > idle+resets {
		t.Errorf("after %d resets, %d upstream connections had to be opened anew", resets, n-idle)
	}
}

// A client that takes a byte now and then is not waited for.
func TestH2AttackAClientThatTakesSingleBytesIsNotWaitedFor(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) { sized(c, 1<<20) })
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.WriteTimeout = 300 * time.Millisecond }, bearer("for-a", host))
	p := w.h2()
	p.ask(1, plainH2(up.authority(host), "/"))
	p.takeAll(t, 1, 65535)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	ended := false
	for range 25 {
		<-tick.C
		_ = p.WriteWindowUpdate(0, 1)
		_ = p.WriteWindowUpdate(1, 1)
		if !p.until(2*time.Second, func(f http2.Frame) bool {
			ended = ended || f.Header().Type == http2.FrameRSTStream
			return ended || f.Header().Type == http2.FrameData
		}) || ended {
			return
		}
	}
	t.Error("25 bytes in 2.5 s, where a write may take 0.3 s")
}

// The client is told what was wrong, also where it says more.
func TestH2AttackTheReasonOfTheEndArrives(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) { sized(c, 2) })
	for name, c := range map[string]struct {
		wrong func(*h2Peer)
		code  http2.ErrCode
	}{
		"a malformed block": {func(p *h2Peer) {
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, EndStream: true, EndHeaders: true})
		}, http2.ErrCodeCompression},
		"a block that is interrupted": {func(p *h2Peer) {
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(plainH2(up.authority(host), "/")), EndStream: true})
			_ = p.WritePing(false, [8]byte{})
		}, http2.ErrCodeProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, up, nil, bearer("for-a", host))
			p := w.h2()
			if !p.until(3*time.Second, func(f http2.Frame) bool { s, ok := f.(*http2.SettingsFrame); return ok && s.IsAck() }) {
				t.Fatal(p.ended)
			}
			c.wrong(p)
			more := make([]byte, 16<<10)
			for range 64 {
				if p.WriteRawFrame(0x77, 0, 0, more) != nil {
					break
				}
			}
			_ = p.conn.SetReadDeadline(time.Now().Add(4 * time.Second))
			err := p.drain()
			if p.code != c.code {
				t.Errorf("the connection ended with %v and %v", p.code, err)
			}
		})
	}
}

// What a client says of streams that have ended is no error, whichever side had them.
func TestH2AttackFramesForStreamsThatHaveEnded(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) { sized(c, 2) })
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2()
	for i := range uint32(6) {
		id := 2*i + 1
		if i%3 == 1 {
			p.postTo(id, a, "/")
		} else {
			p.ask(id, plainH2(a, "/"))
		}
		if s := p.wait(id); s.status() != 200 || s.data.Len() != 2 {
			t.Fatalf("stream %d: answer %d: %v", id, s.status(), p.ended)
		}
		for before := uint32(1); before <= id; before += 2 {
			_ = p.WriteWindowUpdate(before, 7)
			_ = p.WritePriority(before, http2.PriorityParam{StreamDep: 0, Weight: 1})
			_ = p.WriteRSTStream(before, http2.ErrCodeCancel)
		}
	}
	_ = p.WritePing(false, [8]byte{1})
	if !p.until(3*time.Second, func(f http2.Frame) bool { return f.Header().Type == http2.FramePing }) || p.code != 0 {
		t.Errorf("the connection ended with %v and %v", p.code, p.ended)
	}
}

// A connection without streams ends in time, and one with a stream goes on.
func TestH2AttackIdleConnectionsEnd(t *testing.T) {
	release := make(chan struct{})
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.URL.Path == "/held" {
			<-release
		}
		sized(c, 2)
	})
	free := sync.OnceFunc(func() { close(release) })
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.IdleTimeout = 300 * time.Millisecond }, bearer("for-a", host))
	defer free()
	p := w.h2()
	p.ask(1, plainH2(up.authority(host), "/"))
	p.wait(1)
	p.ask(3, plainH2(up.authority(host), "/held"))
	if p.until(time.Second, func(f http2.Frame) bool { return true }); !errors.Is(p.ended, os.ErrDeadlineExceeded) {
		t.Fatalf("with a stream under way, there came %v", p.ended)
	}
	p.ended = nil
	free()
	_ = p.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if s := p.wait(3); s.status() != 200 {
		t.Fatalf("answer %d: %v", s.status(), p.ended)
	}
	if err := p.drain(); err != nil || p.code != http2.ErrCodeNo || p.last != 3 {
		t.Errorf("GOAWAY %d, %v, and %v", p.last, p.code, err)
	}
	w.event(isConnect)
}

// An ordinary client that asks much at a time, and loses interest in some of it, gets
// whole answers.
func TestH2AttackAStormOfRequests(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Path[1:])
		sized(c, n)
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	client := w.client()
	var all sync.WaitGroup
	var asked atomic.Int32
	for worker := range 12 {
		all.Go(func() {
			for i := range 25 {
				n := 1 + (worker*7919+i*104729)%60_000
				ctx, cancel := context.WithCancel(t.Context())
				var body io.Reader
				method := "GET"
				if (worker+i)%4 == 0 {
					method, body = "POST", strings.NewReader("body")
				}
				r, _ := http.NewRequestWithContext(ctx, method, w.url("/"+strconv.Itoa(n)), body)
				if (worker+i)%5 == 0 {
					go cancel()
				}
				resp, err := client.Do(r)
				if err == nil {
					asked.Add(1)
					got, failed := io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
					if err = failed; err == nil && (resp.StatusCode != 200 || got != int64(n)) {
						t.Errorf("%d with %d bytes of %d", resp.StatusCode, got, n)
					}
				}
				if err != nil && ctx.Err() == nil {
					t.Errorf("%s %d: %v", method, n, err)
				}
				cancel()
			}
		})
	}
	all.Wait()
	eventually(t, "events are missing", func() bool { return len(w.requestEvents()) >= int(asked.Load()) })
}

// Serve ends, whatever streams wait for.
func TestH2AttackServeEndsWithStreamsThatHang(t *testing.T) {
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

// A refused token is refreshed on the fast path, too, and the request sent again.
func TestH2AttackARefusedTokenIsRefreshed(t *testing.T) {
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token(2) {
			w.WriteHeader(401)
		}
		_, _ = io.WriteString(w, "ok")
	})
	g := &grants{now: 1, last: 2}
	w := newWorld(t, up, nil, oauthConnection())
	w.fresh = g.fresh
	p := w.h2()
	for id := uint32(1); id < 5; id += 2 {
		p.ask(id, plainH2(up.authority(host), "/"))
		if s := p.wait(id); s.status() != 200 || s.data.String() != "ok" {
			t.Errorf("answer %d %q", s.status(), s.data.String())
		}
	}
	if up.count() != 3 {
		t.Errorf("the upstream was asked %d times", up.count())
	}
}

// An origin that speaks HTTP/2 alone is found out by several streams at a time.
func TestH2AttackDetoursAreWholeAndCountedOnce(t *testing.T) {
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		n, _ := strconv.Atoi(r.URL.Path[1:])
		_, _ = io.WriteString(w, strings.Repeat("x", n))
		w.Header().Set("X-Sum", "y")
	}, func(s *httptest.Server) {
		s.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if slices.Contains(hello.SupportedProtos, "h2") {
				return nil, nil
			}
			return nil, errors.New("HTTP/2 alone")
		}
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	p := w.h2()
	for round := range uint32(2) {
		for i := range uint32(8) {
			p.ask(16*round+2*i+1, plainH2(up.authority(host), "/"+strconv.Itoa(int(20_000*i)), "authorization", "mine"))
		}
		for i := range uint32(8) {
			s := p.wait(16*round + 2*i + 1)
			if s.status() != 200 || s.data.Len() != int(20_000*i) || s.cut {
				t.Errorf("round %d, stream %d: answer %d with %d bytes: %v", round, i, s.status(), s.data.Len(), p.ended)
			}
			if last := s.heads[len(s.heads)-1]; i > 0 && (last[0].Name != "x-sum" || len(last) != 1) {
				t.Errorf("round %d, stream %d: trailer %v", round, i, last)
			}
		}
	}
	_ = p.conn.Close()
	w.event(isConnect)
	if all := w.requestEvents(); len(all) != 16 || up.count() != 16 {
		t.Errorf("%d events of %d requests", len(all), up.count())
	}
	if v := up.last().Header["Authorization"]; len(v) != 1 || v[0] != "Bearer "+canary {
		t.Errorf("the upstream saw Authorization %q", v)
	}
}

// Room that cannot be is an error of the stream (RFC 9113, sections 6.9 and 6.9.1).
func TestH2AttackRoomThatCannotBeIsAnError(t *testing.T) {
	for name, c := range map[string]struct {
		by   []uint32
		code http2.ErrCode
	}{
		"none":     {[]uint32{0}, http2.ErrCodeProtocol},
		"too much": {[]uint32{1<<31 - 1, 1<<31 - 1}, http2.ErrCodeFlowControl},
	} {
		t.Run(name, func(t *testing.T) {
			asked, release := make(chan struct{}, 1), make(chan struct{})
			up := speaker(t, func(c net.Conn, r *http.Request) {
				asked <- struct{}{}
				<-release
				sized(c, 2)
			})
			w := newWorld(t, up, nil, bearer("for-a", host))
			free := sync.OnceFunc(func() { close(release) })
			defer free()
			p := w.h2()
			p.ask(1, plainH2(up.authority(host), "/"))
			<-asked
			for _, by := range c.by {
				_ = p.WriteWindowUpdate(1, by)
			}
			// a connection error, which 6.9 allows for none, will do
			p.until(3*time.Second, func(f http2.Frame) bool {
				switch f := f.(type) {
				case *http2.RSTStreamFrame:
					p.code = f.ErrCode
				case *http2.GoAwayFrame:
					p.code = f.ErrCode
				}
				return p.code != 0
			})
			if p.code != c.code {
				t.Errorf("got %v, and %v", p.code, p.ended)
			}
		})
	}
}

// When Serve is told to stop, every client is told at once to go elsewhere, whatever
// a stream of one of them waits for.
func TestH2AttackAHangingStreamKeepsTheGoodbyeFromNobody(t *testing.T) {
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
func TestH2AttackPingsKeepNoConnectionAlive(t *testing.T) {
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
func TestH2AttackThePrefaceHasToArriveInTime(t *testing.T) {
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

// The room of a stream may become less than none (RFC 9113, section 6.9.2).
func TestH2AttackRoomMayBecomeLessThanNone(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) { sized(c, 200_000) })
	w := newWorld(t, up, nil, bearer("for-a", host))
	p := w.h2()
	_ = p.WriteWindowUpdate(0, 1<<31-1-65535) // as much as there can be
	for i, post := range []bool{false, true} {
		id := uint32(2*i + 1)
		_ = p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535})
		if post {
			p.postTo(id, up.authority(host), "/")
		} else {
			p.ask(id, plainH2(up.authority(host), "/"))
		}
		p.takeAll(t, id, 65535)
		_ = p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
		_ = p.WriteWindowUpdate(id, 65435)
		_ = p.WritePing(false, [8]byte{byte(id)})
		got := 0
		count := func(f http2.Frame) {
			if d, ok := f.(*http2.DataFrame); ok {
				got += len(d.Data())
			}
		}
		if !p.until(3*time.Second, func(f http2.Frame) bool { count(f); g, ok := f.(*http2.PingFrame); return ok && g.IsAck() }) || got != 0 {
			t.Fatalf("post %v: %d bytes without room: %v", post, got, p.ended)
		}
		_ = p.WriteWindowUpdate(id, 10)
		if !p.until(3*time.Second, func(f http2.Frame) bool { count(f); return got >= 10 }) || got != 10 {
			t.Fatalf("post %v: %d bytes, with room for 10: %v", post, got, p.ended)
		}
		_ = p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		if !p.until(5*time.Second, func(f http2.Frame) bool { count(f); return got >= 200_000-65535 }) {
			t.Fatalf("post %v: %d bytes: %v", post, got, p.ended)
		}
		_ = p.WriteWindowUpdate(0, 200_000)
	}
}
