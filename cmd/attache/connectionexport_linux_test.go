package main

import (
	"io"
	"strings"
	"testing"

	"attache/client"
)

func TestANewPassphraseIsTypedTwice(t *testing.T) {
	for sentence, c := range map[string]struct{ again, err string }{
		"the same is taken":      {"correct horse", ""},
		"another one is refused": {"correct house", "the two passphrases are not the same: nothing was changed"},
	} {
		t.Run(sentence, func(t *testing.T) {
			person, program := openPTY(t)
			a := &app{in: program, err: program}
			var in client.Export
			done := make(chan error, 1)
			go func() { done <- new(lockFlags).read(t.Context(), a, &in) }()
			waitForNoEcho(t, program)
			if _, err := io.WriteString(person, "correct horse\r"+c.again+"\r"); err != nil {
				t.Fatal(err)
			}
			switch err := <-done; {
			case c.err == "" && (err != nil || in.Passphrase.Expose() != "correct horse"):
				t.Errorf("the passphrase is %q, %v", in.Passphrase.Expose(), err)
			case c.err != "" && (err == nil || err.Error() != c.err):
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}

func TestAnExportIsPasted(t *testing.T) {
	const file = "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n"
	person, program := openPTY(t)
	if _, err := io.WriteString(person, file+"for the next question\n"); err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	a := &app{in: program, err: &shown}
	text, err := a.readExport(t.Context(), stdin)
	if err != nil || text != file || shown.String() != "Paste the export, from the first line to the last:\n" {
		t.Errorf("read %q, %v; shown %q", text, err, shown.String())
	}
	if line, err := readLine(program); err != nil || line != "for the next question" {
		t.Errorf("then %q, %v", line, err)
	}
}
