package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf16"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"
)

// Everything that comes from the API goes to the terminal through this file,
// which lets no control character of theirs reach it.

// format is how a result is written: the value of -o.
type format string

const (
	asTable format = "table"
	asJSON  format = "json"
	asYAML  format = "yaml"
)

// outputFlag gives a command the flag -o.
func outputFlag(cmd *cobra.Command) *format {
	f := asTable
	choiceFlag(cmd, &f, flagName{"output", "o"}, "how to write the result", asTable, asJSON, asYAML)
	return &f
}

// write writes value as JSON or YAML, with the field names of its JSON, or the
// table that shows the same to people.
func (f format) write(cmd *cobra.Command, value any, t table) error {
	switch f {
	case asJSON, asYAML:
		return f.encode(cmd.OutOrStdout(), value)
	}
	if len(t.rows) == 0 {
		_, err := fmt.Fprintln(cmd.ErrOrStderr(), t.none)
		return err
	}
	return t.write(cmd.OutOrStdout())
}

func (f format) encode(w io.Writer, value any) error {
	compact, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if f == asJSON {
		var out bytes.Buffer
		// Control characters can only stand inside strings here, where their escaped
		// form says the same.
		if err := json.Indent(&out, []byte(printable(string(compact))), "", "  "); err != nil {
			return err
		}
		out.WriteByte('\n')
		_, err = out.WriteTo(w)
		return err
	}
	// JSON is YAML: read as such, it keeps its names and their order.
	var doc yaml.Node
	if err := yaml.Unmarshal(compact, &doc); err != nil {
		return err
	}
	forPeople(&doc)
	text, err := yaml.Dump(&doc, yaml.WithIndent(2))
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// oldBool are strings that YAML 1.1 takes for true and false, if they stand there
// without quotes.
var oldBool = regexp.MustCompile(`(?i)^(y|n|yes|no|on|off)$`)

// forPeople takes the braces of JSON out of a YAML document, and quotes that
// nobody needs.
func forPeople(n *yaml.Node) {
	if n.Kind != yaml.ScalarNode || !oldBool.MatchString(n.Value) {
		n.Style = 0
	}
	if n.Kind == yaml.ScalarNode {
		lines := strings.Split(n.Value, "\n") // which YAML writes as lines
		for i, line := range lines {
			lines[i] = printable(line)
		}
		n.Value = strings.Join(lines, "\n")
	}
	for _, child := range n.Content {
		forPeople(child)
	}
}

// table is rows of cells in aligned columns.
type table struct {
	columns []string // the heading; none where each row is a label and a value
	rows    [][]string
	none    string // what is said in place of a table without rows
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// addKnown adds a label and its value, unless that is empty.
func (t *table) addKnown(label, value string) {
	if value != "" {
		t.add(label, value)
	}
}

func (t table) write(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	rows := t.rows
	if t.columns != nil {
		rows = append([][]string{t.columns}, rows...)
	}
	for _, cells := range rows {
		for i, c := range cells {
			if i > 0 {
				_, _ = io.WriteString(out, "\t") // errors come back from Flush
			}
			_, _ = io.WriteString(out, printable(c))
		}
		_, _ = io.WriteString(out, "\n")
	}
	return out.Flush()
}

// printable is s with everything escaped that a terminal would obey or hide, as
// JSON and Go escape it.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// moment is a time in a table, in the zone of who looks at it.
func moment(t time.Time) string { return t.Local().Format(time.RFC3339) }

// expiry is when something runs out, which the zero time never does.
func expiry(t time.Time) string {
	switch {
	case t.IsZero():
		return "never"
	case time.Now().Before(t):
		return moment(t)
	default:
		return "expired " + moment(t)
	}
}
