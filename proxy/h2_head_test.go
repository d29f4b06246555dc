package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"attache/proxy"
)

// A client whose table of fields shrinks is told so by who has an encoder.
func TestAClientMayWantNoTable(t *testing.T) {
	up := newOrigin(t, echo)
	w := newWorld(t, up, nil, bearer("for-a", host))
	p := w.h2(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
	p.decoder.SetAllowedMaxDynamicTableSize(0)
	p.decoder.SetMaxDynamicTableSize(0)
	for id := uint32(1); id < 17; id += 4 {
		p.ask(id, plainH2(up.authority(host), "/", "x", "y"))
		p.post(id+2, plainH2(up.authority(host), "/", "x", "y"), "z")
		for _, id := range []uint32{id, id + 2} {
			if s := p.wait(id); s.status() != 200 || !strings.HasPrefix(s.data.String(), "HTTP/") {
				t.Errorf("stream %d: %d %q, %v", id, s.status(), s.data.String(), p.ended)
			}
		}
	}
}

// A header list that is too large is refused, and the connection goes on.
func TestALargeHeaderListIsRefused(t *testing.T) {
	up := newOrigin(t, echo)
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.HeadBytes = 4 << 10 }, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2()
	var bomb []byte
	fields := plainH2(a, "/", "x", strings.Repeat("y", 1000))
	bomb = append(bomb, p.encode(fields)...)
	last := p.encode(fields[len(fields)-1:]) // by its number in the table
	for range 2000 {
		bomb = append(bomb, last...)
	}
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: bomb, EndStream: true, EndHeaders: true})
	if s := p.wait(1); s.status() != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%d, %v", s.status(), p.ended)
	}
	p.ask(3, plainH2(a, "/"))
	if s := p.wait(3); s.status() != 200 {
		t.Errorf("the next: %d, %v", s.status(), p.ended)
	}
}

// A head, or a trailer, may need more than one frame.
func TestALargeHeadIsWrittenInPieces(t *testing.T) {
	large := strings.Repeat("x", 9000)
	up := rawUpstream(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := readHead(br); err == nil {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: %[1]s\r\nB: %[1]s\r\n\r\n1\r\nx\r\n0\r\nC: y\r\n\r\n", large)
		}
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	p := w.h2()
	p.ask(1, plainH2(up.authority(host), "/"))
	s := p.wait(1)
	if len(s.heads) != 2 || len(s.heads[0]) != 3 || s.heads[0][2].Value != large || s.data.String() != "x" || s.heads[1][0].Name != "c" {
		t.Errorf("%.200v, %v", s, p.ended)
	}
}

// A header block is in one piece (RFC 9113, section 4.3), whoever writes it.
func TestHTTP2NothingComesBetweenHeadersAndContinuation(t *testing.T) {
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

// A client that made its table smaller is told so at the beginning of the next
// header block (RFC 7541, section 4.2).
func TestHTTP2ATableThatBecameSmallerIsAcknowledged(t *testing.T) {
	p, free := heldRequest(t)
	defer free()
	if !p.until(3*time.Second, isSettingsAck) {
		t.Fatal(p.ended)
	}
	_ = p.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
	if !p.until(3*time.Second, isSettingsAck) {
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

// A POST whose stream has ended has a length, and it is 0: without it, some servers
// answer 411.
func TestHTTP2AnEmptyPostHasALength(t *testing.T) {
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

// A header block may come padded, with a priority, and in any pieces.
func TestHTTP2HeaderBlocksInPieces(t *testing.T) {
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

// Settings that the inner server acknowledges together are acknowledged all.
func TestHTTP2SettingsMayBeAcknowledgedTogether(t *testing.T) {
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

// Settings may come while the inner server writes the head of an answer.
func TestHTTP2SettingsComeAtAnyTime(t *testing.T) {
	if !hasFastPath() {
		return // net/http takes one of them while it is being used, which is a data race
	}
	up := newOrigin(t, echo)
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2()
	for id := uint32(1); id < 400; id += 2 {
		p.postTo(id, a, "/")
		_ = p.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 4096 - id})
	}
	for id := uint32(1); id < 400; id += 2 {
		if s := p.wait(id); s.status() != 200 && s.reset != http2.ErrCodeRefusedStream {
			t.Fatalf("stream %d: %d, %v", id, s.status(), p.ended)
		}
	}
}

// What breaks the connection is answered with its code.
func TestMalformedHTTP2EndsTheConnection(t *testing.T) {
	if !hasFastPath() {
		return
	}
	finish := make(chan struct{})
	up := newOrigin(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-finish:
		case <-r.Context().Done():
		}
	})
	defer close(finish)
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.HeadBytes = 4 << 10 }, bearer("for-a", host))
	a := up.authority(host)
	headers := func(p *h2Peer, id uint32, block []byte, end bool) {
		_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: true, EndHeaders: end})
	}
	for name, c := range map[string]struct {
		code http2.ErrCode
		do   func(*h2Peer)
	}{
		"no header block":         {http2.ErrCodeCompression, func(p *h2Peer) { headers(p, 1, []byte{0xff, 0xff, 0xff, 0xff}, true) }},
		"half a header block":     {http2.ErrCodeCompression, func(p *h2Peer) { headers(p, 1, []byte{0, 9, 'x'}, true) }},
		"an endless header block": {http2.ErrCodeEnhanceYourCalm, func(p *h2Peer) { headers(p, 1, make([]byte, 10_000), false) }},
		"endless continuations": {http2.ErrCodeEnhanceYourCalm, func(p *h2Peer) {
			headers(p, 1, nil, false)
			for range 20_000 {
				if p.WriteContinuation(1, false, nil) != nil {
					return
				}
			}
		}},
		"a continuation elsewhere":  {http2.ErrCodeProtocol, func(p *h2Peer) { headers(p, 1, nil, false); _ = p.WriteContinuation(3, true, nil) }},
		"another frame inside":      {http2.ErrCodeProtocol, func(p *h2Peer) { headers(p, 1, nil, false); _ = p.WritePing(false, [8]byte{}) }},
		"a continuation of nothing": {http2.ErrCodeProtocol, func(p *h2Peer) { _ = p.WriteContinuation(1, true, nil) }},
		"more padding than frame":   {http2.ErrCodeProtocol, func(p *h2Peer) { _ = p.WriteRawFrame(http2.FrameHeaders, 0x0d, 1, []byte{9, 0}) }},
		"no room for a priority":    {http2.ErrCodeFrameSize, func(p *h2Peer) { _ = p.WriteRawFrame(http2.FrameHeaders, 0x25, 1, []byte{9, 0}) }},
		"data after the end": {http2.ErrCodeStreamClosed, func(p *h2Peer) {
			p.ask(1, plainH2(a, "/"))
			_ = p.WriteData(1, true, []byte("x"))
		}},
		"a head after the end": {http2.ErrCodeStreamClosed, func(p *h2Peer) {
			p.ask(1, plainH2(a, "/"))
			p.ask(1, plainH2(a, "/"))
		}},
		"an even stream":        {http2.ErrCodeProtocol, func(p *h2Peer) { p.ask(2, plainH2(a, "/")) }},
		"the connection as one": {http2.ErrCodeProtocol, func(p *h2Peer) { p.ask(0, plainH2(a, "/")) }},
		"large settings":        {http2.ErrCodeFrameSize, func(p *h2Peer) { _ = p.WriteRawFrame(http2.FrameSettings, 0, 0, make([]byte, 6000)) }},
		"room for nothing":      {http2.ErrCodeProtocol, func(p *h2Peer) { _ = p.WriteWindowUpdate(9, 1) }},
		"half a window update":  {http2.ErrCodeFrameSize, func(p *h2Peer) { _ = p.WriteRawFrame(http2.FrameWindowUpdate, 0, 0, []byte{1}) }},
		"half a reset":          {http2.ErrCodeFrameSize, func(p *h2Peer) { _ = p.WriteRawFrame(http2.FrameRSTStream, 0, 1, []byte{1}) }},
		"a reset of nothing":    {http2.ErrCodeProtocol, func(p *h2Peer) { _ = p.WriteRSTStream(9, 0) }},
		"half a setting":        {http2.ErrCodeFrameSize, func(p *h2Peer) { _ = p.WriteRawFrame(http2.FrameSettings, 0, 0, []byte{1}) }},
		"an impossible setting": {http2.ErrCodeFlowControl, func(p *h2Peer) { _ = p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31}) }},
	} {
		t.Run(name, func(t *testing.T) {
			p := w.h2()
			c.do(p)
			if _ = p.drain(); p.code != c.code {
				t.Errorf("ended with %v (%v), want %v", p.code, p.ended, c.code)
			}
		})
	}
}

// The client is told what was wrong, also where it says more.
func TestHTTP2TheReasonOfTheEndArrives(t *testing.T) {
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
			if !p.until(3*time.Second, isSettingsAck) {
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
