package proxy

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"attache/wire"
)

// visit is a client's connection while the inner server has it, for one request
// that is not for the relay: it has a large body, or is denied. The server gets to
// read that request and no byte more, and when it has answered and would wait for
// the next one, the relay has the connection again. If it turns out not to be so
// clear where the request ends, the server keeps it.
type visit struct {
	replay
	once sync.Once
	over chan struct{} // closed when the server has it no more, or for good

	// These are for whoever reads, and net/http lets nobody else read or be told the
	// state at the same time; and for the relay, once it is over.
	left   int64        // of the request; not counted where it has chunks
	chunks *wire.Chunks // nil: its length is known
	head   int          // of what is left, what comes before the chunks
	whole  bool         // the request was read
	after  []byte       // what was read behind it
	stays  bool         // with the server

	mu     sync.Mutex // guards what follows
	moved  sync.Cond
	back   bool // the relay has it again
	closed bool
	past   bool // the read deadline
}

// visit lets the inner server serve the request, and reports whether the tunnel
// goes on here.
func (f *relay) visit() bool {
	f.unwatch()
	v := &visit{
		replay: replay{Conn: f.conn, early: bytes.Clone(f.in)},
		over:   make(chan struct{}),
		left:   int64(f.size) + f.request.Length,
	}
	v.moved.L = &v.mu
	if f.request.Chunked {
		v.chunks, v.head = new(wire.Chunks), f.size
	}
	f.release()
	_ = f.conn.SetReadDeadline(time.Time{})
	f.p.handOver(f.t, v)
	<-v.over
	if !v.isBack() {
		return false
	}
	if len(v.after) > 0 {
		f.workspace, _ = f.pool.Get().(*workspace)
		f.in = append(f.in[:0], v.after...)
	}
	return true
}

// Read reads the request. Behind its end it waits for the client to leave, or until
// the server has had enough of waiting.
func (v *visit) Read(b []byte) (int, error) {
	switch {
	case v.isBack():
		return 0, io.EOF
	case v.stays && len(v.after) > 0:
		n := copy(b, v.after)
		v.after = v.after[n:]
		return n, nil
	case v.whole && !v.stays:
		return 0, v.wait()
	case v.chunks == nil && !v.stays:
		b = b[:min(int64(len(b)), v.left)]
	}
	n, err := v.replay.Read(b)
	return v.take(b[:n]), err
}

// take says how much of what was read is the server's, and keeps the rest.
func (v *visit) take(b []byte) int {
	n := len(b)
	switch {
	case v.stays:
		return n
	case v.chunks == nil:
		v.left -= int64(n)
		v.whole = v.left == 0
	default:
		head := min(v.head, n)
		v.head -= head
		used, err := v.chunks.Skip(b[head:])
		v.stays, v.whole = err != nil, v.chunks.Done
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
	for !v.past && !v.closed {
		v.moved.Wait()
	}
	if v.closed {
		return net.ErrClosed
	}
	return os.ErrDeadlineExceeded
}

// SetReadDeadline is what net/http calls a read off with.
func (v *visit) SetReadDeadline(t time.Time) error {
	v.mu.Lock()
	v.past = !t.IsZero() && !t.After(time.Now())
	v.mu.Unlock()
	v.moved.Broadcast()
	return v.Conn.SetReadDeadline(t)
}

// is tells the visit what the server does with it.
func (v *visit) is(state http.ConnState) {
	switch {
	case state == http.StateIdle && v.whole && !v.stays:
		v.mu.Lock()
		defer v.mu.Unlock()
		v.back = !v.closed
	case state == http.StateIdle, state == http.StateHijacked:
		v.stays = true
		v.once.Do(func() { close(v.over) })
	}
}

func (v *visit) isBack() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.back
}

// Close ends the visit, and where that is not over yet, the connection.
func (v *visit) Close() error {
	v.mu.Lock()
	v.closed = true
	back := v.back
	v.mu.Unlock()
	v.moved.Broadcast()
	v.once.Do(func() { close(v.over) })
	if back {
		return nil
	}
	return v.Conn.Close()
}
