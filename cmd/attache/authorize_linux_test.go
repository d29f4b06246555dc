package main

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestACountDownOnATerminal(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	person, program := openPTY(t)
	notices := make(chan string)
	a := &app{err: program}
	stop := a.countDown("Waiting", time.Now().Add(125*time.Second), notices)
	notices <- "No browser.\x1b"
	stop()
	const line = "\r\x1b[KWaiting: 2:05 left, Ctrl-C gives up"
	want := line + "\r\x1b[KNo browser.\\u001b\r\n" + line + "\r\x1b[K"
	seen := make([]byte, len(want))
	n, err := person.Read(seen)
	if got := string(seen[:n]); err != nil || got != want {
		t.Errorf("the terminal shows %q, want %q (%v)", got, want, err)
	}
}
