package wire_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"attache/wire"
)

// step is one thing that happens to a pool. Which of the connections that are in
// use, or of those who wait, it happens to, is counted by n.
type step struct {
	What      string
	Authority string
	N         int
}

// use is a pool, those who use it, and what is known of them.
type use struct {
	pool    *wire.Pool
	dials   *dials
	held    []*wire.Conn
	waiting []*getting // in the order in which they came
}

type getting struct {
	authority string
	cancel    context.CancelFunc
	done      atomic.Bool
	conn      *wire.Conn
	err       error
}

// do does one step, and says what is wrong after it.
func (u *use) do(s step) error {
	pick := func() (c *wire.Conn) {
		if len(u.held) > 0 {
			at := s.N % len(u.held)
			c = u.held[at]
			u.held = slices.Delete(u.held, at, at+1)
		}
		return c
	}
	switch s.What {
	case "get":
		ctx, cancel := context.WithCancel(context.Background())
		g := &getting{authority: s.Authority, cancel: cancel}
		u.waiting = append(u.waiting, g)
		go func() {
			g.conn, g.err = u.pool.Get(ctx, s.Authority, func() {})
			g.done.Store(true)
		}()
	case "leave":
		if len(u.waiting) > 0 {
			u.waiting[s.N%len(u.waiting)].cancel()
		}
	case "put":
		if c := pick(); c != nil {
			u.pool.Put(c)
		}
	case "discard":
		if c := pick(); c != nil {
			u.pool.Discard(c)
		}
	case "redial":
		if c := pick(); c != nil {
			if again, err := u.pool.Redial(context.Background(), c); err == nil {
				u.held = append(u.held, again)
			}
		}
	case "dials fail":
		u.dials.failing(func() error { return errDial })
	case "dials succeed":
		u.dials.failing(nil)
	case "time passes":
		<-time.After(time.Duration(s.N) * time.Second)
	}
	synctest.Wait()
	return u.check()
}

// idle are those that are open and that nobody uses.
func (u *use) idle() (all []*quiet) {
	u.dials.mu.Lock()
	dialled := slices.Clone(u.dials.all)
	u.dials.mu.Unlock()
	for _, q := range dialled {
		if !q.isClosed() && !slices.ContainsFunc(u.held, func(c *wire.Conn) bool { return bottom(c) == q }) {
			all = append(all, q)
		}
	}
	return all
}

func (u *use) check() error {
	first := map[string]bool{} // authorities for which one waits who came before
	var wait []*getting
	for _, g := range u.waiting {
		switch {
		case !g.done.Load():
			first[g.authority] = true
			wait = append(wait, g)
		case g.err != nil:
			if !errors.Is(g.err, errDial) && !errors.Is(g.err, wire.ErrFull) && !errors.Is(g.err, context.Canceled) {
				return g.err
			}
		default:
			q := bottom(g.conn)
			if first[g.authority] {
				return fmt.Errorf("one who waits for %s was overtaken", g.authority)
			}
			if q.authority != g.authority || q.isClosed() || slices.Contains(u.held, g.conn) {
				return fmt.Errorf("for %s one got %+v", g.authority, q)
			}
			u.held = append(u.held, g.conn)
		}
	}
	u.waiting = wait
	inUse, idle := map[string]int{}, map[string]int{}
	for _, c := range u.held {
		q := bottom(c)
		if q.isClosed() {
			return fmt.Errorf("%d is in use and closed", q.id)
		}
		inUse[q.authority]++
	}
	all := u.idle()
	for _, q := range all {
		idle[q.authority]++
	}
	if len(all) > u.pool.MaxIdle {
		return fmt.Errorf("%d are idle", len(all))
	}
	for authority := range idle {
		if idle[authority] > u.pool.MaxIdlePerHost || inUse[authority]+idle[authority] > u.pool.MaxPerHost {
			return fmt.Errorf("%s: %d are in use and %d idle", authority, inUse[authority], idle[authority])
		}
	}
	for _, g := range u.waiting {
		if inUse[g.authority] != u.pool.MaxPerHost || idle[g.authority] != 0 {
			return fmt.Errorf("%s: one waits while %d are in use and %d idle", g.authority, inUse[g.authority], idle[g.authority])
		}
	}
	return nil
}

// end lets all go, and looks for what is left.
func (u *use) end(stop func()) error {
	for _, g := range u.waiting {
		g.cancel()
	}
	synctest.Wait()
	if err := u.check(); err != nil {
		return err
	}
	u.dials.failing(nil)
	for _, c := range u.held {
		u.pool.Put(c)
	}
	u.held = nil
	stop()
	synctest.Wait()
	if open := u.dials.open(); open != nil {
		return fmt.Errorf("%v stay open", open)
	}
	return allPlaces(u.pool)
}

var authorities = []string{"a:1", "b:1", "c:1"}

// allPlaces finds out whether every place of a pool without connections is there.
func allPlaces(p *wire.Pool) error {
	var all []*wire.Conn
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, authority := range authorities {
		for range p.MaxPerHost {
			c, err := p.Get(ctx, authority, func() {})
			if err != nil {
				return fmt.Errorf("%s has lost a place: %w", authority, err)
			}
			all = append(all, c)
		}
	}
	for _, c := range all {
		p.Discard(c)
	}
	return nil
}

func TestAPoolKeepsItsPromisesWhateverHappens(t *testing.T) {
	what := []string{"get", "get", "get", "leave", "put", "put", "discard", "redial", "dials fail", "dials succeed", "time passes"}
	rapid.Check(t, func(rt *rapid.T) {
		perHost := rapid.IntRange(1, 3).Draw(rt, "per host")
		idlePerHost := rapid.IntRange(0, 3).Draw(rt, "idle per host")
		idle := rapid.IntRange(0, 4).Draw(rt, "idle")
		steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
			return step{rapid.SampledFrom(what).Draw(t, "what"), rapid.SampledFrom(authorities).Draw(t, "authority"), rapid.IntRange(0, 20).Draw(t, "n")}
		}), 1, 60).Draw(rt, "steps")
		var failure error
		synctest.Test(t, func(*testing.T) {
			d := &dials{}
			u := &use{dials: d, pool: &wire.Pool{
				Dial: d.dial, MaxPerHost: perHost, MaxIdlePerHost: idlePerHost, MaxIdle: idle,
				IdleTimeout: 15 * time.Second, Patience: 30 * time.Second,
			}}
			ctx, stop := context.WithCancel(context.Background())
			go u.pool.Run(ctx)
			defer synctest.Wait()
			defer stop()
			for i, s := range steps {
				if failure = u.do(s); failure != nil {
					failure = fmt.Errorf("step %d: %w", i, failure)
					break
				}
			}
			if err := u.end(stop); failure == nil {
				failure = err
			}
		})
		if failure != nil {
			rt.Fatal(failure)
		}
	})
}

// Many at the same time, each of whom may leave, fail or be refused at any moment,
// leave nothing behind.
func TestAPoolUnderLoadLosesNoPlace(t *testing.T) {
	var fails atomic.Int64
	d := &dials{fail: func() error {
		if fails.Add(1)%5 == 0 {
			return errDial
		}
		return nil
	}}
	p := newPool(d)
	p.MaxPerHost, p.MaxIdlePerHost, p.MaxIdle = 4, 3, 5
	p.IdleTimeout, p.Patience = 4*time.Millisecond, 2*time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { p.Run(ctx); close(ended) }()
	var inUse [3]atomic.Int64
	var all sync.WaitGroup
	for seed := range uint64(16) {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, seed))
			for range 1000 {
				host := random.IntN(len(authorities))
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(3000))*time.Microsecond)
				c, err := p.Get(ctx, authorities[host], func() {})
				cancel()
				if err != nil {
					continue
				}
				if n := inUse[host].Add(1); n > int64(p.MaxPerHost) {
					t.Errorf("%d are in use", n)
				}
				if random.IntN(4) == 0 {
					inUse[host].Add(-1) // for as long as it has only its place
					if c, err = p.Redial(t.Context(), c); err != nil {
						continue
					}
					inUse[host].Add(1)
				}
				inUse[host].Add(-1)
				if random.IntN(3) == 0 {
					p.Discard(c)
				} else {
					p.Put(c)
				}
			}
		})
	}
	all.Wait()
	stop()
	<-ended
	if open := d.open(); open != nil {
		t.Errorf("%d stay open", len(open))
	}
	d.fail, p.Patience = nil, time.Minute
	if err := allPlaces(p); err != nil {
		t.Error(err)
	}
}
