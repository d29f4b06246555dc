package proxy

import (
	"bytes"
	"testing"

	"attache/wire"
)

// A header block that has to wait does so in one piece, however it was written:
// nothing may come between its frames.
func TestAHeldHeaderBlockIsWhole(t *testing.T) {
	c := &h2Conn{p: &Proxy{}, h2Room: newH2Room(), others: map[uint32]struct{}{}, flushing: true} // nobody flushes
	c.hold(heldFrame{stream: 3, data: []byte("data")})
	block := wire.SealHeaders(make([]byte, wire.FrameHeadSize+40_000), 0, 3, wire.FlagEndStream)
	for piece := range 11 {
		at := piece * len(block) / 11
		if _, err := c.Write(block[at : (piece+1)*len(block)/11]); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.held) != 2 || !bytes.Equal(c.held[1].other, block) {
		t.Errorf("%d frames are held", len(c.held))
	}
	if len(c.partial) != 0 {
		t.Errorf("%d bytes are kept", len(c.partial))
	}
}
