package audit_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"attache"
	"attache/audit"
)

func record(r *audit.Ring, from, to int) {
	for i := from; i <= to; i++ {
		r.Record(new(attache.Event{ID: strconv.Itoa(i)}))
	}
}

func TestRecent(t *testing.T) {
	tests := map[string]struct {
		size, recorded, limit int
		want                  []string
	}{
		"nothing was recorded":               {3, 0, 10, nil},
		"fewer than fit, newest first":       {3, 2, 10, []string{"2", "1"}},
		"as many as fit":                     {3, 3, 10, []string{"3", "2", "1"}},
		"more than fit: the oldest are gone": {3, 7, 10, []string{"7", "6", "5"}},
		"no more than the limit":             {3, 7, 2, []string{"7", "6"}},
		"no more than fit, twice round":      {3, 6, 10, []string{"6", "5", "4"}},
		"none are wanted":                    {3, 7, 0, nil},
		"a negative limit":                   {3, 7, -1, nil},
		"a ring of none keeps none":          {0, 7, 10, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := audit.NewRing(tt.size)
			record(r, 1, tt.recorded)
			var got []string
			for _, e := range r.Recent(tt.limit) {
				got = append(got, e.ID)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestASubscriberGetsWhatComesAfterItUntilItsContextEnds(t *testing.T) {
	r := audit.NewRing(10)
	record(r, 1, 1)
	ctx, cancel := context.WithCancel(t.Context())
	follows, leaves := r.Subscribe(t.Context()), r.Subscribe(ctx)
	record(r, 2, 3)
	cancel()
	for i, deliveries := range []<-chan audit.Delivery{leaves, follows} {
		for _, want := range []string{"2", "3"} {
			if d := <-deliveries; d.Event.ID != want || d.Missed != 0 {
				t.Errorf("subscriber %d got %s with %d missed, want %s", i, d.Event.ID, d.Missed, want)
			}
		}
	}
	if d, open := <-leaves; open {
		t.Errorf("got %v after the context ended", d)
	}
	record(r, 4, 4)
	if d := <-follows; d.Event.ID != "4" {
		t.Errorf("the one that stayed got %s, want 4", d.Event.ID)
	}
}

func TestASlowSubscriberIsToldHowManyItMissed(t *testing.T) {
	r := audit.NewRing(10)
	slow := r.Subscribe(t.Context())
	record(r, 1, 1000) // nobody reads

	delivered := 1
	for len(slow) > 1 {
		<-slow
		delivered++
	}
	if last := <-slow; last.Event.ID != strconv.Itoa(delivered) || last.Missed != 0 {
		t.Errorf("the last that fitted is %s with %d missed, want %d", last.Event.ID, last.Missed, delivered)
	}
	record(r, 1001, 1002)
	if d := <-slow; d.Event.ID != "1001" || d.Missed != uint64(1000-delivered) {
		t.Errorf("then came %s with %d missed, want 1001 with %d", d.Event.ID, d.Missed, 1000-delivered)
	}
	if d := <-slow; d.Event.ID != "1002" || d.Missed != 0 {
		t.Errorf("then came %s with %d missed, want 1002 with none", d.Event.ID, d.Missed)
	}
}

func TestSubscribersComeAndGoWhileEventsAreRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := audit.NewRing(10)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() { record(r, 1, 500) })
			all.Go(func() {
				for range 50 {
					ctx, cancel := context.WithCancel(t.Context())
					deliveries := r.Subscribe(ctx)
					r.Recent(5)
					cancel()
					for range deliveries {
					}
				}
			})
		}
		all.Wait()
		if got := len(r.Recent(100)); got != 10 {
			t.Errorf("%d recent events, want 10", got)
		}
	})
}

func BenchmarkRingRecord(b *testing.B) {
	r := audit.NewRing(1000)
	b.ReportAllocs()
	for b.Loop() {
		r.Record(&sample)
	}
}
