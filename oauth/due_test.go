package oauth_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"attache"
)

// TestWhenATokenIsDue watches the first refresh of many connections.
func TestWhenATokenIsDue(t *testing.T) {
	for life, want := range map[time.Duration]struct{ from, to time.Duration }{
		24 * time.Hour:    {24 * time.Hour * 80 / 100, 24 * time.Hour * 90 / 100},
		time.Hour:         {48 * time.Minute, 54 * time.Minute},
		5 * time.Minute:   {4 * time.Minute, 4 * time.Minute},
		100 * time.Second: {50 * time.Second, 50 * time.Second},
		10 * time.Second:  {5 * time.Second, 5 * time.Second},
	} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newDirectWorld(t, nil)
				w.provider.life = life
				w.start()
				w.disk.put(client())
				for i := range 40 {
					c := w.authorized()
					access, refresh := w.provider.begin(name(i))
					c.Name, c.Grant.AccessToken, c.Grant.RefreshToken = name(i), token(access, refresh).Access, token(access, refresh).Refresh
					w.disk.put(c)
				}
				refreshed := func() (n int) {
					for i := range 40 {
						if w.provider.family(name(i)).count > 1 {
							n++
						}
					}
					return n
				}
				begin := time.Now()
				pass(want.from - time.Second)
				if n := refreshed(); n != 0 {
					t.Errorf("%d are refreshed before %v", n, want.from)
				}
				if want.to > want.from {
					pass((want.to - want.from) / 2)
					if n := refreshed(); n < 8 || n > 32 {
						t.Errorf("%d of 40 are refreshed in the first half of the time", n)
					}
				}
				pass(want.to + time.Second - time.Since(begin))
				if n := refreshed(); n != 40 {
					t.Errorf("%d of 40 are refreshed after %v", n, want.to)
				}
				w.stop()
			})
		})
	}
}

func TestTheShortestLivesAreNotRefreshedAllTheTime(t *testing.T) {
	for _, life := range []time.Duration{time.Second, 2 * time.Second, 8 * time.Second} {
		t.Run(life.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.provider.life = life
				w.disk.put(client(), w.authorized())
				pass(time.Minute)
				if n := len(w.provider.seen()); n < 10 || n > 13 {
					t.Errorf("%d refreshes in a minute", n)
				}
				if g, err := w.fresh(0); err != nil || g.AccessToken.IsZero() {
					t.Errorf("a request gets %v", err)
				}
			})
		})
	}
}

func TestTheWallClockDoesNotLengthenALife(t *testing.T) {
	for sentence, c := range map[string]struct {
		jump    time.Duration
		restart bool
	}{
		"when it is set back":                    {-3 * time.Hour, false},
		"when it is set back and we start again": {-3 * time.Hour, true},
		"when the machine slept":                 {3 * time.Hour, false},
		"when the machine was off":               {3 * time.Hour, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var jump atomic.Int64
				w := newDirectWorld(t, func() time.Time { return time.Now().Add(time.Duration(jump.Load())) })
				w.disk.put(client(), w.authorized())
				w.start()
				pass(10 * time.Minute)
				jump.Store(int64(c.jump))
				if c.jump > 0 { // for the provider, too, that time has passed
					w.provider.access = map[string]time.Time{}
				}
				if c.restart {
					w.stop()
					w.start()
				}
				for range 300 {
					g, err := w.fresh(0)
					if err != nil || !w.provider.accepts(g.AccessToken.Expose()) {
						t.Fatalf("after %v a request gets generation %d, %v", time.Since(time.Unix(946684800, 0)), g.Generation, err)
					}
					pass(time.Minute)
				}
				if n := len(w.provider.seen()); n > 8 {
					t.Errorf("%d calls in five hours", n)
				}
				if g := w.grant(); g.State != attache.GrantActive {
					t.Errorf("the state is %s", g.State)
				}
				w.stop()
			})
		})
	}
}

// TestASleepIsNoticedWithoutARequest: timers stand still with the machine.
func TestASleepIsNoticedWithoutARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var jump atomic.Int64
		w := newDirectWorld(t, func() time.Time { return time.Now().Add(time.Duration(jump.Load())) })
		w.disk.put(client(), w.authorized())
		w.start()
		pass(time.Minute)
		jump.Store(int64(8 * time.Hour))
		pass(2 * time.Minute)
		if n := len(w.provider.seen()); n != 1 {
			t.Errorf("%d calls", n)
		}
		w.stop()
	})
}

// TestAClockThatWasAheadHoldsNothingUp: what was written down while the wall clock was
// a year ahead is not waited for once it is right.
func TestAClockThatWasAheadHoldsNothingUp(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for sentence, write := range map[string]func(*attache.Grant){
		"when a retry is planned": func(g *attache.Grant) {
			g.State, g.RetryAt = attache.GrantRetrying, time.Now().Add(year)
			g.IssuedAt, g.ExpiresAt = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		},
		"when a grant is to be kept alive": func(g *attache.Grant) {
			g.IssuedAt, g.ExpiresAt = time.Now().Add(year), time.Time{}
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newDirectWorld(t, nil)
				record := w.authorized()
				write(record.Grant)
				w.disk.put(client(), record)
				w.start()
				pass(time.Minute)
				if g := w.grant(); g.Generation != 2 || g.State != attache.GrantActive {
					t.Errorf("the grant is of generation %d, %s", g.Generation, g.State)
				}
				w.stop()
			})
		})
	}
}

// TestARetryThatIsOverdueWaitsForNobody: after a start what is overdue is begun over a
// minute, but at once where somebody asks for it.
func TestARetryThatIsOverdueWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newDirectWorld(t, nil)
		w.disk.put(client())
		for i := range 20 {
			c := w.authorized()
			access, refresh := w.provider.begin(name(i))
			c.Name, c.Grant.AccessToken, c.Grant.RefreshToken = name(i), token(access, refresh).Access, token(access, refresh).Refresh
			c.Grant.IssuedAt, c.Grant.ExpiresAt = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
			c.Grant.State, c.Grant.RetryAt = attache.GrantRetrying, time.Now().Add(time.Duration(i-10)*time.Minute)
			w.disk.put(c)
		}
		w.start()
		for i := range 20 {
			if _, err := w.keeper.Fresh(t.Context(), named(name(i)), 0); (err == nil) != (i <= 10) {
				t.Errorf("the retry is due %d minutes after the start, and a request gets %v", i-10, err)
			}
		}
		w.stop()
	})
}
