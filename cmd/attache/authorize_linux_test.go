package main

import (
	"io"
	"regexp"
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
	_ = program.Close()
	seen, _ := io.ReadAll(person) // which ends with an error, as terminals do
	// However long the machine takes, and however often the line is written.
	const line = "\r\x1b[KWaiting: M:SS left, Ctrl-C gives up"
	got := regexp.MustCompile(`\d:\d\d`).ReplaceAllString(string(seen), "M:SS")
	got = regexp.MustCompile("(?:"+regexp.QuoteMeta(line)+")+").ReplaceAllLiteralString(got, line)
	want := line + "\r\x1b[KNo browser.\\u001b\r\n" + line + "\r\x1b[K"
	if got != want {
		t.Errorf("the terminal shows %q, want %q", got, want)
	}
}
