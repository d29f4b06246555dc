package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"attache"
	"attache/proxy"
)

// echo says which protocol a request came by, and what its body was.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, _ = fmt.Fprintf(w, "%s %s %s", r.Proto, r.URL.Path, body)
}

func (w *world) h2(settings ...http2.Setting) *h2Peer {
	w.t.Helper()
	conn := w.secure(w.open(w.upstream.authority(host)), host, "h2")
	w.t.Cleanup(func() { _ = conn.Close() })
	return newH2Peer(w.t, conn, settings...)
}

// post sends a request with a body, which is not for the fast path.
func (p *h2Peer) post(id uint32, fields []hpack.HeaderField, body string) {
	fields[0].Value = "POST"
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.encode(fields), EndHeaders: true})
	_ = p.WriteData(id, true, []byte(body))
}

// On one connection, plain requests go out over HTTP/1.1, and the others over what
// the origin speaks.
func TestOneHTTP2ConnectionHasBothPaths(t *testing.T) {
	if !hasFastPath() {
		return
	}
	up := newOrigin(t, echo)
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2()
	for i := range 10 {
		plain, body := uint32(4*i+1), uint32(4*i+3)
		p.ask(plain, plainH2(a, "/plain", "x", fmt.Sprint(i/2)))
		p.post(body, plainH2(a, "/body", "y", fmt.Sprint(i/3)), "data")
		if s := p.wait(body); s.status() != 200 || s.data.String() != "HTTP/2.0 /body data" {
			t.Errorf("stream %d: %d %q", body, s.status(), s.data.String())
		}
		if s := p.wait(plain); s.status() != 200 || s.data.String() != "HTTP/1.1 /plain " {
			t.Errorf("stream %d: %d %q", plain, s.status(), s.data.String())
		}
	}
	_ = p.conn.Close()
	w.event(isConnect)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.events) != 21 {
		t.Errorf("%d events, want 21", len(w.events))
	}
	for _, e := range w.events {
		if isRequest(e) && (e.Protocol != "HTTP/2.0" || e.Status != 200 || e.Connection != "for-a" || e.Client != "127.0.0.1") {
			t.Errorf("event %+v", e)
		}
	}
}

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

// A window may be made smaller than what was sent, and larger again.
func TestASmallerWindowHoldsAnAnswer(t *testing.T) {
	up := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 3000)) })
	w := newWorld(t, up, nil, bearer("for-a", host))
	p := w.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
	p.stingy = true
	p.ask(1, plainH2(up.authority(host), "/"))
	s := p.stream(1)
	for s.data.Len() < 1000 && p.read() {
	}
	_ = p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 500})
	_ = p.WriteWindowUpdate(1, 600) // of which 500 are lost
	for s.data.Len() < 1100 && p.read() {
	}
	_ = p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 5000})
	if p.wait(1); s.data.Len() != 3000 || !s.ended || s.cut {
		t.Errorf("%d bytes", s.data.Len())
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

// A client that takes a request back is believed, and goes on with the others.
func TestAStreamMayBeCalledOff(t *testing.T) {
	gone := make(chan struct{})
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/held":
			<-r.Context().Done()
			gone <- struct{}{}
		case "/begun":
			_, _ = w.Write([]byte("x"))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			gone <- struct{}{}
		}
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2()
	p.ask(1, plainH2(a, "/held"))
	eventually(t, "the request does not arrive", func() bool { return up.count() == 1 })
	p.ask(3, plainH2(a, "/begun"))
	for p.stream(3).data.Len() == 0 && p.read() {
	}
	for _, id := range []uint32{1, 3} {
		_ = p.WriteRSTStream(id, http2.ErrCodeCancel)
		select {
		case <-gone:
		case <-time.After(10 * time.Second):
			t.Fatalf("stream %d: the upstream is not told", id)
		}
		_ = p.WriteWindowUpdate(id, 100) // it may have been on its way
		_ = p.WritePriority(id, http2.PriorityParam{Weight: 3})
		_ = p.WriteRSTStream(id, http2.ErrCodeCancel)
	}
	for _, path := range []string{"/held", "/begun"} {
		if e := w.event(func(e attache.Event) bool { return e.Path == path }); e.Code != attache.CodeClientGone {
			t.Errorf("event %+v", e)
		}
	}
	p.ask(5, plainH2(a, "/"))
	if s := p.wait(5); s.status() != 200 {
		t.Errorf("the next request: %+v, %v", s, p.ended)
	}
}

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
	eventually(t, "the proxy goes on", func() bool {
		c, err := net.Dial("tcp", w.addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
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

// A client gets as many streams as it was told, wherever they are served.
func TestStreamsAreCountedTogether(t *testing.T) {
	finish := make(chan struct{})
	up := newOrigin(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-finish:
		case <-r.Context().Done():
		}
	})
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Streams = 4 }, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2()
	const streams = 10
	for i := range uint32(streams) {
		if id := 2*i + 1; i%3 == 0 {
			p.post(id, plainH2(a, "/"), "x")
		} else {
			p.ask(id, plainH2(a, "/"))
		}
	}
	eventually(t, "the requests do not arrive", func() bool { return up.count() >= 4 })
	close(finish)
	served := 0
	for i := range uint32(streams) {
		switch s := p.wait(2*i + 1); {
		case s.status() == 200:
			served++
		case s.reset != http2.ErrCodeRefusedStream && s.reset != http2.ErrCodeProtocol:
			t.Errorf("stream %d: %+v, %v", 2*i+1, s, p.ended)
		}
	}
	if served < 4 {
		t.Errorf("%d were served", served)
	}
}

// An origin that wants HTTP/2 alone is found out by a request, which is answered.
func TestAnH2OriginIsAskedOverHTTP2(t *testing.T) {
	up := newOrigin(t, echo, func(s *httptest.Server) {
		s.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if slices.Contains(hello.SupportedProtos, "h2") {
				return nil, nil
			}
			return nil, errors.New("HTTP/2 alone") // crypto/tls would let it pass
		}
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	p := w.h2()
	for id := uint32(1); id < 12; id += 2 {
		p.ask(id, plainH2(up.authority(host), "/a", "authorization", "x"))
	}
	for id := uint32(1); id < 12; id += 2 {
		if s := p.wait(id); s.status() != 200 || s.data.String() != "HTTP/2.0 /a " {
			t.Errorf("stream %d: %d %q, %v", id, s.status(), s.data.String(), p.ended)
		}
	}
	if got := up.last().Header["Authorization"]; len(got) != 1 || got[0] != "Bearer "+canary {
		t.Errorf("the upstream saw Authorization %q", got)
	}
	for range 6 {
		w.event(isRequest)
	}
	_ = p.conn.Close()
	w.event(isConnect)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.events) != 7 {
		t.Errorf("%d events, want 7", len(w.events))
	}
	for _, e := range w.events {
		if e.Client != "127.0.0.1" {
			t.Errorf("event %+v", e)
		}
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

// A client that says nothing after the handshake does not stay.
func TestHTTP2BeginsInTime(t *testing.T) {
	if !hasFastPath() {
		return // net/http has a limit of its own
	}
	up := newOrigin(t, nil)
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.HeadTimeout = 300 * time.Millisecond }, bearer("for-a", host))
	conn := w.secure(w.open(up.authority(host)), host, "h2")
	defer conn.Close()
	_, _ = io.WriteString(conn, "PRI * HTTP/2.0\r\n")
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("the connection ended with %v", err)
	}
}
