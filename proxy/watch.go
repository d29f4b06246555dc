package proxy

import (
	"context"
	"net"
	"sync"
	"time"

	"attache/wire"
)

// watch notices that the client leaves while its request is under way. For a relay
// that takes a goroutine, and so begins only when the answer is slow to come; of a
// stream, the reader of its connection says so (leave).
type watch struct {
	watcher chan struct{} // closed when the goroutine has ended; nil: there is none
	ahead   [1]byte       // what it read of the client's next request
	read    int

	mu   sync.Mutex // guards what follows, while there is a watcher
	up   net.Conn   // the upstream connection to interrupt
	gone bool
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

// startWatch begins to read from the client. What it reads is kept for later. Who starts
// it stops it, before the tunnel ends.
func (w *watch) startWatch(client net.Conn, left context.CancelFunc) {
	if w.watcher != nil {
		return
	}
	ended := make(chan struct{})
	w.watcher = ended
	_ = client.SetReadDeadline(time.Time{})
	go func() {
		defer close(ended)
		n, err := client.Read(w.ahead[:])
		w.read = n
		if n > 0 || err == nil || wire.IsTimeout(err) {
			return
		}
		left()
		w.leave()
	}()
}

// leave interrupts what is under way: the client has left.
func (w *watch) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone = true
	if w.up != nil {
		_ = w.up.SetDeadline(past)
	}
}

func (w *watch) hasLeft() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gone
}

// stopWatch ends the goroutine, and returns what it read. Who reads next sets a deadline:
// this leaves one that is over.
func (w *watch) stopWatch(client net.Conn) []byte {
	if w.watcher == nil {
		return nil
	}
	_ = client.SetReadDeadline(past)
	<-w.watcher
	w.watcher = nil
	read := w.ahead[:w.read]
	w.read = 0
	return read
}

// lock keeps the watcher out, where there is one. It is for the goroutine that starts and
// stops watchers; all others lock mu.
func (w *watch) lock() {
	if w.watcher != nil {
		w.mu.Lock()
	}
}

func (w *watch) unlock() {
	if w.watcher != nil {
		w.mu.Unlock()
	}
}

// bound sets the deadline of what is read from the upstream, unless the client
// has left: then it is over.
func (w *watch) bound(up net.Conn, until time.Time) {
	w.lock()
	defer w.unlock()
	w.up = up
	if w.gone {
		until = past
	}
	_ = up.SetReadDeadline(until)
}

// bounded is the upstream connection that the client may interrupt; nil: there is none.
func (w *watch) bounded() net.Conn {
	w.lock()
	defer w.unlock()
	return w.up
}

// unbound: the upstream connection is no longer the client's to interrupt. It says
// whether that was interrupted.
func (w *watch) unbound() (gone bool) {
	w.lock()
	defer w.unlock()
	w.up = nil
	return w.gone
}
