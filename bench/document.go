package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Between these lines of a document the figures of a run are written.
const (
	beginMark = "<!-- figures: written by make bench -->"
	endMark   = "<!-- end of figures -->"
)

// writeDocument puts the figures between the marks of a document, with a chart
// where there is one.
func (r *results) writeDocument(name, chart string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, found := bytes.Cut(text, []byte(beginMark))
	_, after, ended := bytes.Cut(rest, []byte(endMark))
	if !found || !ended {
		return errors.New(name + " has no place for figures: the lines " + beginMark + " and " + endMark)
	}
	var out bytes.Buffer
	out.Write(before)
	_, _ = fmt.Fprintf(&out, "%s\n\n%s", beginMark, r.markdown())
	if chart != "" {
		path, err := filepath.Rel(filepath.Dir(name), chart)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(&out, "\n![processor time of each proxy](%s)\n", filepath.ToSlash(path))
	}
	_, _ = fmt.Fprintf(&out, "\n%s", endMark)
	out.Write(after)
	return os.WriteFile(name, out.Bytes(), 0o644)
}

// markdown is everything for a document.
func (r *results) markdown() string {
	var out strings.Builder
	e := r.Environment
	_, _ = fmt.Fprintf(&out, "Attaché %s, %s, %s, %d processors (%s).\n", e.Attache, e.Go, e.Kernel, e.Processors, e.Processor)
	if e.Quick {
		_, _ = fmt.Fprintln(&out, "\n**This was a quick run: its figures say that the benchmark works, and nothing else.**")
	}
	_, _ = fmt.Fprint(&out, "\n### What is claimed\n\n")
	r.claims().markdown(&out)
	for _, w := range r.Workloads {
		_, _ = fmt.Fprintf(&out, "\n### %s\n\n%s. CPU and allocations are for each %s.\n\n", w.Name, upperFirst(w.About), w.Unit)
		r.of(w).markdown(&out)
	}
	for _, note := range r.notes() {
		_, _ = fmt.Fprintf(&out, "\n%s\n", note)
	}
	return out.String()
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
