// Command bench measures what a proxy costs: requests per second, latency, and
// above all the processor time of the proxy for each request, which the kernel
// counts and which depends least on what else the machine does.
//
// Origin, proxy and load are processes of their own on loopback. Attaché is
// compared, in the same run and in interleaved rounds, with no proxy at all, with
// its own opaque tunnel, and with other proxies (variants.go), under workloads
// (plan.go) from small requests to idle tunnels. The origin answers only who
// presents the credential, so no proxy can save the work of adding it.
//
//	make build && go run ./bench            everything, in under ten minutes
//	go run ./bench -run get-h1 -quick       whether it works
//
// It needs Linux, because it reads /proc.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
)

func main() {
	played, err := play(os.Args)
	if !played {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	attache, baseline   string
	run, variant        string
	rounds              int
	quick               bool
	json, svg, markdown string
}

func parse(args []string, to io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(to)
	flags.StringVar(&o.attache, "attache", "./attache", "the `binary` to measure")
	flags.StringVar(&o.baseline, "baseline", "", "measure this other `binary` of Attaché, too, and compare")
	flags.StringVar(&o.run, "run", "", "measure only workloads whose names match this `regexp`")
	flags.StringVar(&o.variant, "variant", "", "measure only variants whose names match this `regexp`")
	flags.IntVar(&o.rounds, "rounds", 0, "measure so many `times` in place of three, and twice as often but once requests and several stores")
	flags.BoolVar(&o.quick, "quick", false, "measure once and briefly, to see that it works")
	flags.StringVar(&o.json, "json", "", "write everything that was measured to this `file`")
	flags.StringVar(&o.svg, "svg", "", "draw a chart of the CPU time into this `file`")
	flags.StringVar(&o.markdown, "markdown", "", "write the tables between the marks in this `file`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("what is %q?", flags.Arg(0))
	}
	return o, nil
}

// sizes are those that the flags ask for.
func (o options) sizes() sizes {
	s := fullSizes()
	if o.quick {
		s = quickSizes()
	}
	if o.rounds > 0 {
		s.rounds = o.rounds
	}
	s.baseline = o.baseline
	return s
}

// chosen is the part of the plan that the flags ask for.
func (o options) chosen() ([]group, error) {
	workloads, err := regexp.Compile(o.run)
	if err != nil {
		return nil, err
	}
	variants, err := regexp.Compile(o.variant)
	if err != nil {
		return nil, err
	}
	groups := choose(plan(o.sizes()), workloads, variants)
	if len(groups) == 0 {
		return nil, errors.New("nothing matches -run and -variant")
	}
	for _, g := range groups {
		if n := g.freshHosts(); n > maxFresh {
			return nil, fmt.Errorf("-rounds: connect-fresh and connect-mixed need %d hosts, more than the %d that fit into a configuration file: "+
				"measure fewer rounds, or leave one of them out with -run", n, maxFresh)
		}
	}
	return groups, nil
}

// run is the whole program. Figures go to out, and what it is doing to progress.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	o, err := parse(args, progress)
	if err != nil {
		return err
	}
	groups, err := o.chosen()
	if err != nil {
		return err
	}
	for _, binary := range []string{o.attache, cmp.Or(o.baseline, o.attache)} {
		if _, err := os.Stat(binary); err != nil {
			return fmt.Errorf("%w: run make build first, or name the binaries with -attache and -baseline", err)
		}
	}
	bed, err := newBed(o.attache)
	if err != nil {
		return err
	}
	b := &bench{bed: bed, progress: progress}
	b.results.Environment = newEnvironment(bed.attache, o.quick)
	failed := b.run(ctx, groups)
	b.results.judge(claims(o.sizes()))
	return errors.Join(failed, bed.close(), b.results.print(out), b.results.write(o))
}

// write writes the files that the flags ask for.
func (r *results) write(o options) error {
	var err error
	if o.json != "" {
		text, failed := json.MarshalIndent(r, "", "  ")
		err = errors.Join(failed, os.WriteFile(o.json, append(text, '\n'), 0o644))
	}
	if o.svg != "" {
		err = errors.Join(err, r.writeChart(o.svg))
	}
	if o.markdown != "" {
		err = errors.Join(err, r.writeDocument(o.markdown, o.svg))
	}
	return err
}
