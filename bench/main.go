// Command bench measures what a proxy costs.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	played, err := play(os.Args)
	if !played {
		err = run(os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	attache := flags.String("attache", "./attache", "")
	_ = flags.Parse(args)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b, err := newBed(*attache, 0)
	if err != nil {
		return err
	}
	defer b.close()
	for _, g := range plan() {
		proxies := map[string]*proxy{}
		for _, v := range variants() {
			s := time.Now()
			p, err := v.start(ctx, b)
			if err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			fmt.Println(v.name, time.Since(s))
			defer p.stop()
			proxies[v.name] = p
		}
		for range g.rounds {
			for _, w := range g.workloads {
				for _, v := range variants() {
					m, err := b.measure(w, proxies[v.name], 200*time.Millisecond)
					if err != nil {
						return fmt.Errorf("%s %s: %w", w.name, v.name, err)
					}
					n := float64(max(m.Requests, 1))
					fmt.Printf("%-16s %-8s %8.0f/s p50 %6v p99 %6v cpu/req %5.1f µs allocs %6.1f opened %d rss %d MiB resumed %d errors %d %s\n", w.name, v.name, n/m.Elapsed.Seconds(), m.P50.Round(time.Microsecond), m.P99.Round(time.Microsecond), float64(m.CPU.Microseconds())/n, m.Allocs/n, m.Opened, m.RSS>>20, m.Resumed, m.Errors, m.Error)
				}
			}
		}
	}
	return nil
}
