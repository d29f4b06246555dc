package proxy

import (
	"net"
	"sync"
	"time"

	"attache/wire"
)

// limited is a listener that has at most so many connections open, and gives up
// on a client that takes longer than a bound to accept one write.
type limited struct {
	net.Listener
	places chan struct{}
	write  time.Duration
	done   chan struct{}
	once   sync.Once
}

func newLimited(ln net.Listener, most int, write time.Duration) *limited {
	return &limited{
		Listener: ln,
		places:   make(chan struct{}, most),
		write:    write,
		done:     make(chan struct{}),
	}
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return wire.NewSocket(c, wire.Patience{Write: l.write}, sync.OnceFunc(func() { <-l.places })), nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

// handover is the listener of an inner server: connections are given to it.
type handover struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandover() *handover {
	return &handover{conns: make(chan net.Conn), done: make(chan struct{})}
}

// give hands c over, or reports that nobody accepts any more.
func (h *handover) give(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.done:
		return false
	}
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handover) Addr() net.Addr { return handoverAddr{} }

type handoverAddr struct{}

func (handoverAddr) Network() string { return "tunnel" }
func (handoverAddr) String() string  { return "tunnel" }
