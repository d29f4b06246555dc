//go:build unix

package main

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestTheSocketIsNeverOpenToOthers, in a directory that is, and whatever the umask.
func TestTheSocketIsNeverOpenToOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), socketFile)
	defer syscall.Umask(syscall.Umask(0))
	var open atomic.Int64
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
				open.Add(1)
			}
		}
	})
	for range 300 {
		ln, err := listenSocket(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		_ = ln.Close()
	}
	close(stop)
	watching.Wait()
	if n := open.Load(); n > 0 {
		t.Errorf("others could open it, seen %d times", n)
	}
}
