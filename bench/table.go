package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// table is rows of cells, the first of them the heads of the columns.
type table [][]string

// columns are what the tables show of a variant, each the median of the rounds,
// but for connections: those are the most.
var columns = []struct {
	head string
	of   func(*results, workload, string) string
}{
	{"per second", shown(rate, series.median, whole)},
	{"p50", shown(p50, series.median, latency)},
	{"p99", shown(p99, series.median, latency)},
	{"CPU", shown(cpu, series.median, latency)},
	{"allocations", shown(allocs, series.median, tenths)},
	{"upstream connections", shown(opened, series.most, whole)},
	{"resumed", shownResumed},
	{"RSS", shownMemory},
}

// shown makes a cell of a figure; one that is not known is a dash.
func shown(f figure, of func(series) (float64, bool), write func(float64) string) func(*results, workload, string) string {
	return func(r *results, w workload, variant string) string {
		v, ok := of(r.series(w.Name, variant, f))
		if !ok {
			return "–"
		}
		return write(v)
	}
}

func shownResumed(r *results, w workload, variant string) string {
	if w.work.Kind != connectKind {
		return "–"
	}
	return shown(resumed, series.median, func(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) })(r, w, variant)
}

// shownMemory is the memory of a proxy, and of one tunnel where nothing else
// matters.
func shownMemory(r *results, w workload, variant string) string {
	if w.work.Kind == idleKind {
		return shown(grown, series.median, func(v float64) string { return tenths(v) + " KiB each" })(r, w, variant)
	}
	return shown(resident, series.median, func(v float64) string { return whole(v) + " MiB" })(r, w, variant)
}

func whole(v float64) string  { return fmt.Sprintf("%.0f", v) }
func tenths(v float64) string { return fmt.Sprintf("%.1f", v) }

// latency is microseconds with three digits that count.
func latency(v float64) string {
	switch {
	case v < 100:
		return fmt.Sprintf("%.1f µs", v)
	case v < 1000:
		return fmt.Sprintf("%.0f µs", v)
	}
	return fmt.Sprintf("%.*f ms", max(0, 2-int(math.Log10(v/1000))), v/1000)
}

// of is the table of one workload.
func (r *results) of(w workload) table {
	heads := []string{"variant"}
	for _, c := range columns {
		heads = append(heads, c.head)
	}
	t := table{heads}
	for _, v := range r.Variants {
		if len(r.series(w.Name, v.Name, opened)) == 0 {
			continue
		}
		row := []string{v.Name}
		for _, c := range columns {
			row = append(row, c.of(r, w, v.Name))
		}
		t = append(t, row)
	}
	return t
}

// claims is the table of what ought to be true, as far as it was measured.
func (r *results) claims() table {
	t := table{{"point", "claim", "figure", "bound", "holds"}}
	for _, v := range r.Claims {
		if v.Measured {
			t = append(t, []string{v.Point, v.Text, fmt.Sprintf("%.2f", v.Figure), v.Bound, map[bool]string{true: "yes", false: "no"}[v.Holds]})
		}
	}
	return t
}

// plain writes a table for a terminal.
func (t table) plain(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	for _, row := range t {
		_, _ = fmt.Fprintln(w, "  "+strings.Join(row, "\t"))
	}
	return w.Flush()
}

// markdown writes a table for a document.
func (t table) markdown(to io.Writer) {
	for i, row := range t {
		_, _ = fmt.Fprintf(to, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			_, _ = fmt.Fprintf(to, "|%s\n", strings.Repeat("---|", len(row)))
		}
	}
}

// notes are what a table cannot say.
func (r *results) notes() []string {
	var notes []string
	if perMinute, ok := r.refreshes(); ok {
		notes = append(notes, fmt.Sprintf("While refreshing was measured, the token endpoint issued %.0f tokens a minute.", perMinute))
	}
	if n := len(r.Claims) + 1 - len(r.claims()); n > 0 {
		notes = append(notes, fmt.Sprintf("Claims that were not measured: %d of %d.", n, len(r.Claims)))
	}
	return append(notes, r.Missing...)
}

// refreshes is how many tokens were issued in a minute while that was measured.
func (r *results) refreshes() (perMinute float64, measured bool) {
	var tokens, minutes float64
	for _, m := range r.Measurements {
		if m.Variant == "refreshing" {
			tokens += float64(m.Tokens)
			minutes += m.Elapsed.Minutes()
		}
	}
	return tokens / max(minutes, math.SmallestNonzeroFloat64), minutes > 0
}

// print writes everything for a terminal.
func (r *results) print(to io.Writer) error {
	for _, w := range r.Workloads {
		_, _ = fmt.Fprintf(to, "\n%s: %s (CPU and allocations for each %s)\n", w.Name, w.About, w.Unit)
		if err := r.of(w).plain(to); err != nil {
			return err
		}
	}
	for _, note := range r.notes() {
		_, _ = fmt.Fprintf(to, "\n%s\n", note)
	}
	_, _ = fmt.Fprintln(to)
	return r.claims().plain(to)
}
