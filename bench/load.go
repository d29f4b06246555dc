package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// route is how load reaches the origin: directly, through a forward proxy, or
// through a reverse proxy.
type route struct {
	Proxy         string // host:port of a forward proxy; empty: there is none
	Authorization string // Proxy-Authorization for it; empty: none
	Ports         addresses
	Host          string // the origin's name
	Roots         string // PEM of whom to trust
	Credential    string // Authorization that the client itself sends; empty: the proxy adds it
}

// kind is what a worker does over and over.
type kind string

// The kinds of work.
const (
	getKind       kind = "get"       // a small GET on a connection that stays
	postKind      kind = "post"      // a POST on a connection that stays
	connectKind   kind = "connect"   // a connection of its own for each small GET
	downloadKind  kind = "download"  // one large answer
	uploadKind    kind = "upload"    // one large request
	idleKind      kind = "idle"      // one small GET, and then nothing
	eventsKind    kind = "events"    // server-sent events, as they come
	websocketKind kind = "websocket" // a message there and back
)

// work is what one load process does.
type work struct {
	Kind    kind
	HTTP2   bool
	Workers int   // connections in use at a time
	Streams int   // with HTTP2: concurrent requests on each; 0: one
	Bytes   int64 // of a body
	Resume  bool  // with connect: TLS sessions
	// Fresh is how many of the workers each time connect to a host that nobody has
	// asked for yet. Where there are others, only theirs are the latencies.
	Fresh int
	// FreshFrom is the number of the first such host; there are freshEach of them.
	FreshFrom int
}

// loadTask is what a load process is told first. It opens its connections, warms
// up, and says so.
type loadTask struct {
	Route  route
	Work   work
	WarmUp time.Duration
}

// span is what it is told then: how long to work.
type span struct{ For time.Duration }

// report is what it did in that time.
type report struct {
	Requests int           // that were answered as they should be
	Errors   int           // workers that stopped for an error
	Error    string        // the first one
	Resumed  int           // TLS handshakes that were resumed
	Elapsed  time.Duration // from the first request to the end of the last
	P50, P99 time.Duration
}

// worker does one thing after the other.
type worker interface {
	// open makes the connection that the work is done on, where it has one.
	open() error
	// once does the work once, and says how long it took.
	once() (time.Duration, error)
	// close ends what open made.
	close()
}

// loadRole works when it is told to.
func loadRole(d dialogue) error {
	var task loadTask
	if err := d.Decode(&task); err != nil {
		return err
	}
	l, err := newLoad(task)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.open(); err != nil {
		return err
	}
	if !l.single() {
		if warm := l.run(task.WarmUp); warm.Errors > 0 {
			return errors.New(warm.Error)
		}
	}
	if err := d.Encode(struct{}{}); err != nil {
		return err
	}
	return ask(d, func(s span) (report, error) { return l.run(s.For), nil })
}

// load is a load process at work.
type load struct {
	work
	workers []worker
	shared  *shared
}

// shared is what all workers of a process have in common.
type shared struct {
	route
	tls     *tls.Config
	fresh   atomic.Int64 // the next host that nobody has asked for
	last    int64        // the number after that of the last such host
	began   time.Time    // when the workers did
	resumed atomic.Int64
}

// freshEach is how many hosts that nobody has asked for a load process has.
const freshEach = 3000

// maxFresh is how many such hosts fit into Attaché's configuration, which is at most 1 MiB.
const maxFresh = 24_000

// freshHost is the name of the n-th such host.
func freshHost(n int) string { return fmt.Sprintf("n%06d.%s", n, freshDomain) }

// errNoMoreHosts: every host has been asked for.
var errNoMoreHosts = errors.New("there are no more hosts")

func (s *shared) nextHost() (string, error) {
	n := s.fresh.Add(1) - 1
	if n >= s.last {
		return "", errNoMoreHosts
	}
	return freshHost(int(n)), nil
}

func newLoad(task loadTask) (*load, error) {
	roots, err := pool(task.Route.Roots)
	if err != nil {
		return nil, err
	}
	protocol := "http/1.1"
	if task.Work.HTTP2 {
		protocol = "h2"
	}
	s := &shared{route: task.Route, tls: &tls.Config{ServerName: task.Route.Host, RootCAs: roots, NextProtos: []string{protocol}}}
	s.fresh.Store(int64(task.Work.FreshFrom))
	s.last = int64(task.Work.FreshFrom + freshEach)
	l := &load{work: task.Work, shared: s}
	for i := range task.Work.Workers {
		w, err := newWorkers(s, task.Work, i < task.Work.Fresh)
		if err != nil {
			return nil, err
		}
		l.workers = append(l.workers, w...)
	}
	return l, nil
}

// newWorkers makes those of one connection.
func newWorkers(s *shared, w work, fresh bool) ([]worker, error) {
	d := &dialer{shared: s, http2: w.HTTP2}
	switch {
	case w.Kind == connectKind:
		return []worker{newConnector(d, w.Resume, fresh)}, nil
	case w.HTTP2:
		return newStreams(d, w)
	case w.Kind == getKind || w.Kind == idleKind || w.Kind == postKind:
		return []worker{newExchange(d, w)}, nil
	case w.Kind == downloadKind:
		return []worker{&download{exchange: exchange{dialer: d}, bytes: w.Bytes}}, nil
	case w.Kind == uploadKind:
		return []worker{&upload{exchange: exchange{dialer: d}, bytes: w.Bytes}}, nil
	case w.Kind == eventsKind:
		return []worker{&events{exchange: exchange{dialer: d}}}, nil
	case w.Kind == websocketKind:
		return []worker{&websocket{exchange: exchange{dialer: d}}}, nil
	}
	return nil, fmt.Errorf("there is no work of kind %q", w.Kind)
}

// openers is how many connections are opened at a time.
const openers = 16

func (l *load) open() error {
	var g errgroup.Group
	g.SetLimit(openers)
	for _, w := range l.workers {
		g.Go(w.open)
	}
	return g.Wait()
}

func (l *load) close() {
	for _, w := range l.workers {
		w.close()
	}
}

// single tells whether a worker's time is up after it has worked once.
func (w work) single() bool { return w.Kind == downloadKind || w.Kind == uploadKind }

// result is what one worker did.
type result struct {
	latencies []time.Duration
	err       error
}

// run works for a time and sums up.
func (l *load) run(span time.Duration) report {
	results := make([]result, len(l.workers))
	resumed := l.shared.resumed.Load()
	start := time.Now()
	l.shared.began = start
	var wg sync.WaitGroup
	for i, w := range l.workers {
		wg.Go(func() { results[i] = l.repeat(w, start.Add(span)) })
	}
	wg.Wait()
	r := report{Elapsed: time.Since(start), Resumed: int(l.shared.resumed.Load() - resumed)}
	var latencies []time.Duration
	for i, one := range results {
		r.Requests += len(one.latencies)
		if one.err != nil {
			r.Errors++
			r.Error = one.err.Error()
		}
		if i >= l.Fresh || l.Fresh == l.Workers {
			latencies = append(latencies, one.latencies...)
		}
	}
	slices.Sort(latencies)
	r.P50, r.P99 = quantile(latencies, 0.50), quantile(latencies, 0.99)
	return r
}

// repeat lets one worker work until a deadline, at least once, or until it fails.
func (l *load) repeat(w worker, deadline time.Time) result {
	if l.Kind == idleKind {
		<-time.After(time.Until(deadline))
		return result{}
	}
	// Room for what a worker does in some seconds, so that it does not grow meanwhile.
	r := result{latencies: make([]time.Duration, 0, 1<<14)}
	for {
		took, err := w.once()
		if errors.Is(err, errNoMoreHosts) {
			return r
		}
		if err != nil {
			r.err = err
			return r
		}
		r.latencies = append(r.latencies, took)
		if l.single() || time.Now().After(deadline) {
			return r
		}
	}
}

// quantile is the latency that a share of all is not longer than; zero where
// there is none. They are sorted.
func quantile(sorted []time.Duration, share float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}
