package main

import (
	"errors"
	"fmt"
	"time"
)

// measurement is one workload through one variant in one round.
type measurement struct {
	Workload string `json:"workload"`
	Variant  string `json:"variant"`
	Round    int    `json:"round"`

	Units   float64       `json:"units"` // that were done: requests, connections, MiB, ...
	Elapsed time.Duration `json:"elapsed_ns"`
	P50     time.Duration `json:"p50_ns"`
	P99     time.Duration `json:"p99_ns"`
	Resumed float64       `json:"resumed"` // TLS handshakes of the clients that were resumed, of 1

	// What the proxy's processes used meanwhile.
	CPU    time.Duration `json:"cpu_ns"`
	Allocs float64       `json:"allocs"` // negative: not known
	RSS    int64         `json:"rss"`    // bytes at the end
	Grown  int64         `json:"grown"`  // bytes of RSS more than before the first connection

	Opened int64 `json:"opened"` // connections that the origin accepted, from the first connection on
	Most   int   `json:"most"`   // requests at a time, which is what Opened should not exceed

	Tokens int64 `json:"tokens"` // that the origin's token endpoint issued meanwhile
}

// warmUp is how many times longer than its warm-up a workload is measured.
const warmUp = 8

// measure does a workload once through a proxy.
func (b *bed) measure(w workload, p *proxy) (measurement, error) {
	m := measurement{Workload: w.Name, Allocs: -1, Most: w.work.Workers * max(w.work.Streams, 1)}
	tally, err := b.tally()
	if err != nil {
		return m, err
	}
	used, err := usageOf(p.pid)
	if err != nil {
		return m, err
	}
	var ready struct{}
	load, err := begin("load", loadTask{p.route, w.work, w.span / warmUp}, &ready)
	if err != nil {
		return m, err
	}
	err = b.watch(&m, w, watched{p, load})
	m.Opened -= tally.Connections
	m.Grown = m.RSS - used.rss
	err = errors.Join(err, load.end())
	if p.between != nil {
		err = errors.Join(err, p.between())
	}
	return m, err
}

// watched is a proxy and the load that goes through it.
type watched struct {
	*proxy
	load *child
}

// watch lets load work, and reads what that costs the proxy.
func (b *bed) watch(m *measurement, w workload, at watched) error {
	tally, err := b.tally()
	if err != nil {
		return err
	}
	allocs, err := at.allocs()
	if err != nil {
		return err
	}
	before, err := usageOf(at.pid)
	if err != nil {
		return err
	}
	var r report
	if err := at.load.ask(span{w.span}, &r); err != nil {
		return err
	}
	after, err := usageOf(at.pid)
	if err != nil {
		return err
	}
	if m.Allocs, err = allocs(); err != nil {
		return err
	}
	later, err := b.tally()
	if err != nil {
		return err
	}
	m.CPU, m.RSS = after.cpu-before.cpu, after.rss
	m.Opened, m.Tokens = later.Connections, later.Tokens-tally.Tokens
	return m.take(w.work, r)
}

// take adds what load reports.
func (m *measurement) take(w work, r report) error {
	if r.Errors > 0 {
		return fmt.Errorf("%d workers failed, one with: %s", r.Errors, r.Error)
	}
	m.Units, m.Elapsed, m.P50, m.P99 = float64(r.Requests), r.Elapsed, r.P50, r.P99
	switch {
	case w.Kind == idleKind:
		m.Units = float64(w.Workers)
	case r.Requests == 0:
		return errors.New("nothing was done")
	case w.single():
		m.Units *= float64(w.Bytes) / (1 << 20)
		m.P50, m.P99 = 0, 0 // of a single one there are none
	case w.Kind == connectKind:
		m.Resumed = float64(r.Resumed) / m.Units
	}
	return nil
}

// allocs counts allocations from now on, less those that it takes to ask.
func (p *proxy) allocs() (func() (float64, error), error) {
	if p.mallocs == nil {
		return func() (float64, error) { return -1, nil }, nil
	}
	first, err := p.mallocs()
	if err != nil {
		return nil, err
	}
	second, err := p.mallocs()
	return func() (float64, error) {
		third, err := p.mallocs()
		return max(0, third-second-(second-first)), err
	}, err
}
