package proxy

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// What an origin speaks is asked again after a while, by one request.
func TestWhatAnOriginSpeaksIsFoundOutAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigins()
		check := func(when string, want bool) {
			t.Helper()
			if o.has("a:443") != want {
				t.Errorf("%s: want %v", when, want)
			}
		}
		check("at first", false)
		o.remove("a:443")
		check("after another protocol", false)
		o.add("a:443")
		check("after HTTP/1.1", true)
		<-time.After(recheckAfter)
		check("after a while", false)
		check("the next request", true)
		o.add("a:443")
		check("when the first is answered", true)
		<-time.After(recheckAfter)
		check("after another while", false)
		o.remove("a:443")
		check("after HTTP/2", false)
	})
}

func TestOriginsAreBounded(t *testing.T) {
	o := newOrigins()
	for i := range 2 * maxOrigins {
		o.add(fmt.Sprint(i))
	}
	if n := o.due.Len(); n != maxOrigins || o.has("0") || !o.has(fmt.Sprint(2*maxOrigins-1)) {
		t.Errorf("%d are kept", n)
	}
}
