package main

import (
	"slices"
	"time"
)

// results are what was measured, in the order in which it was.
type results struct {
	Environment  environment   `json:"environment"`
	Variants     []variant     `json:"variants"`
	Workloads    []workload    `json:"workloads"`
	Missing      []string      `json:"missing,omitempty"` // what to install to measure more
	Measurements []measurement `json:"measurements"`
	Claims       []verdict     `json:"claims"`
}

func (r *results) missing(how string) {
	if !slices.Contains(r.Missing, how) {
		r.Missing = append(r.Missing, how)
	}
}

func (r *results) note(v variant) {
	if !slices.ContainsFunc(r.Variants, func(known variant) bool { return known.Name == v.Name }) {
		r.Variants = append(r.Variants, v)
	}
}

func (r *results) add(w workload, m measurement) {
	if !slices.ContainsFunc(r.Workloads, func(known workload) bool { return known.Name == w.Name }) {
		r.Workloads = append(r.Workloads, w)
	}
	r.Measurements = append(r.Measurements, m)
}

// figure is one number of a measurement; it may have none.
type figure func(measurement) (float64, bool)

// rate is how much was done in a second.
func rate(m measurement) (float64, bool) { return m.Units / m.Elapsed.Seconds(), m.Elapsed > 0 }

// cpu is the processor time of the proxy for each unit, in microseconds.
func cpu(m measurement) (float64, bool) {
	return micros(m.CPU) / m.Units, m.Units > 0 && m.CPU > 0
}

// allocs is how many objects the proxy allocated for each unit.
func allocs(m measurement) (float64, bool) {
	return m.Allocs / m.Units, m.Units > 0 && m.Allocs >= 0
}

// p50 and p99 are latencies in microseconds.
func p50(m measurement) (float64, bool) { return micros(m.P50), m.P50 > 0 }
func p99(m measurement) (float64, bool) { return micros(m.P99), m.P99 > 0 }

// opened is how many connections the origin accepted.
func opened(m measurement) (float64, bool) { return float64(m.Opened), true }

// opening is the same as a share of the requests at a time.
func opening(m measurement) (float64, bool) { return float64(m.Opened) / float64(m.Most), m.Most > 0 }

// resident is the memory of the proxy in MiB, and grown what each unit added to
// it, in KiB.
func resident(m measurement) (float64, bool) { return float64(m.RSS) / (1 << 20), m.RSS > 0 }
func grown(m measurement) (float64, bool)    { return float64(m.Grown) / (1 << 10) / m.Units, m.RSS > 0 }

// resumed is the share of handshakes that were resumed.
func resumed(m measurement) (float64, bool) { return m.Resumed, true }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// series is one figure of one workload through one variant, by round.
type series map[int]float64

func (r *results) series(workload, variant string, f figure) series {
	s := series{}
	for _, m := range r.Measurements {
		if m.Workload == workload && m.Variant == variant {
			if v, ok := f(m); ok {
				s[m.Round] = v
			}
		}
	}
	return s
}

// per divides by another series, each round by the same one: what slowed the
// machine in a round slowed both.
func (s series) per(by series) series {
	ratios := series{}
	for round, v := range s {
		if b, ok := by[round]; ok && b != 0 {
			ratios[round] = v / b
		}
	}
	return ratios
}

// median is that of the rounds, if there are any.
func (s series) median() (float64, bool) {
	if len(s) == 0 {
		return 0, false
	}
	sorted := s.sorted()
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half], true
	}
	return (sorted[half-1] + sorted[half]) / 2, true
}

// most is the largest of the rounds, if there are any.
func (s series) most() (float64, bool) {
	if len(s) == 0 {
		return 0, false
	}
	return slices.Max(s.sorted()), true
}

func (s series) sorted() []float64 {
	all := make([]float64, 0, len(s))
	for _, v := range s {
		all = append(all, v)
	}
	slices.Sort(all)
	return all
}
