package wire_test

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"attache/wire"
)

// What is written here is read by others as it was meant.
func TestHeaderBlocksAreReadBack(t *testing.T) {
	for _, status := range []int{100, 103, 200, 204, 206, 304, 400, 404, 418, 500, 502} {
		for _, size := range []int{0, 1, 126, 127, 128, 254, 255, 256, 1000, 20_000} {
			value := strings.Repeat("x", size)
			block := wire.AppendStatus([]byte{wire.EmptyTable}, status)
			block = wire.AppendField(block, "X-Name", value)
			block = wire.AppendField(block, []byte(strings.Repeat("N", max(size, 1))), []byte("v"))
			fields, err := hpack.NewDecoder(wire.InitialTable, nil).DecodeFull(block)
			if err != nil || len(fields) != 3 {
				t.Fatalf("status %d, size %d: %d fields, %v", status, size, len(fields), err)
			}
			if s := fields[0]; s.Name != ":status" || s.Value != strconv.Itoa(status) {
				t.Errorf("%v, want status %d", s, status)
			}
			if f := fields[1]; f.Name != "x-name" || f.Value != value {
				t.Errorf("size %d: %.40v", size, f)
			}
			if f := fields[2]; f.Name != strings.Repeat("n", max(size, 1)) || f.Value != "v" {
				t.Errorf("size %d: %.40v", size, f)
			}
		}
	}
}

// A header block is put into as many frames as it takes, behind what is there.
func TestHeaderBlocksAreSealed(t *testing.T) {
	for _, size := range []int{0, 1, wire.MaxFrame - 1, wire.MaxFrame, wire.MaxFrame + 1, 2 * wire.MaxFrame, 2*wire.MaxFrame + 1} {
		before := wire.AppendReset(nil, 9, wire.CodeCancel)
		at := len(before)
		block := bytes.Repeat([]byte{0x88}, size) // :status 200
		b := append(append(before, make([]byte, wire.FrameHeadSize)...), block...)
		framer := http2.NewFramer(io.Discard, bytes.NewReader(wire.SealHeaders(b, at, 3, wire.FlagEndStream)))
		f, err := framer.ReadFrame()
		if reset, ok := f.(*http2.RSTStreamFrame); err != nil || !ok || reset.StreamID != 9 || reset.ErrCode != http2.ErrCodeCancel {
			t.Fatalf("size %d: %v, %v", size, f, err)
		}
		var got []byte
		frames, ended := 0, false
		for !ended {
			f, err := framer.ReadFrame()
			switch f := f.(type) {
			case *http2.HeadersFrame:
				if frames > 0 || f.StreamID != 3 || !f.StreamEnded() {
					t.Errorf("size %d: %v", size, f)
				}
				got, ended = append(got, f.HeaderBlockFragment()...), f.HeadersEnded()
			case *http2.ContinuationFrame:
				got, ended = append(got, f.HeaderBlockFragment()...), f.HeadersEnded()
			default:
				t.Fatalf("size %d: %v, %v", size, f, err)
			}
			frames++
		}
		if want := max(1, (size+wire.MaxFrame-1)/wire.MaxFrame); frames != want || !bytes.Equal(got, block) {
			t.Errorf("size %d: %d frames, want %d; %d bytes", size, frames, want, len(got))
		}
		if _, err := framer.ReadFrame(); err != io.EOF {
			t.Errorf("size %d: something follows: %v", size, err)
		}
	}
}

func TestFramesOfTheConnection(t *testing.T) {
	framer := http2.NewFramer(io.Discard, bytes.NewReader(wire.AppendGoAway(nil, 7, wire.CodeEnhanceYourCalm)))
	f, err := framer.ReadFrame()
	if g, ok := f.(*http2.GoAwayFrame); err != nil || !ok || g.LastStreamID != 7 || g.ErrCode != http2.ErrCodeEnhanceYourCalm {
		t.Errorf("%v, %v", f, err)
	}
	h := wire.FrameHead{Length: 1<<24 - 1, Type: wire.FrameData, Flags: wire.FlagPadded, Stream: 1<<31 - 1}
	if got := wire.ParseFrameHead(h.Append(nil)); got != h {
		t.Errorf("%+v, want %+v", got, h)
	}
}

// FuzzTranslate: of a request that is taken, the parser of HTTP/1.1 finds what
// HTTP/2 said, and nothing else.
func FuzzTranslate(f *testing.F) {
	f.Add("GET", "/a?b", "api.example.test", "accept", "*/*", "x-y", "z")
	f.Add("GET", "/ HTTP/1.1\r\nx: y", "a", "x\r\ny", "z", "", "")
	f.Add("POST", "/", "a b", "content-length", "5", "transfer-encoding", "chunked")
	f.Add("GET", "/", "a", "Upper", "x", "colon:", "y")
	f.Add("GET", "/", "a", "x", " y", "z", "a\x00b")
	f.Fuzz(func(t *testing.T, method, path, authority, name1, value1, name2, value2 string) {
		b, ok := wire.AppendRequestLine(nil, method, path, authority)
		if !ok {
			return
		}
		if b, ok = wire.AppendRequestField(b, name1, value1); !ok {
			return
		}
		if b, ok = wire.AppendRequestField(b, name2, value2); !ok {
			return
		}
		var r wire.Request
		n, err := r.Parse(append(b, "\r\n"...))
		if err != nil {
			return // it is not for the fast path
		}
		if n != len(b)+2 || string(r.Method) != method || string(r.Target) != path || string(r.Host) != authority || r.Length != 0 {
			t.Fatalf("%q is read as %q %q %q", b, r.Method, r.Target, r.Host)
		}
		if len(r.Fields) != 2 || !r.Fields[0].Is(name1) || string(r.Fields[0].Value) != value1 || !r.Fields[1].Is(name2) || string(r.Fields[1].Value) != value2 {
			t.Fatalf("%q is read as %q", b, r.Fields)
		}
	})
}
