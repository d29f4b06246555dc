package main

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestAServerThatIsEndingIsNone: whoever asks waits for it to end, and is not told
// that it fails.
func TestAServerThatIsEndingIsNone(t *testing.T) {
	for sentence, answer := range map[string]func(net.Conn){
		"that says so":      func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n") },
		"that says nothing": func(net.Conn) {},
		"in mid-answer":     func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n") },
	} {
		t.Run(sentence, func(t *testing.T) {
			dir := t.TempDir()
			ln, err := net.Listen("unix", filepath.Join(dir, socketFile))
			if err != nil {
				t.Fatal(err)
			}
			var asked sync.WaitGroup
			asked.Go(func() {
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					_, _ = http.ReadRequest(bufio.NewReader(conn))
					answer(conn)
					_ = conn.Close()
				}
			})
			if _, err := localAPI(t.Context(), dir); !errors.Is(err, errNoServer) {
				t.Errorf("it is %v", err)
			}
			_ = ln.Close()
			asked.Wait()
		})
	}
	if reset := fmt.Errorf("read: %w", syscall.ECONNRESET); !unanswered(reset) {
		t.Errorf("%v is an answer", reset)
	}
}

func TestAServerThatMakesRoomEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{log: slog.New(slog.DiscardHandler), idle: newIdle()}
		s.cfg.IdleExit = time.Hour
		began := time.Now()
		ended := make(chan error)
		go func() { ended <- s.endWhenIdle(t.Context()) }()
		synctest.Wait()
		if !s.idle.over(0) {
			t.Error("it is busy")
		}
		if err := <-ended; err != nil || time.Since(began) > 0 {
			t.Errorf("it takes %s, and ends with %v", time.Since(began), err)
		}
	})
}
