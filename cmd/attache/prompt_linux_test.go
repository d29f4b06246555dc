package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"attache/secret"
)

// openPTY is a terminal: what a person at it sees and types, and what a program
// has as its standard input.
func openPTY(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return person, program
}

func echoes(t *testing.T, terminal *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// waitForNoEcho waits until a prompt hides what is typed.
func waitForNoEcho(t *testing.T, terminal *os.File) {
	t.Helper()
	tick, over := time.NewTicker(time.Millisecond), time.After(10*time.Second)
	defer tick.Stop()
	for echoes(t, terminal) {
		select {
		case <-tick.C:
		case <-over:
			t.Fatal("what is typed is shown")
		}
	}
}

// prompted is what a.readSecret returned.
type prompted struct {
	text secret.Text
	err  error
}

func prompting(ctx context.Context, program *os.File) <-chan prompted {
	done := make(chan prompted, 1)
	a := &app{in: program, err: program}
	go func() {
		text, err := a.readSecret(ctx, "secret-file", "", "API key")
		done <- prompted{text, err}
	}()
	return done
}

func TestAPromptShowsNothingOfTheSecret(t *testing.T) {
	person, program := openPTY(t)
	done := prompting(t.Context(), program)
	waitForNoEcho(t, program)
	if _, err := io.WriteString(person, "canary-secret\n"); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got.err != nil || got.text.Expose() != "canary-secret" {
		t.Errorf("the secret is %q, %v", got.text.Expose(), got.err)
	}
	if !echoes(t, program) {
		t.Error("the terminal stays silent")
	}
	seen := make([]byte, 1000)
	n, err := person.Read(seen)
	if err != nil {
		t.Fatal(err)
	}
	if shown := string(seen[:n]); !strings.HasPrefix(shown, "API key: ") || strings.Contains(shown, "canary") {
		t.Errorf("the terminal shows %q", shown)
	}
}

func TestAPromptKnowsTheKeysThatEndAndMendALine(t *testing.T) {
	for sentence, c := range map[string]struct{ typed, want, err string }{
		"Ctrl-D on an empty line cancels": {typed: "\x04", err: "the API key is missing: nothing was changed"},
		"Ctrl-D ends a line":              {typed: "key\x04", want: "key"},
		"Ctrl-C interrupts":               {typed: "key\x03", err: "exit code 130"},
		"backspace takes one back":        {typed: "keä\x7fy\r", want: "key"},
		"and nothing from an empty line":  {typed: "\x7fkey\r", want: "key"},
		"Ctrl-U takes all back":           {typed: "no\x15key\r", want: "key"},
		"a line may be long":              {typed: strings.Repeat("k", 6000) + "\r", want: strings.Repeat("k", 6000)},
	} {
		t.Run(sentence, func(t *testing.T) {
			person, program := openPTY(t)
			done := prompting(t.Context(), program)
			waitForNoEcho(t, program)
			for part := range slices.Chunk([]byte(c.typed), 1000) {
				if _, err := person.Write(part); err != nil {
					t.Fatal(err)
				}
			}
			got := <-done
			if message := fmt.Sprint(got.err); c.err == "" && got.err != nil || c.err != "" && message != c.err {
				t.Errorf("the error is %v, want %q", got.err, c.err)
			}
			if got.text.Expose() != c.want {
				t.Errorf("the secret is %q, want %q", got.text.Expose(), c.want)
			}
			if !echoes(t, program) {
				t.Error("the terminal stays silent")
			}
		})
	}
}

func TestAnInterruptedPromptLeavesTheTerminalAsItWas(t *testing.T) {
	person, program := openPTY(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := prompting(ctx, program)
	waitForNoEcho(t, program)
	cancel()
	if got := <-done; got.err == nil || !got.text.IsZero() {
		t.Errorf("the secret is %q, %v", got.text.Expose(), got.err)
	}
	if !echoes(t, program) {
		t.Error("the terminal stays silent")
	}
	if _, err := io.WriteString(person, "\n"); err != nil { // lets the reader end
		t.Fatal(err)
	}
}

func TestColoursAreForTerminals(t *testing.T) {
	_, program := openPTY(t)
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for sentence, c := range map[string]struct {
		out         io.Writer
		environment map[string]string
		want        string
	}{
		"a terminal has them":    {program, map[string]string{"TERM": "xterm"}, "\x1b[31mdeny\x1b[0m"},
		"unless NO_COLOR is set": {program, map[string]string{"NO_COLOR": "1"}, "deny"},
		"unless it is dumb":      {program, map[string]string{"TERM": "dumb"}, "deny"},
		"a file has none":        {file, nil, "deny"},
		"a pipe has none":        {io.Discard, nil, "deny"},
	} {
		t.Run(sentence, func(t *testing.T) {
			a := &app{out: c.out, lookup: func(name string) (string, bool) {
				value, ok := c.environment[name]
				return value, ok
			}}
			if got := a.colours().red("deny"); got != c.want {
				t.Errorf("it paints %q, want %q", got, c.want)
			}
		})
	}
}
