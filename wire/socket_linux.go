package wire

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// transfer reads from and writes to a socket without the scheduler's knowledge.
// Package net says before each system call that the thread may block, and so
// other threads wake up to take over its work. But these calls do not block: the
// socket does not let them, and what they do is copy some kilobytes. Waiting is
// package net's and the scheduler's again.
type transfer struct {
	raw     syscall.RawConn // nil: there is no socket
	in, out half
}

// half is one direction. What it hands to package net is made once, and so takes
// no memory for each call.
type half struct {
	sync.Mutex // held by who reads, or writes
	step       func(fd uintptr) (done bool)
	b          []byte
	n          int
	errno      syscall.Errno
	waits      bool
}

func (s *Socket) start() {
	conn, ok := s.Conn.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	s.raw, s.in.step, s.out.step = raw, s.readStep, s.writeStep
}

func (s *Socket) ready() bool { return s.raw != nil }

func (s *Socket) read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	h := &s.in
	h.Lock()
	defer h.Unlock()
	h.b, h.n, h.errno = b, 0, 0
	err := s.raw.Read(h.step)
	h.b = nil
	switch {
	case err != nil:
		return 0, err
	case h.errno != 0:
		return 0, s.failed("read", h.errno)
	case h.n == 0:
		return 0, io.EOF
	}
	return h.n, nil
}

func (s *Socket) readStep(fd uintptr) bool {
	h := &s.in
	h.n, h.errno = receive(fd, h.b)
	return h.errno != syscall.EAGAIN
}

func (s *Socket) write(b []byte) (int, error) {
	h := &s.out
	h.Lock()
	defer h.Unlock()
	h.b, h.n, h.errno = b, 0, 0
	err := s.raw.Write(h.step)
	h.b = nil
	if h.waits {
		h.waits = false
		s.regain()
	}
	if err == nil && h.errno != 0 {
		err = s.failed("write", h.errno)
	}
	return h.n, err
}

func (s *Socket) writeStep(fd uintptr) bool {
	h := &s.out
	for h.n < len(h.b) {
		var n int
		switch n, h.errno = send(fd, h.b[h.n:]); {
		case h.errno == 0:
			h.n += n
		case h.errno != syscall.EAGAIN:
			return true
		default:
			if !h.waits {
				h.waits = true
				s.lose()
			}
			return false
		}
	}
	return true
}

// failed is the error of a system call, as package net has it.
func (s *Socket) failed(op string, errno syscall.Errno) error {
	return &net.OpError{Op: op, Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
}
