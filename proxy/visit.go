package proxy

import (
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"attache/wire"
)

// visit is a client's connection while the inner server has it, for one request
// that is plain and yet not for the relay: its body is large, slow or in chunks, it
// wants a 100, it is denied, or its token is not ready. The server gets to read that
// request and no byte more, and when it has answered and would wait for the next
// one, the relay has the connection again.
//
// The connection is the server's until ended is closed; then it is the relay's if it
// came back, and nobody's if it did not, unless the server keeps it: package wire is
// stricter about chunks than net/http is, and what the one does not understand the
// other may.
type visit struct {
	replay
	once  sync.Once
	ended chan struct{}

	// These are for whoever reads, and net/http lets nobody else read or be told the
	// state at the same time; and for the relay, once the visit has ended.
	left   int64        // of the request to be read; without chunks
	head   int          // of its head to be read; with chunks
	chunks *wire.Chunks // nil: the body has a length
	whole  bool         // the request was read
	after  []byte       // what was read behind it
	kept   bool         // by the server

	mu      sync.Mutex // guards what follows
	changed sync.Cond
	back    bool // the relay has it again
	closed  bool
	expired bool // the read deadline, when it was set: net/http calls a read off like that
}

// visit lends the tunnel to the inner server for the request, and reports whether it
// came back.
func (f *relay) visit() bool {
	v := &visit{ended: make(chan struct{}), left: int64(f.size) + f.request.Length}
	if f.request.Chunked {
		v.chunks, v.head = new(wire.Chunks), f.size
	}
	v.changed.L = &v.mu
	v.replay = f.replay()
	f.p.handOver(v)
	<-v.ended
	if !v.isBack() {
		return false
	}
	if len(v.after) > 0 {
		f.prepare()
		f.hold(len(v.after))
		f.in = append(f.in, v.after...)
	}
	return true
}

// Read reads the request. Behind its end it waits for the client to leave, or until
// the server has had enough of waiting.
func (v *visit) Read(b []byte) (int, error) {
	switch {
	case v.isBack():
		return 0, io.EOF
	case v.whole:
		return 0, v.wait()
	case v.chunks == nil:
		b = b[:min(int64(len(b)), v.left)]
	}
	n, err := v.replay.Read(b)
	return v.take(b[:n]), err
}

// take says how much of what was read is the server's, and keeps the rest.
func (v *visit) take(b []byte) int {
	n := len(b)
	switch {
	case v.kept:
		return n
	case v.chunks == nil:
		v.left -= int64(n)
		v.whole = v.left == 0
	default:
		head := min(v.head, n)
		v.head -= head
		used, err := v.chunks.Skip(b[head:])
		v.kept, v.whole = err != nil, v.chunks.Done
		if v.whole {
			n = head + used
		}
	}
	if v.whole {
		v.after = append(v.after, b[n:]...)
		v.after = append(v.after, v.early...)
		v.early = nil
	}
	return n
}

// wait returns why nobody has to wait any more. It reads a byte of what the client
// says next; then there is nothing to hear of its leaving.
func (v *visit) wait() error {
	if len(v.after) == 0 {
		var one [1]byte
		n, err := v.Conn.Read(one[:])
		if n == 0 {
			return err
		}
		v.after = append(v.after, one[0])
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for !v.expired && !v.closed {
		v.changed.Wait()
	}
	if v.closed {
		return net.ErrClosed
	}
	return os.ErrDeadlineExceeded
}

// SetReadDeadline implements [net.Conn].
func (v *visit) SetReadDeadline(t time.Time) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.back {
		return nil
	}
	v.expired = !t.IsZero() && !t.After(time.Now())
	v.changed.Broadcast()
	return v.Conn.SetReadDeadline(t)
}

// told is what the server says of the connection. It cannot be that it is hijacked:
// a wish for that is odd.
func (v *visit) told(state http.ConnState) {
	switch {
	case state != http.StateIdle:
	case v.whole:
		v.mu.Lock()
		defer v.mu.Unlock()
		v.back = !v.closed
	default: // for net/http the request has ended
		v.kept = true
		v.end()
	}
}

func (v *visit) end() { v.once.Do(func() { close(v.ended) }) }

func (v *visit) isBack() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.back
}

// Close ends the visit, and the connection where that does not come back.
func (v *visit) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	defer v.end()
	v.closed = true
	v.changed.Broadcast()
	if v.back {
		return nil
	}
	return v.Conn.Close()
}
