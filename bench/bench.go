package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"
)

// bench runs a plan.
type bench struct {
	bed      *bed
	progress io.Writer
	began    time.Time
	results  results
	failures int
}

// run measures every group. What fails is noted, and the rest goes on.
func (b *bench) run(ctx context.Context, groups []group) error {
	b.began = time.Now()
	for _, g := range groups {
		if err := b.group(ctx, g); err != nil {
			return err
		}
	}
	if b.failures > 0 {
		return fmt.Errorf("%d parts of it failed, as said above", b.failures)
	}
	return nil
}

// failed notes that something could not be measured.
func (b *bench) failed(what string, err error) {
	b.say("FAILED: %s: %v", what, err)
	b.failures++
}

// say tells who waits what is being done.
func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.progress, "%4.0f s  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

// group measures one group, with servers of its own.
func (b *bench) group(ctx context.Context, g group) error {
	b.bed.fresh = g.freshHosts()
	running := map[string]*proxy{}
	defer func() {
		for name, p := range running {
			if err := p.stop(); err != nil {
				b.failed("stop "+name, err)
			}
		}
	}()
	for _, v := range g.variants {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if how := v.missing(); how != "" {
			b.results.missing(how)
			continue
		}
		b.say("%s: start %s", g.name, v.Name)
		p, err := v.start(ctx, b.bed)
		if err != nil {
			b.failed("start "+v.Name, err)
			continue
		}
		running[v.Name] = p
		b.results.note(v)
	}
	return b.rounds(ctx, g, running)
}

// rounds interleaves what is measured. Each round begins with another variant, so
// that none is always the first after the pause.
func (b *bench) rounds(ctx context.Context, g group, running map[string]*proxy) error {
	order := slices.Clone(g.variants)
	fresh := 0
	for round := range g.rounds {
		for _, w := range g.workloads {
			b.say("%s: round %d of %d: %s", g.name, round+1, g.rounds, w.Name)
			w.work.FreshFrom = fresh
			for _, v := range order {
				p, ok := running[v.Name]
				if !ok || !v.takesPart(w) {
					continue
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
				m, err := b.bed.measure(w, p)
				if err != nil {
					b.failed(w.Name+" through "+v.Name, err)
					continue
				}
				m.Variant, m.Round = v.Name, round
				b.results.add(w, m)
			}
			if w.work.Fresh > 0 {
				fresh += freshEach
			}
		}
		order = append(order[1:], order[0])
	}
	return nil
}
