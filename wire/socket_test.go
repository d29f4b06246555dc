package wire_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"attache/wire"
)

// unseen hides what kind of connection it is.
type unseen struct{ net.Conn }

// ends are the two ends of a TCP connection over loopback.
func ends(t *testing.T) (near, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	if near, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

// ofEachKind does a test on a socket that is read and written directly, where
// the system has it, and on one that package net reads and writes.
func ofEachKind(t *testing.T, patience wire.Patience, test func(t *testing.T, s *wire.Socket, far net.Conn)) {
	t.Run("direct", func(t *testing.T) {
		near, far := ends(t)
		test(t, wire.NewSocket(near, patience, func() {}), far)
	})
	t.Run("by package net", func(t *testing.T) {
		near, far := ends(t)
		test(t, wire.NewSocket(unseen{near}, patience, func() {}), far)
	})
}

// Much more than the buffers of two sockets hold gets there, both ways at once.
func TestASocketMovesBytes(t *testing.T) {
	ofEachKind(t, wire.Patience{Write: time.Minute}, func(t *testing.T, s *wire.Socket, far net.Conn) {
		sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<19)
		go func() {
			_, _ = io.Copy(far, far) // an echo
			_ = far.Close()
		}()
		go func() {
			if n, err := s.Write(sent); n != len(sent) || err != nil {
				t.Errorf("written: %d, %v", n, err)
			}
			_ = s.SetDeadline(time.Now().Add(time.Minute))
		}()
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("read: %v, the same: %v", err, bytes.Equal(got, sent))
		}
		_ = far.Close()
		if n, err := s.Read(got); n != 0 || err != io.EOF {
			t.Errorf("after the end: %d, %v", n, err)
		}
	})
}

// Two who read at once get each what was read for them, and of two who write, the
// bytes of each stay together.
func TestASocketIsForMany(t *testing.T) {
	ofEachKind(t, wire.Patience{Write: time.Minute}, func(t *testing.T, s *wire.Socket, far net.Conn) {
		const rounds, size = 300, 1000
		go func() {
			for range 2 * rounds {
				_, _ = far.Write(bytes.Repeat([]byte("r"), size))
			}
			_ = far.(*net.TCPConn).CloseWrite()
		}()
		written := make(chan []byte)
		go func() {
			all, _ := io.ReadAll(far)
			written <- all
		}()
		var both sync.WaitGroup
		var read atomic.Int64
		for _, mine := range []string{"a", "b"} {
			both.Go(func() {
				for range rounds {
					if n, err := s.Write(bytes.Repeat([]byte(mine), size)); n != size || err != nil {
						t.Errorf("written: %d, %v", n, err)
					}
				}
			})
			both.Go(func() {
				for err := error(nil); err == nil; {
					var n int
					b := make([]byte, 3*size/2)
					n, err = s.Read(b)
					read.Add(int64(n))
					if got := bytes.Count(b, []byte("r")); got != n {
						t.Errorf("%d of %d bytes were read", got, n)
					}
				}
			})
		}
		both.Wait()
		_ = s.CloseWrite()
		if read.Load() != 2*rounds*size {
			t.Errorf("%d bytes were read", read.Load())
		}
		for b := <-written; len(b) > 0; b = b[size:] {
			if len(b) < size || bytes.Count(b[:size], b[:1]) != size {
				t.Fatalf("what was written is mixed up, %d bytes before the end", len(b))
			}
		}
	})
}

// A peer that takes nothing makes a write fail, and one that begins to take
// again makes the next one work: nothing of the old deadline is left.
func TestASocketLosesPatience(t *testing.T) {
	ofEachKind(t, wire.Patience{Write: 50 * time.Millisecond}, func(t *testing.T, s *wire.Socket, far net.Conn) {
		much := make([]byte, 16<<20)
		n, err := s.Write(much)
		if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n == len(much) {
			t.Fatalf("written to one who does not read: %d, %v", n, err)
		}
		if _, err := io.CopyN(io.Discard, far, int64(n)); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Write([]byte("more")); n != 4 || err != nil {
			t.Errorf("written to one who reads again: %d, %v", n, err)
		}
	})
}

// A deadline for writes that somebody has set ends a write before patience does.
func TestASocketKeepsDeadlines(t *testing.T) {
	ofEachKind(t, wire.Patience{Write: time.Minute}, func(t *testing.T, s *wire.Socket, _ net.Conn) {
		began := time.Now()
		for _, set := range []func(time.Time) error{s.SetWriteDeadline, s.SetDeadline} {
			_ = set(time.Now().Add(20 * time.Millisecond))
			if _, err := s.Write(make([]byte, 16<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("write: %v", err)
			}
		}
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		again := time.Now().Add(20 * time.Millisecond)
		for range 2 { // the second is there already, and over
			_ = s.SetReadDeadline(again)
			if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("read: %v", err)
			}
		}
		if d := time.Since(began); d > 30*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// Each read has its own time where patience says so.
func TestASocketWaitsForEachRead(t *testing.T) {
	ofEachKind(t, wire.Patience{Read: 300 * time.Millisecond, Write: time.Minute}, func(t *testing.T, s *wire.Socket, far net.Conn) {
		go func() {
			tick := time.NewTicker(150 * time.Millisecond)
			defer tick.Stop()
			for range 4 {
				<-tick.C
				_, _ = far.Write([]byte("x"))
			}
		}()
		b := make([]byte, 1)
		for range 4 {
			if _, err := s.Read(b); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("nothing came: %v", err)
		}
	})
}

// Errors say what package net says, for those who look into them.
func TestASocketsErrors(t *testing.T) {
	ofEachKind(t, wire.Patience{Write: time.Minute}, func(t *testing.T, s *wire.Socket, far net.Conn) {
		_ = far.(*net.TCPConn).SetLinger(0)
		_ = far.Close()
		var op *net.OpError
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) || !errors.As(err, &op) || op.Op != "read" {
			t.Errorf("read: %v", err)
		}
		if _, err := s.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) || !errors.As(err, &op) || op.Op != "write" {
			t.Errorf("write: %v", err)
		}
	})
}

// Closing ends a read, and is told to who wants to know.
func TestASocketIsClosed(t *testing.T) {
	near, _ := ends(t)
	closed := make(chan struct{})
	s := wire.NewSocket(near, wire.Patience{Write: time.Minute}, func() { close(closed) })
	begun, ended := make(chan struct{}), make(chan error)
	go func() {
		close(begun)
		_, err := s.Read(make([]byte, 1))
		ended <- err
	}()
	<-begun // before the read or inside it: it ends either way
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	<-closed
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write: %v", err)
	}
}

// A lenient deadline leaves the time that it promises, hardly more, and is the
// same for a while.
func TestALenientDeadline(t *testing.T) {
	const d = time.Second
	now := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	different := make(map[time.Time]bool)
	for range 1000 {
		now = now.Add(time.Millisecond)
		until := wire.Lenient(now, d)
		if left := until.Sub(now); left < d || left > d+d/4 {
			t.Fatalf("%v are left", left)
		}
		different[until] = true
	}
	if len(different) > 5 {
		t.Errorf("%d different ones in a second", len(different))
	}
}
