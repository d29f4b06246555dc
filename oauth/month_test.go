package oauth_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"attache"
	"attache/secret"
)

// weather is a provider's: outages and rate limits by the hour.
type weather struct {
	outages [][2]time.Time
	limits  [][2]time.Time
}

func (s weather) fine(now time.Time) bool { return !within(s.outages, now) && !within(s.limits, now) }

func within(spans [][2]time.Time, now time.Time) bool {
	for _, s := range spans {
		if !now.Before(s[0]) && now.Before(s[1]) {
			return true
		}
	}
	return false
}

// TestAMonthOfAThousandConnections has tokens that live from five minutes to a
// day, a provider that fails for hours and limits rates, and a wall clock that
// jumps an hour either way. As long as the provider answers, no request gets a
// token that has expired; nothing is refreshed more than needed; and no refresh
// token is spent twice.
func TestAMonthOfAThousandConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const connections, days = monthly, 30
		begin := time.Now()
		hours := func(from, to float64) [2]time.Time {
			return [2]time.Time{begin.Add(time.Duration(from * float64(time.Hour))), begin.Add(time.Duration(to * float64(time.Hour)))}
		}
		sky := weather{
			outages: [][2]time.Time{hours(50, 50.5), hours(200, 206), hours(413.2, 413.3)},
			limits:  [][2]time.Time{hours(100, 101), hours(500, 500.2)},
		}
		var jump atomic.Int64 // of the wall clock
		w := newDirectWorld(t, func() time.Time { return time.Now().Add(time.Duration(jump.Load())) })
		w.provider.outage = func(rw http.ResponseWriter) bool {
			switch now := time.Now(); {
			case within(sky.outages, now):
				rw.WriteHeader(http.StatusServiceUnavailable)
				_, _ = io.WriteString(rw, "<h1>Sorry</h1>")
			case within(sky.limits, now):
				rw.Header().Set("Retry-After", "300")
				rw.WriteHeader(http.StatusTooManyRequests)
			default:
				return false
			}
			return true
		}
		w.forgets, w.provider.forgets = true, true
		lives := w.populate(connections)
		w.start()

		var requests sync.WaitGroup
		stop := make(chan struct{})
		for range 4 {
			requests.Go(func() { w.ask(connections, sky, stop) })
		}
		for day := range days {
			switch day {
			case 7, 20:
				jump.Add(int64(time.Hour))
			case 12, 25:
				jump.Add(-int64(time.Hour))
			}
			pass(24 * time.Hour)
		}
		close(stop)
		requests.Wait()
		w.stop()
		w.check()

		total, least := 0, 0
		for i, life := range lives {
			f := w.provider.family(name(i))
			minimum := int(days * 24 * time.Hour / life)
			total, least = total+f.count-1, least+minimum
			if f.reused > 0 || f.revoked {
				t.Errorf("%s: %d tokens spent twice", name(i), f.reused)
			}
			if bound := int(1.3 * float64(minimum)); f.count-1 > bound {
				t.Errorf("%s, with tokens of %v, was refreshed %d times; %d were needed, %d are allowed", name(i), life, f.count-1, minimum, bound)
			}
			if f.count-1 < minimum*9/10 {
				t.Errorf("%s, with tokens of %v, was refreshed %d times; %d were needed", name(i), life, f.count-1, minimum)
			}
		}
		t.Logf("%d refreshes, where %d were needed", total, least)
	})
}

func name(i int) string { return fmt.Sprint("crm", i) }

// populate makes connections, mostly with long tokens, and returns their lives.
func (w *world) populate(n int) []time.Duration {
	lives := make([]time.Duration, n)
	for i := range lives {
		life := 24 * time.Hour
		switch {
		case i < 1:
			life = 5 * time.Minute
		case i < 6:
			life = time.Hour
		case i < 40:
			life = time.Duration(6+i%12) * time.Hour
		}
		lives[i] = life
		o := client(func(o *attache.OAuthClient) {
			o.Name = "client" + life.String()
			o.Provider.TokenParams = map[string]string{"life": life.String()}
		})
		w.provider.life = life
		access, refresh := w.provider.begin(name(i))
		c := connection()
		c.Name, c.OAuthClient = name(i), o.Name
		c.Grant = &attache.Grant{
			State: attache.GrantActive, AccessToken: secret.New(access), RefreshToken: secret.New(refresh), TokenType: "Bearer",
			IssuedAt: time.Now(), ExpiresAt: time.Now().Add(life), Generation: 1,
		}
		w.disk.put(o, c)
	}
	return lives
}

// ask makes requests, and looks at what they get.
func (w *world) ask(connections int, sky weather, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rand.IntN(int(10 * time.Minute)))):
		}
		which := name(rand.IntN(connections))
		if rand.IntN(4) == 0 {
			which = name(rand.IntN(6)) // those whose tokens are short
		}
		g, err := w.keeper.Fresh(w.t.Context(), named(which), 0)
		now := time.Now()
		// A retry may still wait its turn when the provider is back.
		recovered := sky.fine(now) && sky.fine(now.Add(-6*time.Minute))
		switch {
		case err != nil && recovered:
			w.t.Errorf("%v: %s gets no token although the provider answers: %v", now, which, err)
		case err == nil && !w.provider.accepts(g.AccessToken.Expose()):
			w.t.Errorf("%v: %s gets a token that has expired", now, which)
		}
	}
}
