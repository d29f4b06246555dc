package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"attache/secret"
)

func TestASecretIsAllButOneLineBreak(t *testing.T) {
	long := strings.Repeat("x", maxSecret)
	for sentence, c := range map[string]struct{ text, want string }{
		"a text without one":              {"key", "key"},
		"a line break at the end":         {"key\n", "key"},
		"one of Windows":                  {"key\r\n", "key"},
		"two line breaks":                 {"key\n\n", "key\n"},
		"a carriage return is the key's":  {"key\r", "key\r"},
		"spaces are the key's":            {" key \n", " key "},
		"a line break in between":         {"one\ntwo\n", "one\ntwo"},
		"nothing, which the API may take": {"", ""},
		"a line break alone":              {"\n", ""},
		"letters of all the world":        {"schlüssel 鍵\n", "schlüssel 鍵"},
		"as long as it may be":            {long, long},
	} {
		t.Run(sentence, func(t *testing.T) {
			got, err := secretFrom(iotest.OneByteReader(strings.NewReader(c.text)), "key")
			if err != nil || got.Expose() != c.want {
				t.Errorf("the secret is %q, %v", got.Expose(), err)
			}
		})
	}
}

func TestSecretsThatAreNone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "canary-in-a-path")
	for sentence, c := range map[string]struct {
		from secretFile
		in   io.Reader
		want string
	}{
		"a file that is not there":    {secretFile(path), nil, "read the key from the file that --secret-file names: no such file or directory"},
		"a directory":                 {secretFile(dir), nil, "read the key: is a directory"},
		"text that is too long":       {stdin, strings.NewReader(strings.Repeat("canary", maxSecret)), "the key is longer than 64 KiB: give the right file"},
		"text that is not UTF-8":      {stdin, strings.NewReader("canary\xff"), "the key is not UTF-8 text"},
		"what cannot be read":         {stdin, iotest.ErrReader(errors.New("broken pipe")), "read the key: broken pipe"},
		"nobody to ask":               {"", strings.NewReader("canary"), "the key is missing: name a file that holds it with --secret-file, or - for standard input"},
		"nobody to ask, through file": {"", os.Stdin, "the key is missing: name a file that holds it with --secret-file, or - for standard input"},
	} {
		t.Run(sentence, func(t *testing.T) {
			if c.in == os.Stdin {
				f, err := os.Open(os.DevNull)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = f.Close() }()
				c.in = f
			}
			a := &app{in: c.in, err: io.Discard}
			got, err := a.readSecret(t.Context(), "secret-file", c.from, "key")
			if !got.IsZero() || err == nil || err.Error() != c.want {
				t.Errorf("the error is %v, want %s", err, c.want)
			}
			var usage *usageError
			if missing := c.from == ""; missing != errors.As(err, &usage) {
				t.Errorf("it is about the command line: %v", !missing)
			}
		})
	}
}

func TestALineEndsWhereTheNextBegins(t *testing.T) {
	r := strings.NewReader("first\nsecond\r\n\nlast")
	for _, want := range []string{"first", "second", "", "last", ""} {
		if got, err := readLine(r); err != nil || got != want {
			t.Errorf("the line is %q, %v; want %q", got, err, want)
		}
	}
	if _, err := readLine(iotest.ErrReader(io.ErrClosedPipe)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the error is %v", err)
	}
	if _, err := readLine(strings.NewReader(strings.Repeat("x", maxSecret+1))); err == nil {
		t.Error("a line without an end is read for ever")
	}
}

func TestAQuestionCanBeInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, w := io.Pipe()
	defer func() { _ = w.Close() }() // lets the reader end
	a := &app{in: r, err: io.Discard}
	_, err := a.ask(ctx, "Go on? ")
	var coded *exitError
	if !errors.As(err, &coded) || coded.code != exitInterrupted || coded.err != nil {
		t.Errorf("the error is %#v", err)
	}
}

func TestTheUserNameOfAnAPIToken(t *testing.T) {
	for given, want := range map[string]string{
		"me@example.com":       "me@example.com/token",
		"me@example.com/token": "me@example.com/token",
	} {
		if got := withSuffix(secret.New(given)).Expose(); got != want {
			t.Errorf("%q becomes %q, want %q", given, got, want)
		}
	}
}
