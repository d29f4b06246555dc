package oauth_test

import (
	"testing"
	"time"

	"attache"
)

func TestATokenIsRefreshedBeforeItExpires(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.disk.put(client(), w.authorized())
		pass(49 * time.Minute)
		if n := w.provider.family("a").count; n != 1 && n != 2 {
			t.Errorf("%d tokens after 49 minutes", n)
		}
		pass(7 * time.Minute)
		if n := w.provider.family("a").count; n != 2 {
			t.Errorf("%d tokens after 56 minutes", n)
		}
		g := w.grant()
		if g.State != attache.GrantActive || g.Generation != 2 || g.Intent != nil || g.Scope != "read" {
			t.Errorf("the grant is %+v", g)
		}
		if got, want := w.path(), "active refreshing active"; got != want {
			t.Errorf("states %q, want %q", got, want)
		}
	})
}
