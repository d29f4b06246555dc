package main

import (
	"time"
)

// measurement is one workload through one variant in one round.
type measurement struct {
	Workload string
	Variant  string
	Round    int
	report
	CPU    time.Duration // of the proxy's processes
	Allocs float64       // of the proxy; negative: not known
	Opened int64         // connections that the origin accepted
	RSS    int64         // bytes, of the proxy's processes, at the end
}

// measure does a workload once.
func (b *bed) measure(w workload, p *proxy, warmUp time.Duration) (measurement, error) {
	m := measurement{Workload: w.name, Allocs: -1}
	before, err := b.tally()
	if err != nil {
		return m, err
	}
	var ready struct{}
	load, err := begin("load", loadTask{p.route, w.work, warmUp}, &ready)
	if err != nil {
		return m, err
	}
	if err := b.watch(&m, w, p, load); err != nil {
		_ = load.end()
		return m, err
	}
	after, err := b.tally()
	if err != nil {
		return m, err
	}
	m.Opened = after.Connections - before.Connections
	if err := load.end(); err != nil {
		return m, err
	}
	if p.between != nil {
		err = p.between()
	}
	return m, err
}

// watch lets load work, and reads what that costs the proxy.
func (b *bed) watch(m *measurement, w workload, p *proxy, load *child) error {
	allocs, err := watchAllocs(p)
	if err != nil {
		return err
	}
	before, err := usageOf(p.pid)
	if err != nil {
		return err
	}
	if err := load.ask(span{w.span}, &m.report); err != nil {
		return err
	}
	after, err := usageOf(p.pid)
	if err != nil {
		return err
	}
	m.CPU, m.RSS = after.cpu-before.cpu, after.rss
	m.Allocs, err = allocs()
	return err
}

// watchAllocs counts allocations from now on, without those that it takes to ask.
func watchAllocs(p *proxy) (func() (float64, error), error) {
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
