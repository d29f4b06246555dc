package oauth_test

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"attache"
	"attache/oauth"
)

// crash ends a process at a write: before it, or after it with nobody told. What
// the provider answered meanwhile is lost with it.
type crash struct {
	write  int // counted from 1: the intent, the result
	before bool
}

// dies arms a crash in the world's process. From then on its disk does nothing
// for it.
func (w *world) dies(c crash) {
	var dead atomic.Bool
	start := 0
	w.disk.mu.Lock()
	defer w.disk.mu.Unlock()
	start = w.disk.writes
	w.disk.sync = func(write int) (bool, error) {
		if dead.Load() {
			return false, errClosed
		}
		if write == start+c.write {
			dead.Store(true)
			return !c.before, errClosed
		}
		return true, nil
	}
}

// reborn ends the dead process and begins another.
func (w *world) reborn() {
	w.disk.mu.Lock()
	w.disk.changed = func(attache.Change) {}
	w.disk.mu.Unlock()
	w.stop()
	w.disk.mu.Lock()
	w.disk.sync = nil
	w.disk.mu.Unlock()
	w.start()
}

func TestAGrantSurvivesACrashAtEachStep(t *testing.T) {
	for sentence, c := range map[string]struct {
		crashes []crash
		keeps   bool // the provider does not rotate
		state   attache.GrantState
		code    string
		reused  int
	}{
		"before the intent is written, nothing has happened":               {[]crash{{1, true}}, false, attache.GrantActive, "", 0},
		"after the intent and before the call, it is spent then":           {[]crash{{1, false}}, false, attache.GrantActive, "", 0},
		"after the call and before the result, a person is needed":         {[]crash{{2, true}}, false, attache.GrantNeedsReauth, oauth.CodeInterrupted, 1},
		"after the call, where tokens do not rotate, nothing is lost":      {[]crash{{2, true}}, true, attache.GrantActive, "", 0},
		"after the result and before its use, it is there":                 {[]crash{{2, false}}, false, attache.GrantActive, "", 0},
		"twice before the intent is written, nothing has happened":         {[]crash{{1, true}, {1, true}}, false, attache.GrantActive, "", 0},
		"twice after the intent, it is not tried a third time":             {[]crash{{1, false}, {1, false}}, false, attache.GrantNeedsReauth, oauth.CodeInterrupted, 0},
		"after the call and then in the recovery, it is not tried again":   {[]crash{{2, true}, {2, true}}, true, attache.GrantNeedsReauth, oauth.CodeInterrupted, 0},
		"after the recovery's result, it is there":                         {[]crash{{1, false}, {2, false}}, false, attache.GrantActive, "", 0},
		"when a recovery has succeeded, the next crash is a first one":     {[]crash{{1, false}, {2, false}, {1, false}}, false, attache.GrantActive, "", 0},
		"after the call, spent again, and then in telling that it is lost": {[]crash{{2, true}, {2, true}}, false, attache.GrantNeedsReauth, oauth.CodeInterrupted, 1},
	} {
		t.Run(sentence, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.provider.keeps = c.keeps
				w.disk.put(client(), w.authorized())
				for _, crash := range c.crashes {
					w.dies(crash)
					pass(2 * time.Hour)
					w.reborn()
				}
				pass(2 * time.Hour)
				g := w.grant()
				f := w.provider.family("a")
				if g.State != c.state || g.ErrorCode != c.code || f.reused != c.reused {
					t.Errorf("the state is %s (%s), and %d tokens were spent twice; want %s (%s), %d", g.State, g.ErrorCode, f.reused, c.state, c.code, c.reused)
				}
				calls := len(w.provider.seen())
				pass(24 * time.Hour)
				if more := len(w.provider.seen()) - calls; c.state == attache.GrantNeedsReauth && more != 0 {
					t.Errorf("%d calls more for a grant that is lost", more)
				}
			})
		})
	}
}

// TestAGrantSurvivesRandomCrashes: whatever answer reached the disk is what is
// used; a token is spent twice only where a process died with the answer, once,
// and the state says so.
func TestAGrantSurvivesRandomCrashes(t *testing.T) {
	lives := map[attache.GrantState]int{}
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			w := newDirectWorld(t, nil)
			w.start()
			random := rand.New(rand.NewPCG(seed, 1))
			w.disk.put(client(), w.authorized())
			lost := 0
			for range 4 {
				c := crash{1 + random.IntN(4), random.IntN(2) == 0}
				w.dies(c)
				pass(time.Duration(1+random.IntN(4)) * time.Hour)
				if g := w.grant(); g.State == attache.GrantRefreshing && g.Intent != nil && w.provider.family("a").refresh != g.RefreshToken.Expose() {
					lost++
				}
				w.reborn()
			}
			pass(2 * time.Hour)
			g, f := w.grant(), w.provider.family("a")
			lives[g.State]++
			switch {
			case f.reused > 1 || f.reused > lost:
				t.Errorf("seed %d: %d tokens spent twice, %d answers lost", seed, f.reused, lost)
			case g.State == attache.GrantActive && g.RefreshToken.Expose() != f.refresh:
				t.Errorf("seed %d: the grant is not the provider's", seed)
			case g.State == attache.GrantNeedsReauth && g.ErrorCode != oauth.CodeInterrupted:
				t.Errorf("seed %d: the state says %q", seed, g.ErrorCode)
			case g.State != attache.GrantActive && g.State != attache.GrantNeedsReauth:
				t.Errorf("seed %d: the state is %s", seed, g.State)
			}
			w.stop()
			w.check()
		})
	}
	if lives[attache.GrantActive] < 10 || lives[attache.GrantNeedsReauth] < 10 {
		t.Errorf("the crashes are not as various as they should be: %v", lives)
	}
}
