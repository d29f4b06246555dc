package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// written is what a format makes of a value and its table, on standard output
// and on standard error.
func written(t *testing.T, f format, value any, tbl table) (out, err string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := &cobra.Command{}
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	if err := f.write(cmd, value, tbl); err != nil {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String()
}

func TestResultsAreWritten(t *testing.T) {
	type item struct {
		Name  string   `json:"name"`
		Ports []uint16 `json:"ports"`
		Next  string   `json:"next,omitempty"`
	}
	items := []item{{"yes", []uint16{443, 8443}, "1e3"}, {"Ä", []uint16{443}, ""}}
	tbl := table{columns: []string{"NAME", "NEXT"}, rows: [][]string{{"yes", "1e3"}, {"Ä", ""}}, none: "nothing"}
	for sentence, c := range map[string]struct {
		format   format
		table    table
		out, err string
	}{
		"a table has aligned columns":                     {asTable, tbl, "NAME   NEXT\nyes    1e3\nÄ      \n", ""},
		"a table without rows says what to do, on stderr": {asTable, table{none: "nothing"}, "", "nothing\n"},
		"details have no heading":                         {asTable, table{rows: [][]string{{"Name", "a"}, {"Created", "b"}}}, "Name      a\nCreated   b\n", ""},
		"JSON is indented": {asJSON, table{}, `[
  {
    "name": "yes",
    "ports": [
      443,
      8443
    ],
    "next": "1e3"
  },
  {
    "name": "Ä",
    "ports": [
      443
    ]
  }
]
`, ""},
		"YAML keeps the order and what is a string": {asYAML, table{}, `- name: "yes"
  ports:
  - 443
  - 8443
  next: '1e3'
- name: Ä
  ports:
  - 443
`, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			out, err := written(t, c.format, items, c.table)
			if diff := cmp.Diff([]string{c.out, c.err}, []string{out, err}); diff != "" {
				t.Errorf("written (-want +got):\n%s", diff)
			}
		})
	}
}

// hostile is what a server might answer to drive a terminal.
const hostile = "a\x1b[2Jb\u009bc\u202ed\r\ne\U000e0001f"

func TestNoFormatDrivesTheTerminal(t *testing.T) {
	for _, f := range []format{asTable, asJSON, asYAML} {
		t.Run(string(f), func(t *testing.T) {
			out, _ := written(t, f, map[string]string{"name": hostile}, table{rows: [][]string{{hostile}}})
			for _, r := range strings.ReplaceAll(out, "\n", "") {
				if printable(string(r)) != string(r) {
					t.Errorf("%q is written as it is, in %q", r, out)
				}
			}
			if !strings.Contains(out, "a") || !strings.Contains(out, "f") {
				t.Errorf("the rest is missing: %q", out)
			}
		})
	}
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"":                "",
		"Attaché [x] 日本":  "Attaché [x] 日本",
		hostile:           `a\u001b[2Jb\u009bc\u202ed\u000d\u000ae\udb40\udc01f`,
		"tab\tand\x00nul": `tab\u0009and\u0000nul`,
		"not\xffUTF-8":    "not\ufffdUTF-8",
	} {
		if got := printable(text); got != want {
			t.Errorf("printable(%q) is %q, want %q", text, got, want)
		}
	}
}

func TestErrorsDoNotDriveTheTerminal(t *testing.T) {
	var stderr bytes.Buffer
	a := &app{out: io.Discard, err: &stderr}
	a.complain(&exitError{1, errorText("first\x1b[2J\nsecond")})
	if want := "attache: first\\u001b[2J\nattache: second\n"; stderr.String() != want {
		t.Errorf("the error is %q, want %q", stderr.String(), want)
	}
}

type errorText string

func (e errorText) Error() string { return string(e) }

func TestExpiry(t *testing.T) {
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	for _, c := range []struct {
		at   time.Time
		want string
	}{
		{time.Time{}, "never"},
		{future, future.Local().Format(time.RFC3339)},
		{past, "expired " + past.Local().Format(time.RFC3339)},
	} {
		if got := expiry(c.at); got != c.want {
			t.Errorf("the expiry of %v is %q, want %q", c.at, got, c.want)
		}
	}
}
