package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"attache/secret"
)

// maxSecret bounds what is read as a secret, in bytes. No header that could
// carry more would be accepted anywhere.
const maxSecret = 64 << 10

// A secret is typed at a prompt that does not show it, or comes from a file or
// from standard input. It is never an argument: those can be seen by everybody
// on the machine, and stay in the shell's history.

// secretFile is the value of a flag that says where a secret is: a path, "-" for
// standard input, or empty for the prompt.
type secretFile string

const stdin secretFile = "-"

const exitInterrupted = 130 // as shells say it: 128 and SIGINT

// readSecret reads a secret from where the flag says. The label names it at the
// prompt and in errors.
func (a *app) readSecret(ctx context.Context, flag string, from secretFile, label string) (secret.Text, error) {
	switch from {
	case "":
		fd, ok := a.terminal()
		if !ok {
			return secret.Text{}, usagef("the %s is missing: name a file that holds it with --%s, or - for standard input", label, flag)
		}
		return a.promptSecret(ctx, fd, label)
	case stdin:
		return secretFrom(a.in, label)
	}
	f, err := os.Open(string(from))
	if err != nil {
		return secret.Text{}, fmt.Errorf("read the %s from the file that --%s names: %w", label, flag, withoutPath(err))
	}
	defer func() { _ = f.Close() }()
	return secretFrom(f, label)
}

// neededSecret is readSecret where an empty one means nothing.
func (a *app) neededSecret(ctx context.Context, flag string, from secretFile, label string) (secret.Text, error) {
	text, err := a.readSecret(ctx, flag, from, label)
	if err == nil && text.IsZero() {
		err = fmt.Errorf("the %s is empty: name a file that holds it with --%s, or - for standard input", label, flag)
	}
	return text, err
}

// secretFrom reads all that r has. One line break at the end goes, for that is
// the editor's; a second one would be the secret's own.
func secretFrom(r io.Reader, label string) (secret.Text, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSecret+1))
	switch {
	case err != nil:
		return secret.Text{}, fmt.Errorf("read the %s: %w", label, withoutPath(err))
	case len(b) > maxSecret:
		return secret.Text{}, fmt.Errorf("the %s is longer than 64 KiB: give the right file", label)
	}
	text, cut := strings.CutSuffix(string(b), "\n")
	if cut {
		text = strings.TrimSuffix(text, "\r")
	}
	return checked(text, label)
}

// checked refuses what JSON, and so the API, would change without a word.
func checked(text, label string) (secret.Text, error) {
	if !utf8.ValidString(text) {
		return secret.Text{}, fmt.Errorf("the %s is not UTF-8 text", label)
	}
	return secret.New(text), nil
}

// withoutPath is why a file could not be opened: its path may be the secret
// itself, given in the wrong place.
func withoutPath(err error) error {
	var failed *fs.PathError
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// terminal is where a person types, if standard input is that.
func (a *app) terminal() (fd int, ok bool) {
	f, ok := a.in.(*os.File)
	if !ok {
		return 0, false
	}
	return int(f.Fd()), term.IsTerminal(int(f.Fd()))
}

// promptSecret asks for a secret without showing it.
func (a *app) promptSecret(ctx context.Context, fd int, label string) (secret.Text, error) {
	typed, err := a.promptHidden(ctx, fd, label)
	if err != nil {
		return secret.Text{}, err
	}
	return checked(string(typed), label)
}

// promptHidden asks for a line without showing it. The terminal shows what is
// typed again afterwards, also when the question is interrupted.
func (a *app) promptHidden(ctx context.Context, fd int, label string) ([]byte, error) {
	_, _ = fmt.Fprintf(a.err, "%s: ", capital(label))
	// Raw, because otherwise Ctrl-D cannot be told from nothing, and a line ends
	// after 4096 bytes.
	before, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("prompt for the %s: %w", label, err)
	}
	typed, err := interruptible(ctx, func() ([]byte, error) { return readRaw(a.in) })
	_ = term.Restore(fd, before) // or the terminal is gone
	_, _ = fmt.Fprintln(a.err)
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("the %s is missing: nothing was changed", label)
	}
	return typed, err
}

// readRaw reads a line from a terminal in raw mode, which leaves to us what keys
// mean. No further: what follows is for the next question.
func readRaw(r io.Reader) ([]byte, error) {
	const ctrlC, ctrlD, ctrlH, ctrlU, del = 0x03, 0x04, 0x08, 0x15, 0x7f
	var line []byte
	for b := make([]byte, 1); len(line) <= maxSecret; {
		if n, err := r.Read(b); n == 0 {
			return nil, cmp.Or(err, io.EOF)
		}
		switch b[0] {
		case '\r', '\n':
			return line, nil
		case ctrlC:
			return nil, &exitError{code: exitInterrupted}
		case ctrlD:
			if len(line) == 0 {
				return nil, io.EOF
			}
			return line, nil
		case ctrlH, del:
			_, size := utf8.DecodeLastRune(line)
			line = line[:len(line)-size]
		case ctrlU:
			line = line[:0]
		default:
			line = append(line, b[0])
		}
	}
	return nil, errors.New("the line is longer than 64 KiB")
}

// ask asks for a line that may be seen.
func (a *app) ask(ctx context.Context, question string) (string, error) {
	_, _ = fmt.Fprint(a.err, printable(question))
	line, err := interruptible(ctx, func() (string, error) { return readLine(a.in) })
	if err != nil {
		_, _ = fmt.Fprintln(a.err) // nobody has ended the line
	}
	return line, err
}

// confirm asks before what cannot be undone.
func (a *app) confirm(ctx context.Context, question string) error {
	if _, ok := a.terminal(); !ok {
		return usagef("%s Nobody can be asked here: add --yes", question)
	}
	answer, err := a.ask(ctx, question+" [y/N] ")
	if err != nil {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was changed")
}

// readLine reads up to a line break and no further: what follows is for the next
// question.
func readLine(r io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); len(line) < maxSecret; {
		n, err := r.Read(b)
		if n == 1 && b[0] != '\n' {
			line = append(line, b[0])
		}
		if n == 1 && b[0] == '\n' || errors.Is(err, io.EOF) {
			return strings.TrimSuffix(string(line), "\r"), nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", errors.New("the line is longer than 64 KiB")
}

// interruptible waits for read until somebody presses Ctrl-C or ctx ends. A read
// of a terminal cannot be stopped; the process ends soon after, and takes it along.
func interruptible[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	done := make(chan result, 1)
	go func() {
		value, err := read()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, &exitError{code: exitInterrupted}
	}
}

// capital is s with a capital at its beginning.
func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
