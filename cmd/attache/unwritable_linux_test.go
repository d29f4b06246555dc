package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// executeAsNobody runs a command line as somebody who may write to few places,
// which root is not, and returns the exit code and what it says.
func executeAsNobody(ctx context.Context, args ...string) (code int, says string) {
	const nobody = 65534
	var out bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // until the thread ends: nobody else may become nobody
		if os.Getuid() == 0 {
			_ = syscall.Setfsuid(nobody) // it has no error to return
		}
		a := &app{in: strings.NewReader(""), out: io.Discard, err: &out, lookup: environment(nil)}
		code = a.execute(ctx, args)
	}()
	<-done
	return code, out.String()
}

func TestAStartSaysThatRefreshedTokensWouldNotLast(t *testing.T) {
	for sentence, prepare := range map[string]func(dir string) error{
		"where there is no database yet": func(string) error { return nil },
		"where the database cannot be written": func(dir string) error {
			a := &app{in: strings.NewReader(""), out: io.Discard, err: io.Discard, lookup: environment(nil)}
			if code := a.execute(t.Context(), []string{"integration", "list", "--data-dir", dir}); code != exitOK {
				t.Errorf("the database is not made: %d", code)
			}
			return os.Chmod(filepath.Join(dir, "attache.db"), 0o444)
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			base := t.TempDir()
			dir := filepath.Join(base, "data")
			for _, err := range []error{
				os.Mkdir(dir, 0o700), prepare(dir), os.Chmod(dir, 0o555),
				os.Chmod(base, 0o755), os.Chmod(filepath.Dir(base), 0o755), // which are for root alone otherwise
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			const listen = "127.0.0.1:0"
			code, says := executeAsNobody(t.Context(), "serve", "--data-dir", dir, "--listen", listen, "--admin-listen", listen, "--metrics-listen", "off")
			const want = "the data directory cannot be written, so neither refreshed tokens nor any other change would last: " +
				"make it writable for this user, or name another with --data-dir\n"
			if code != exitFailure || !strings.HasPrefix(says, "attache: ") || !strings.HasSuffix(says, want) {
				t.Errorf("exit code %d, and it says %q", code, says)
			}
		})
	}
}
