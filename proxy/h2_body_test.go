package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"attache"
	"attache/proxy"
	"attache/wire"
)

// withBody is a header block without an end, and what is sent after it.
type withBody struct {
	fields []string
	body   func(p *h2Peer)
}

// h2Bodies are bodies that clients may send, right and wrong.
var h2Bodies = map[string]withBody{
	"a body": {[]string{"content-length", "5"}, func(p *h2Peer) { _ = p.WriteData(1, true, []byte("hello")) }},
	"a body in pieces": {[]string{"content-length", "5"}, func(p *h2Peer) {
		for _, piece := range []string{"h", "", "ell", "o"} {
			_ = p.WriteData(1, false, []byte(piece))
		}
		_ = p.WriteData(1, true, nil)
	}},
	"a padded body": {[]string{"content-length", "5"}, func(p *h2Peer) {
		_ = p.WriteDataPadded(1, false, []byte("hel"), make([]byte, 255))
		_ = p.WriteDataPadded(1, true, []byte("lo"), []byte{})
	}},
	"a body of 15 KiB": {[]string{"content-length", "15360"}, func(p *h2Peer) { _ = p.WriteData(1, true, bytes.Repeat([]byte("x"), 15360)) }},
	"a body of 40 KiB": {[]string{"content-length", "40960"}, func(p *h2Peer) {
		for i := range 5 {
			_ = p.WriteData(1, i == 4, bytes.Repeat([]byte("x"), 8192))
		}
	}},
	"a body of unknown length":      {nil, func(p *h2Peer) { _ = p.WriteData(1, true, []byte("hello")) }},
	"a body of nothing":             {[]string{"content-length", "0"}, func(p *h2Peer) { _ = p.WriteData(1, true, nil) }},
	"trailers after a body":         {[]string{"content-length", "5"}, func(p *h2Peer) { _ = p.WriteData(1, false, []byte("hello")); p.trail(1, "x", "y") }},
	"announced trailers":            {[]string{"content-length", "5", "trailer", "x"}, func(p *h2Peer) { _ = p.WriteData(1, false, []byte("hello")); p.trail(1, "x", "y") }},
	"too little":                    {[]string{"content-length", "6"}, func(p *h2Peer) { _ = p.WriteData(1, true, []byte("hello")) }},
	"too little, and trailers":      {[]string{"content-length", "6"}, func(p *h2Peer) { _ = p.WriteData(1, false, []byte("hello")); p.trail(1, "x", "y") }},
	"nothing at all":                {[]string{"content-length", "6"}, func(p *h2Peer) { _ = p.WriteData(1, true, nil) }},
	"a length with a sign":          {[]string{"content-length", "+5"}, func(p *h2Peer) { _ = p.WriteData(1, true, []byte("hello")) }},
	"a length that is none":         {[]string{"content-length", ""}, func(p *h2Peer) { _ = p.WriteData(1, true, []byte("hello")) }},
	"two lengths":                   {[]string{"content-length", "5", "content-length", "5"}, func(p *h2Peer) { _ = p.WriteData(1, true, []byte("hello")) }},
	"a body to GET":                 {[]string{":method", "GET", "content-length", "5"}, func(p *h2Peer) { _ = p.WriteData(1, true, []byte("hello")) }},
	"the wish for a 100":            {[]string{"content-length", "5", "expect", "100-continue"}, func(p *h2Peer) { _ = p.WriteData(1, true, []byte("hello")) }},
	"a denied body":                 {[]string{"content-length", "5", "attache-connection", "nope"}, func(p *h2Peer) { _ = p.WriteData(1, true, []byte("hello")) }},
	"a body that looks like frames": {[]string{"content-length", "9"}, func(p *h2Peer) { _ = p.WriteData(1, true, make([]byte, 9)) }},
}

func (p *h2Peer) trail(id uint32, fields ...string) {
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.encode(pairs(fields...)), EndStream: true, EndHeaders: true})
}

func (p *h2Peer) begin(id uint32, authority string, fields ...string) {
	block := p.encode(h2Fields(authority, append([]string{":method", "POST"}, fields...)))
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true})
}

func TestBothPathsReadBodiesOverHTTP2Alike(t *testing.T) {
	if !hasFastPath() {
		return // there is one path
	}
	for name, c := range h2Bodies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPaths(t, time.Second)
			p.compareH2(t, func(peer *h2Peer) {
				peer.begin(1, p.up.authority(host), c.fields...)
				c.body(peer)
			}, conversation{})
		})
	}
}

// Small bodies go the fast way: to an upstream that offers HTTP/2, over HTTP/1.1.
func TestSmallBodiesOverHTTP2AreRelayed(t *testing.T) {
	if !hasFastPath() {
		return
	}
	w := newWorld(t, newOrigin(t, echo), nil, bearer("for-a", host))
	a := w.upstream.authority(host)
	p := w.h2()
	for i, name := range []string{"a body", "a body in pieces", "a padded body", "trailers after a body"} {
		id := uint32(2*i + 1)
		c := h2Bodies[name]
		p.begin(id, a, c.fields...)
		p.onStream(id, c.body)
		if s := p.wait(id); s.data.String() != "HTTP/1.1 /a hello" {
			t.Errorf("%s: %q, %v", name, s.data.String(), p.ended)
		}
	}
}

// onStream has what is written for stream 1 sent on another.
func (p *h2Peer) onStream(id uint32, write func(*h2Peer)) {
	var frames bytes.Buffer
	q := *p
	q.Framer = http2.NewFramer(&frames, nil)
	q.AllowIllegalWrites = true
	write(&q)
	for b := frames.Bytes(); len(b) > 0; {
		n := 9 + int(b[0])<<16 + int(b[1])<<8 + int(b[2])
		b[8] = byte(id)
		_, _ = p.conn.Write(b[:n])
		b = b[n:]
	}
}

// More data than was announced ends the stream, and not the connection.
func TestTooMuchOfABodyEndsItsStream(t *testing.T) {
	w := newWorld(t, newOrigin(t, echo), nil, bearer("for-a", host))
	a := w.upstream.authority(host)
	for name, data := range map[string][]byte{"by a byte": []byte("hello!"), "by very much": make([]byte, 1<<18)} {
		t.Run(name, func(t *testing.T) {
			p := w.h2()
			p.begin(1, a, "content-length", "5")
			_ = p.WriteData(1, false, data)
			_ = p.WriteData(1, true, data)
			if s := p.wait(1); s.reset != http2.ErrCodeProtocol || w.upstream.count() != 0 && hasFastPath() {
				t.Errorf("stream 1: %+v, %v; the upstream was asked %d times", s, p.ended, w.upstream.count())
			}
			p.begin(3, a, "content-length", "5")
			_ = p.WriteData(3, true, []byte("hello"))
			if s := p.wait(3); !strings.HasSuffix(s.data.String(), "hello") {
				t.Errorf("stream 3: %+v, %v", s, p.ended)
			}
			w.upstream.mu.Lock()
			w.upstream.requests = nil
			w.upstream.mu.Unlock()
		})
	}
}

// Trailers that may not be end the stream, and nothing is sent.
func TestMalformedTrailersEndTheirStream(t *testing.T) {
	for name, trailers := range map[string]http2.HeadersFrameParam{
		"without an end":             {EndHeaders: true, BlockFragment: newBlocks().encode(pairs("x", "y"))},
		"with a pseudo-header field": {EndHeaders: true, EndStream: true, BlockFragment: newBlocks().encode(pairs(":path", "y"))},
		"with a name in capitals":    {EndHeaders: true, EndStream: true, BlockFragment: newBlocks().encode(pairs("X", "y"))},
		"with a line end in a value": {EndHeaders: true, EndStream: true, BlockFragment: newBlocks().encode(pairs("x", "y\r\nz: a"))},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, newOrigin(t, echo), nil, bearer("for-a", host))
			p := w.h2()
			p.begin(1, w.upstream.authority(host), "content-length", "5")
			_ = p.WriteData(1, false, []byte("hello"))
			trailers.StreamID = 1
			_ = p.WriteHeaders(trailers)
			if s := p.wait(1); s.reset != http2.ErrCodeProtocol || w.upstream.count() != 0 && hasFastPath() {
				t.Errorf("stream 1: %+v, %v; the upstream was asked %d times", s, p.ended, w.upstream.count())
			}
		})
	}
}

// A client may stop inside a body, in any way.
func TestAClientMayStopInsideABodyOverHTTP2(t *testing.T) {
	for name, c := range map[string]struct {
		stop   func(*h2Peer)
		status int
		code   attache.Code
	}{
		"by saying nothing": {func(p *h2Peer) { p.wait(1) }, 408, attache.CodeRequestTimeout},
		"by a reset":        {func(p *h2Peer) { _ = p.WriteRSTStream(1, http2.ErrCodeCancel) }, 0, attache.CodeClientGone},
		"by leaving":        {func(p *h2Peer) { _ = p.conn.Close() }, 0, attache.CodeClientGone},
		"by an end":         {func(p *h2Peer) { _ = p.WriteData(1, true, nil); p.wait(1) }, 400, attache.CodeBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, newOrigin(t, echo), func(s *proxy.Settings) { s.Limits.IdleTimeout = 300 * time.Millisecond }, bearer("for-a", host))
			p := w.h2()
			p.begin(1, w.upstream.authority(host), "content-length", "10")
			_ = p.WriteData(1, false, []byte("hello"))
			if !p.pong() {
				t.Fatal("the proxy does not go on")
			}
			c.stop(p)
			e := w.event(isRequest)
			if e.Status != c.status || e.Code != c.code || e.BytesIn != 5 && (c.status != 0 || hasFastPath()) {
				t.Errorf("event %+v", e)
			}
			if w.upstream.count() != 0 && hasFastPath() {
				t.Error("the upstream was asked")
			}
		})
	}
}

// A real client posts many times more than a window, one after the other and at once.
func TestRoomIsGivenBackForBodies(t *testing.T) {
	w := newWorld(t, newOrigin(t, echo), nil, bearer("for-a", host))
	client := w.client()
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for i := range 40 {
				body := strings.Repeat("x", 12_000+i)
				resp, err := client.Post(w.url("/"), "text/plain", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.ProtoMajor != 2 || !strings.HasSuffix(string(got), " / "+body) {
					t.Errorf("%s, %v: %d bytes", resp.Proto, err, len(got))
				}
			}
		})
	}
	all.Wait()
}

// Who begins more streams than there may be is refused the last ones, and goes on
// with the bodies of the others.
func TestStreamsTooManyDoNotDisturbBodies(t *testing.T) {
	const streams = 3
	w := newWorld(t, newOrigin(t, echo), func(s *proxy.Settings) { s.Limits.Streams = streams }, bearer("for-a", host))
	a := w.upstream.authority(host)
	p := w.h2()
	for i := range uint32(2 * streams) {
		p.begin(2*i+1, a, "content-length", "5")
	}
	for i := range uint32(2 * streams) {
		_ = p.WriteData(2*i+1, true, []byte("hello"))
	}
	for i := range uint32(2 * streams) {
		s := p.wait(2*i + 1)
		switch {
		case i < streams && !strings.HasSuffix(s.data.String(), " /a hello"):
			t.Errorf("stream %d: %+v, %v", 2*i+1, s, p.ended)
		case i >= streams && s.reset != http2.ErrCodeRefusedStream:
			t.Errorf("stream %d, which is one too many: %+v, %v", 2*i+1, s, p.ended)
		}
	}
}

// What was revoked while a body was on its way is not used for it any more.
func TestABodyIsNotSentAfterARevocation(t *testing.T) {
	if !hasFastPath() {
		return // there the upstream is asked at once
	}
	for name, revoke := range map[string]func(w *world){
		"of the connection": func(w *world) {
			w.live.Apply(attache.Change{Deleted: true, Connection: &attache.Connection{Integration: "bot", Name: "for-a"}})
		},
		"of the token": func(w *world) {
			w.live.Apply(attache.Change{Deleted: true, AccessToken: &attache.AccessToken{Integration: "bot", Hash: w.hash}})
		},
		"of a token whose time is over": (*world).expireToken,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, newOrigin(t, echo), nil, bearer("for-a", host))
			p := w.h2()
			p.begin(1, w.upstream.authority(host), "content-length", "5")
			_ = p.WriteData(1, false, []byte("hell"))
			if !p.pong() {
				t.Fatal("the proxy does not go on")
			}
			revoke(w)
			_ = p.WriteData(1, true, []byte("o"))
			if s := p.wait(1); s.status() != 403 && s.status() != 407 || w.upstream.count() != 0 {
				t.Errorf("answer %d %s, %v; the upstream was asked %d times", s.status(), s.data.String(), p.ended, w.upstream.count())
			}
			if e := w.event(isRequest); e.Decision != attache.Deny {
				t.Errorf("event %+v", e)
			}
		})
	}
}

// Only what is sent of the body shows that a client goes on.
func TestGrantsDoNotKeepABodyWaiting(t *testing.T) {
	w := newWorld(t, newOrigin(t, echo), func(s *proxy.Settings) { s.Limits.IdleTimeout = 300 * time.Millisecond }, bearer("for-a", host))
	p := w.h2()
	p.begin(1, w.upstream.authority(host), "content-length", "5")
	ended := make(chan struct{})
	go func() { // until the connection is closed
		for n := 0; ; n++ {
			select {
			case <-ended:
				return
			case <-time.After(50 * time.Millisecond):
			}
			var frame bytes.Buffer
			f := http2.NewFramer(&frame, nil)
			_ = f.WriteWindowUpdate(1, 1)
			_ = f.WriteData(1, false, nil)
			_, _ = p.conn.Write(frame.Bytes())
		}
	}()
	s := p.wait(1)
	close(ended)
	if s.status() != 408 {
		t.Errorf("answer %d, %v", s.status(), p.ended)
	}
	if e := w.event(isRequest); e.Duration > 2 && hasFastPath() {
		t.Errorf("it has taken %v s", e.Duration)
	}
}

// A client that does not read for a while may send bodies meanwhile.
func TestBodiesArriveWhileTheClientDoesNotRead(t *testing.T) {
	const posts = 20
	big := strings.Repeat("x", 8<<20)
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, big)
		}
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	p := w.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	_ = p.WriteWindowUpdate(0, 1<<30)
	p.ask(1, plainH2(a, "/big"))
	eventually(t, "the large answer does not begin", func() bool { return up.count() == 1 })
	<-time.After(300 * time.Millisecond) // until it fills what lies between, and waits
	for i := range uint32(posts) {
		p.begin(2*i+3, a, "content-length", "15000")
		_ = p.WriteData(2*i+3, true, make([]byte, 15000))
	}
	eventually(t, "the bodies do not arrive", func() bool { return up.count() == 1+posts })
	for i := range uint32(posts) {
		if s := p.wait(2*i + 3); s.status() != 200 {
			t.Errorf("stream %d: %d, %v", 2*i+3, s.status(), p.ended)
		}
	}
}

// Streams that were ended here, and that the client never ends, do not keep later
// bodies from the fast path.
func TestStreamsThatNobodyEndsAreForgotten(t *testing.T) {
	if !hasFastPath() {
		return
	}
	const streams = 3
	w := newWorld(t, newOrigin(t, echo), func(s *proxy.Settings) { s.Limits.Streams = streams }, bearer("for-a", host))
	a := w.upstream.authority(host)
	p := w.h2()
	id := uint32(1)
	for range 2 * streams {
		p.begin(id, a, "content-length", "5")
		_ = p.WriteData(id, false, []byte("hello!"))
		if s := p.wait(id); s.reset != http2.ErrCodeProtocol {
			t.Fatalf("stream %d: %+v, %v", id, s, p.ended)
		}
		id += 2
	}
	p.begin(id, a, "content-length", "5")
	_ = p.WriteData(id, true, []byte("hello"))
	if s := p.wait(id); s.data.String() != "HTTP/1.1 /a hello" {
		t.Errorf("then: %q, %v", s.data.String(), p.ended)
	}
}

// A client may pad what it sends, and gets the room back that this takes.
func TestHTTP2RoomForPaddingIsGivenBack(t *testing.T) {
	w := newWorld(t, newOrigin(t, echo), func(s *proxy.Settings) { s.Limits.IdleTimeout = 2 * time.Second }, bearer("for-a", host))
	conn := w.secure(w.open(w.upstream.authority(host)), host, "h2")
	defer conn.Close()
	p := newH2Peer(t, conn)
	room := map[uint32]int64{0: wire.InitialWindow, 1: wire.InitialWindow}
	read := func() bool {
		if !p.read() {
			return false
		}
		switch f := p.frame.(type) {
		case *http2.SettingsFrame:
			if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
				room[1] += int64(v) - wire.InitialWindow
			}
		case *http2.WindowUpdateFrame:
			room[f.StreamID] += int64(f.Increment)
		}
		return true
	}
	for room[1] == wire.InitialWindow && read() {
	}
	const size = 6000
	p.begin(1, w.upstream.authority(host), "content-length", fmt.Sprint(size))
	padding := make([]byte, 255)
	for i := range size {
		takes := int64(1 + 1 + len(padding))
		for room[0] < takes || room[1] < takes {
			if p.stream(1).ended || !read() {
				t.Fatalf("after %d of %d bytes: room %v; answer %d, %v", i, size, room, p.stream(1).status(), p.ended)
			}
		}
		_ = p.WriteDataPadded(1, i == size-1, []byte("x"), padding)
		room[0], room[1] = room[0]-takes, room[1]-takes
	}
	if s := p.wait(1); s.status() != 200 {
		t.Errorf("answer %d, %v", s.status(), p.ended)
	}
}
