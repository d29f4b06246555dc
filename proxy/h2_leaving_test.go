package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"attache"
)

// atOnce sends what is written in one record.
func (p *h2Peer) atOnce(write func(*h2Peer)) {
	var frames bytes.Buffer
	q := *p
	q.Framer = http2.NewFramer(&frames, nil)
	write(&q)
	_, _ = p.conn.Write(frames.Bytes())
}

// A request that is denied when its body is there has its event, although the client has
// left.
func TestADenialBehindABodyHasItsEvent(t *testing.T) {
	const requests = 20
	for name, leave := range map[string]func(*h2Peer){
		"a reset":     func(p *h2Peer) { _ = p.WriteRSTStream(1, http2.ErrCodeCancel) },
		"a departure": func(p *h2Peer) { _ = p.WriteGoAway(0, http2.ErrCodeNo, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, newOrigin(t, echo), nil)
			for range requests {
				w.connect(bearer("for-a", host))
				p := w.h2()
				p.begin(1, w.upstream.authority(host), "content-length", "5")
				_ = p.WriteData(1, false, []byte("hell"))
				if !p.pong() {
					t.Fatal(p.ended)
				}
				w.live.Apply(attache.Change{Deleted: true, Connection: &attache.Connection{Integration: "bot", Name: "for-a"}})
				p.atOnce(func(p *h2Peer) {
					_ = p.WriteData(1, true, []byte("o"))
					leave(p)
				})
				_ = p.conn.Close()
			}
			eventually(t, "tunnels stay", func() bool { return w.proxy.Stats().Tunnels == 0 })
			w.proxy.WaitForHandlers()
			if got := len(w.requestEvents()); got != requests {
				t.Errorf("%d requests have %d events", requests, got)
			}
		})
	}
}

// The settings come first (RFC 9113, section 3.4), whatever a client does in its first
// flight.
func TestNothingIsSentBeforeTheSettings(t *testing.T) {
	const connections, streams = 100, 10
	w := newWorld(t, newOrigin(t, echo), nil, bearer("for-a", host))
	a := w.upstream.authority(host)
	fields := h2Fields(a, []string{":method", "POST", ":path", "/", "content-length", "5"})
	for range connections {
		conn := w.secure(w.open(a), host, "h2")
		var first bytes.Buffer
		first.WriteString(http2.ClientPreface)
		f := http2.NewFramer(&first, nil)
		_ = f.WriteSettings()
		blocks := newBlocks()
		for id := uint32(1); id < 2*streams; id += 2 {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: blocks.encode(fields), EndHeaders: true})
			_ = f.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		_, _ = conn.Write(first.Bytes())
		frame, err := http2.NewFramer(io.Discard, conn).ReadFrame()
		_ = conn.Close()
		if err != nil {
			t.Fatal(err)
		}
		if frame.Header().Type != http2.FrameSettings {
			t.Fatalf("the first frame is %v", frame)
		}
	}
}

// A reset is not answered with another (RFC 9113, section 5.4.2).
func TestAResetIsNotAnswered(t *testing.T) {
	w := newWorld(t, newOrigin(t, echo), nil, bearer("for-a", host))
	p := w.h2()
	for id := uint32(1); id < 40; id += 2 {
		p.begin(id, w.upstream.authority(host), ":path", fmt.Sprint("/", id), "content-length", "10")
		_ = p.WriteData(id, false, []byte("hello"))
		_ = p.WriteRSTStream(id, http2.ErrCodeCancel)
	}
	if p.until(300*time.Millisecond, func(f http2.Frame) bool { return f.Header().Type == http2.FrameRSTStream }) {
		t.Errorf("it is answered with %v", p.frame)
	}
}
