package wire_test

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"attache/wire"
)

// dials is what a pool dials in a test: connections that can only be closed.
type dials struct {
	mu   sync.Mutex // guards what follows
	all  []*quiet
	fail func() error // of the next ones
}

type quiet struct {
	net.Conn
	dials     *dials
	id        int
	authority string
	closed    bool
}

var errDial = errors.New("it cannot be dialled")

func (d *dials) dial(_ context.Context, authority string) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		if err := d.fail(); err != nil {
			return nil, err
		}
	}
	q := &quiet{dials: d, id: len(d.all) + 1, authority: authority}
	d.all = append(d.all, q)
	return q, nil
}

// failing lets the next ones fail as it says.
func (d *dials) failing(as func() error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = as
}

// open are the ids of those that are open.
func (d *dials) open() (ids []int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, q := range d.all {
		if !q.closed {
			ids = append(ids, q.id)
		}
	}
	return ids
}

func (q *quiet) isClosed() bool {
	q.dials.mu.Lock()
	defer q.dials.mu.Unlock()
	return q.closed
}

func (q *quiet) Close() error {
	q.dials.mu.Lock()
	defer q.dials.mu.Unlock()
	if q.closed {
		return net.ErrClosed
	}
	q.closed = true
	return nil
}

// bottom is what was dialled for c.
func bottom(c *wire.Conn) *quiet {
	return c.Conn.(interface{ NetConn() net.Conn }).NetConn().(*quiet)
}

func id(c *wire.Conn) int { return bottom(c).id }

// newPool is one that is large in every way, but for what the test changes.
func newPool(d *dials) *wire.Pool {
	return &wire.Pool{
		Dial: d.dial, MaxPerHost: 10, MaxIdlePerHost: 10, MaxIdle: 100, IdleTimeout: time.Minute, Patience: time.Minute,
	}
}

// several gets that many connections at the same time.
func several(t *testing.T, p *wire.Pool, authority string, n int) (all []*wire.Conn) {
	t.Helper()
	for range n {
		c, err := p.Get(t.Context(), authority, func() {})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

func TestTheConnectionThatWasUsedLastIsUsedFirst(t *testing.T) {
	d := &dials{}
	p := newPool(d)
	all := several(t, p, "a:1", 3)
	for _, c := range all {
		if c.Reused {
			t.Errorf("%d is new", id(c))
		}
	}
	for _, i := range []int{1, 0, 2} {
		p.Put(all[i])
	}
	other := several(t, p, "b:1", 1)
	if id(other[0]) != 4 {
		t.Errorf("b got a connection to a")
	}
	var got []int
	for _, c := range several(t, p, "a:1", 4) {
		got = append(got, id(c))
		if c.Reused != (id(c) < 4) {
			t.Errorf("%d: reused %v", id(c), c.Reused)
		}
	}
	if diff := cmp.Diff([]int{3, 1, 2, 5}, got); diff != "" {
		t.Error(diff)
	}
}

func TestGetIsSlowWhenItWaits(t *testing.T) {
	p := newPool(&dials{})
	slow := 0
	c, err := p.Get(t.Context(), "a:1", func() { slow++ })
	if err != nil || slow != 1 {
		t.Errorf("a new one: %d, %v", slow, err)
	}
	p.Put(c)
	if _, err := p.Get(t.Context(), "a:1", func() { slow++ }); err != nil || slow != 1 {
		t.Errorf("an idle one: %d, %v", slow, err)
	}
}

func TestThoseWhoWaitAreServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dials{}
		p := newPool(d)
		p.MaxPerHost = 2
		held := several(t, p, "a:1", 2)
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		served := make(chan [2]int, 10)
		for i := range 5 {
			go func() {
				if c, err := p.Get(ctx, "a:1", func() {}); err == nil {
					served <- [2]int{i, id(c)}
				}
			}()
			synctest.Wait()
		}
		several(t, p, "b:1", 2) // which is another host's matter
		p.Put(held[1])          // goes over as it is
		synctest.Wait()
		p.Discard(held[0]) // its place does
		synctest.Wait()
		d.fail = func() error { d.fail = nil; return errDial }
		if _, err := p.Redial(t.Context(), held[1]); !errors.Is(err, errDial) { // its place does, too
			t.Error(err)
		}
		synctest.Wait()
		for _, want := range [][2]int{{0, 2}, {1, 5}, {2, 6}} {
			if got := <-served; got != want {
				t.Errorf("served %v, want %v", got, want)
			}
		}
		if len(served) != 0 {
			t.Error("more are served than there are places")
		}
	})
}

func TestWaitingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(&dials{})
		p.MaxPerHost = 1
		held := several(t, p, "a:1", 1)[0]
		began := time.Now()
		if _, err := p.Get(t.Context(), "a:1", func() {}); !errors.Is(err, wire.ErrFull) || time.Since(began) != p.Patience {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Get(ctx, "a:1", func() {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		p.Put(held) // nobody waits any more, so it is idle
		if c := several(t, p, "a:1", 1)[0]; c != held {
			t.Error("the place was given to one who had left")
		}
	})
}

func TestIdleConnectionsAreBounded(t *testing.T) {
	for name, c := range map[string]struct {
		change func(p *wire.Pool)
		put    []string // to which authority, in that order
		open   []int
	}{
		"all are kept":           {func(*wire.Pool) {}, []string{"a:1", "b:1", "a:1"}, []int{1, 2, 3}},
		"some of a host":         {func(p *wire.Pool) { p.MaxIdlePerHost = 2 }, []string{"a:1", "a:1", "a:1", "b:1"}, []int{1, 2, 4}},
		"none of a host":         {func(p *wire.Pool) { p.MaxIdlePerHost = 0 }, []string{"a:1", "b:1"}, nil},
		"the newest of all":      {func(p *wire.Pool) { p.MaxIdle = 2 }, []string{"a:1", "b:1", "c:1", "a:1"}, []int{3, 4}},
		"the newest of one":      {func(p *wire.Pool) { p.MaxIdle = 1 }, []string{"a:1", "a:1", "a:1"}, []int{3}},
		"none at all":            {func(p *wire.Pool) { p.MaxIdle = 0 }, []string{"a:1", "b:1"}, nil},
		"the host's limit first": {func(p *wire.Pool) { p.MaxIdle, p.MaxIdlePerHost = 2, 1 }, []string{"a:1", "b:1", "b:1"}, []int{1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			d := &dials{}
			p := newPool(d)
			c.change(p)
			var all []*wire.Conn
			for _, authority := range c.put {
				all = append(all, several(t, p, authority, 1)...)
			}
			for _, conn := range all {
				p.Put(conn)
			}
			if diff := cmp.Diff(c.open, d.open()); diff != "" {
				t.Error(diff)
			}
			for _, authority := range []string{"a:1", "b:1", "c:1"} {
				several(t, p, authority, p.MaxPerHost) // no place is lost
			}
		})
	}
}

func TestRunClosesWhatIsIdleForTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dials{}
		p := newPool(d)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { p.Run(ctx); close(ended) }()
		all := several(t, p, "a:1", 4)
		p.Put(all[0])
		<-time.After(p.IdleTimeout / 2)
		p.Put(all[1])
		<-time.After(p.IdleTimeout/2 + p.IdleTimeout/4 + 1)
		if got := d.open(); !slices.Equal(got, []int{2, 3, 4}) {
			t.Errorf("open are %v", got)
		}
		if c := several(t, p, "a:1", 1)[0]; c != all[1] {
			t.Errorf("got %d", id(c))
		}
		<-time.After(10 * p.IdleTimeout) // one that is used may be old
		p.Put(all[1])
		synctest.Wait()
		if got := d.open(); !slices.Equal(got, []int{2, 3, 4}) {
			t.Errorf("open are %v", got)
		}
		cancel()
		<-ended
		if got := d.open(); !slices.Equal(got, []int{3, 4}) {
			t.Errorf("after the end %v are open", got)
		}
		p.Put(all[2])
		p.Discard(all[3])
		if got := d.open(); got != nil {
			t.Errorf("then %v", got)
		}
		late := several(t, p, "a:1", 1)[0] // as one request may that is under way
		p.Put(late)
		if got := d.open(); got != nil {
			t.Errorf("at last %v", got)
		}
	})
}

// sticky is a connection that takes long to close.
type sticky struct {
	net.Conn
	close func()
}

func (s *sticky) Close() error {
	s.close()
	return nil
}

// Time in which Run could not look counts, too: of a process that was stopped, say.
func TestRunCountsTheTimeInWhichItDidNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed atomic.Int32
		p := newPool(nil)
		p.Dial = func(context.Context, string) (net.Conn, error) {
			return &sticky{close: func() {
				closed.Add(1)
				<-time.After(10 * p.IdleTimeout)
			}}, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { p.Run(ctx); close(ended) }()
		all := several(t, p, "a:1", 2)
		p.Put(all[0])
		<-time.After(2 * p.IdleTimeout) // by now it is being closed
		p.Put(all[1])
		<-time.After(10 * p.IdleTimeout)
		if closed.Load() != 2 {
			t.Errorf("%d are closed of two that have been idle for long", closed.Load())
		}
		cancel()
		<-ended
	})
}

// Whatever panics, the place is there again for the next one.
func TestAPanicKeepsNoPlace(t *testing.T) {
	defect := func() error { panic("a defect") }
	ask := func(p *wire.Pool, ask func() error) (c *wire.Conn, err error) {
		defer func() {
			if v := recover(); v != nil {
				err = errors.New("it panicked")
			}
		}()
		return p.Do(t.Context(), "a:1", wire.Call{Ask: func(*wire.Conn) error { return ask() }, Slow: func() {}})
	}
	d := &dials{}
	p := newPool(d)
	p.MaxPerHost, p.Patience = 1, time.Millisecond
	well := func() error { return nil }
	if _, err := ask(p, defect); err == nil || d.open() != nil {
		t.Errorf("after a panic of who asks %v are open: %v", d.open(), err)
	}
	d.fail = defect
	if _, err := ask(p, well); err == nil {
		t.Error("no panic")
	}
	d.fail = nil
	if _, err := ask(p, well); err != nil {
		t.Error("the place is lost:", err)
	}
}

func TestRedialKeepsThePlace(t *testing.T) {
	d := &dials{}
	p := newPool(d)
	p.MaxPerHost, p.Patience = 1, time.Millisecond
	c := several(t, p, "a:1", 1)[0]
	p.Put(c)
	c = several(t, p, "a:1", 1)[0]
	again, err := p.Redial(t.Context(), c)
	if err != nil || again.Reused || id(again) != 2 || !slices.Equal(d.open(), []int{2}) {
		t.Errorf("%v, %v; open are %v", again, err, d.open())
	}
	if _, err := p.Get(t.Context(), "a:1", func() {}); !errors.Is(err, wire.ErrFull) {
		t.Errorf("there is a second place: %v", err)
	}
	d.fail = func() error { return errDial }
	if _, err := p.Redial(t.Context(), again); !errors.Is(err, errDial) || d.open() != nil {
		t.Errorf("%v; open are %v", err, d.open())
	}
	if _, err := p.Get(t.Context(), "a:1", func() {}); !errors.Is(err, errDial) {
		t.Errorf("the place is lost: %v", err)
	}
	d.fail = nil
	several(t, p, "a:1", 1)
}

// A call is made again where nothing was sent, and once more where it may be.
func TestACallIsMadeAgain(t *testing.T) {
	errDies := errors.New("it dies")
	for name, c := range map[string]struct {
		errs       []error // of one try after the other
		repeatable bool
		want       []int // the connections that were tried; 1 and 2 were idle
		err        error
		slow       int
	}{
		"at once":                     {[]error{nil}, true, []int{2}, nil, 0},
		"on a stale one":              {[]error{wire.ErrStale, nil}, false, []int{2, 1}, nil, 0},
		"too late":                    {[]error{wire.ErrLate, wire.ErrStale, nil}, false, []int{2, 1, 3}, nil, 1},
		"on one that dies":            {[]error{errDies, nil}, true, []int{2, 3}, nil, 1},
		"on one that dies, not twice": {[]error{errDies}, false, []int{2}, errDies, 0},
		"on two that die":             {[]error{errDies, errDies}, true, []int{2, 3}, errDies, 1},
		"on stale ones, then a new":   {[]error{wire.ErrStale, wire.ErrStale, errDies}, true, []int{2, 1, 3}, errDies, 1},
		"on one that is slow":         {[]error{os.ErrDeadlineExceeded}, true, []int{2}, os.ErrDeadlineExceeded, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d := &dials{}
			p := newPool(d)
			p.MaxPerHost, p.Patience = 2, time.Millisecond
			for _, c := range several(t, p, "a:1", 2) {
				p.Put(c)
			}
			var tried []int
			slow := 0
			conn, err := p.Do(t.Context(), "a:1", wire.Call{
				Ask: func(conn *wire.Conn) error {
					tried = append(tried, id(conn))
					return c.errs[len(tried)-1]
				},
				Repeatable: c.repeatable,
				Slow:       func() { slow++ },
			})
			if !slices.Equal(tried, c.want) || err != c.err || slow != c.slow {
				t.Errorf("tried %v, waited %d times: %v", tried, slow, err)
			}
			if err == nil {
				if id(conn) != c.want[len(c.want)-1] {
					t.Errorf("it gave %d", id(conn))
				}
				p.Put(conn)
			}
			several(t, p, "a:1", 2) // and no place is lost
		})
	}
}
