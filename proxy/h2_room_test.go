package proxy_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"attache"
	"attache/proxy"
)

// Nobody sends more than the client granted, on a stream or in all.
func TestAnswersKeepWithinTheWindows(t *testing.T) {
	const size = 300_000
	want := bytes.Repeat([]byte("0123456789"), size/10)
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(want)
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	const initial = 1000
	p := w.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: initial})
	p.stingy = true
	for i := range uint32(4) { // two for the fast path, two for the other
		if p.ask(4*i+1, plainH2(a, "/")); i%2 == 1 {
			p.post(4*i+3, plainH2(a, "/"), "x")
		}
	}
	streams := []uint32{1, 5, 7, 9, 13, 15}
	granted, all := map[uint32]int{}, 65535
	for _, id := range streams {
		granted[id] = initial
	}
	grants := 0
	for {
		done, got := true, 0
		for _, id := range streams {
			s := p.stream(id)
			got += s.data.Len()
			done = done && s.ended
			if s.data.Len() > granted[id] {
				t.Fatalf("stream %d: %d bytes of %d that were granted", id, s.data.Len(), granted[id])
			}
		}
		if got > all {
			t.Fatalf("%d bytes of %d that were granted", got, all)
		}
		if done || !p.read() {
			break
		}
		for _, id := range streams { // what is used up is granted anew, in steps of many sizes
			if s := p.stream(id); !s.ended && s.data.Len() == granted[id] {
				grants++
				n := 1 + grants*7919%40_000
				granted[id] += n
				_ = p.WriteWindowUpdate(id, uint32(n))
			}
		}
		if all-got < 20_000 {
			all += 9_999
			_ = p.WriteWindowUpdate(0, 9_999)
		}
	}
	for _, id := range streams {
		if s := p.stream(id); s.status() != 200 || !bytes.Equal(s.data.Bytes(), want) {
			t.Errorf("stream %d: %d and %d bytes", id, s.status(), s.data.Len())
		}
	}
}

// A client that grants no room is not waited for longer than for a write.
func TestAClientThatGrantsNothingIsLeft(t *testing.T) {
	up := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 3000)) })
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.WriteTimeout = 200 * time.Millisecond }, bearer("for-a", host))
	p := w.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	p.ask(1, plainH2(up.authority(host), "/"))
	if s := p.wait(1); !s.cut || s.status() != 200 {
		t.Errorf("%+v", s)
	}
	if e := w.event(isRequest); hasFastPath() && e.Code != attache.CodeClientGone || e.Status != 200 {
		t.Errorf("event %+v", e) // net/http may not have told the handler
	}
}

// Streams whose upstream says nothing (server-sent events, long polls) must not
// keep the room of those that have something to say.
func TestHTTP2IdleStreamsHoldNoRoom(t *testing.T) {
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
func TestHTTP2PingsAreAnsweredWithoutRoom(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.Method == "POST" {
			sized(c, 2)
			return
		}
		sized(c, 65535)
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	p := w.h2()
	p.haveHeld(t, up.authority(host))
	for i := range byte(20) {
		_ = p.WritePing(false, [8]byte{i})
		if !p.until(2*time.Second, func(f http2.Frame) bool { g, ok := f.(*http2.PingFrame); return ok && g.IsAck() && g.Data[0] == i }) {
			t.Fatalf("ping %d is not answered: %v", i, p.ended)
		}
	}
}

// An upload needs the server's word that there is room for it, whatever waits in the
// other direction.
func TestHTTP2UploadsGoOnWithoutRoom(t *testing.T) {
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
func TestHTTP2AStreamWithoutRoomEndsAlone(t *testing.T) {
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
func TestHTTP2TheInnerServerIsNotStarved(t *testing.T) {
	up := speaker(t, func(c net.Conn, r *http.Request) {
		if r.Method == "POST" {
			sized(c, 8<<10)
			return
		}
		sized(c, 64<<20)
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	p := w.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	p.haveHeld(t, up.authority(host))
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
func TestHTTP2TheInnerServerUsesTheRoomThatThereIs(t *testing.T) {
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

// The end of a body needs no room.
func TestHTTP2ABodyThatFillsTheRoomEnds(t *testing.T) {
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

// The two who send keep within the room together, and use all of it, however
// streams end.
func TestHTTP2TheRoomIsKeptAccountOf(t *testing.T) {
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

// A client that takes a byte now and then is not waited for.
func TestHTTP2AClientThatTakesSingleBytesIsNotWaitedFor(t *testing.T) {
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

// Room that cannot be is an error of the stream (RFC 9113, sections 6.9 and 6.9.1).
func TestHTTP2RoomThatCannotBeIsAnError(t *testing.T) {
	for name, c := range map[string]struct {
		by   []uint32
		code http2.ErrCode
	}{
		"none":     {[]uint32{0}, http2.ErrCodeProtocol},
		"too much": {[]uint32{1<<31 - 1, 1<<31 - 1}, http2.ErrCodeFlowControl},
	} {
		t.Run(name, func(t *testing.T) {
			p, free := heldRequest(t)
			defer free()
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

// The room of a stream may become less than none (RFC 9113, section 6.9.2).
func TestHTTP2RoomMayBecomeLessThanNone(t *testing.T) {
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

// An event counts what the client had room for, and no more.
func TestHTTP2OnlyWhatIsSentIsCounted(t *testing.T) {
	up := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 3000)) })
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.WriteTimeout = 200 * time.Millisecond }, bearer("for-a", host))
	p := w.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
	p.stingy = true
	p.ask(1, plainH2(up.authority(host), "/"))
	s := p.wait(1)
	if e := w.event(isRequest); e.BytesOut != int64(s.data.Len()) && hasFastPath() {
		t.Errorf("%d bytes came, and the event says %d", s.data.Len(), e.BytesOut)
	}
}
