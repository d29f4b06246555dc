package wire

import (
	"bytes"
	"net"
	"testing"

	"pgregory.net/rapid"
)

// source is a connection that brings the pieces, one for each read.
type source struct {
	net.Conn
	pieces [][]byte
}

func (s *source) Read(b []byte) (int, error) {
	n := copy(b, s.pieces[0])
	if s.pieces[0] = s.pieces[0][n:]; len(s.pieces[0]) == 0 {
		s.pieces = s.pieces[1:]
	}
	return n, nil
}

// Whatever the records and the reads are like: where the gate says that nothing
// can be held above it, the last read has ended with the end of a record, and no
// other ended in it. And it does say so where each read brings a record.
func TestTheGateFollowsRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		ends := make(map[int]bool)
		for _, size := range rapid.SliceOfN(rapid.IntRange(0, 40), 1, 20).Draw(t, "sizes") {
			stream = append(stream, 23, 3, 3, byte(size>>8), byte(size))
			stream = append(stream, bytes.Repeat([]byte{0xff}, size)...)
			ends[len(stream)] = true
		}
		s, at := &source{}, 0
		g := &gate{Conn: s}
		for at < len(stream) {
			n := rapid.IntRange(1, min(60, len(stream)-at)).Draw(t, "read")
			s.pieces = [][]byte{stream[at : at+n]}
			if _, err := g.Read(make([]byte, 64)); err != nil {
				t.Fatal(err)
			}
			in := 0
			for end := at + 1; end <= at+n; end++ {
				if ends[end] {
					in++
				}
			}
			at += n
			if g.drained() && (!ends[at] || in != 1) {
				t.Fatalf("after %d bytes, %d of them read last: nothing can be held", at, n)
			}
		}
	})
	g := &gate{}
	for range 3 {
		g.follow([]byte{23, 3, 3, 0, 2, 0, 0})
		if !g.drained() {
			t.Error("after a record and no more, something might be held")
		}
	}
	g.follow([]byte{23, 3, 3, 0, 2, 0, 0, 21, 3, 3, 0, 0})
	if g.drained() {
		t.Error("after two records, nothing can be held")
	}
}
