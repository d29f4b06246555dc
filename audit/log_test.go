package audit_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"attache"
	"attache/audit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var sample = attache.Event{
	ID:          "01J9ZK3V5Q8W7X6Y5Z4A3B2C1D",
	Time:        time.Date(2026, 11, 22, 10, 0, 1, 500_000_000, time.UTC),
	Kind:        attache.RequestEvent,
	Tunnel:      "01J9ZK3V5Q8W7X6Y5Z4A3B2C1C",
	Client:      "192.0.2.7",
	Integration: "default",
	Connection:  "github",
	Decision:    attache.Inject,
	Code:        attache.CodeDNSError,
	Reason:      "the connection github covers api.github.com",
	Target:      "https://api.github.com",
	Method:      "GET",
	Path:        "/repos/<octocat>/hello-world",
	Protocol:    "HTTP/1.1",
	Status:      502,
	BytesIn:     1,
	BytesOut:    12345,
	Duration:    0.25,
	Upstream:    0.125,
}

func denied(c attache.Code) attache.Event {
	e := sample
	e.Decision, e.Code, e.Status = attache.Deny, c, c.Status()
	return e
}

// start runs l until the function that it returns is called, which returns
// what Run did.
func start(t *testing.T, l *audit.Log) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- l.Run(ctx) }()
	return func() error {
		cancel()
		return <-result
	}
}

// logged is all that a log writes of events, when nothing goes wrong.
func logged(t *testing.T, o audit.LogOptions, events ...attache.Event) string {
	t.Helper()
	var out bytes.Buffer
	l := audit.NewLog(&out, o)
	for _, e := range events {
		l.Record(&e)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// tally is what a log says about the events that it was given.
type tally struct {
	Lines      int
	Suppressed map[attache.Code]uint64
	Dropped    uint64
	Summaries  int
}

func read(t *testing.T, r io.Reader) tally {
	t.Helper()
	got := tally{Suppressed: make(map[attache.Code]uint64)}
	for lines := bufio.NewScanner(r); lines.Scan(); {
		var line struct {
			Kind       string
			Time       time.Time
			Suppressed map[attache.Code]uint64
			Dropped    uint64
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("%v in line %q", err, lines.Text())
		}
		if line.Time.IsZero() {
			t.Errorf("no time in line %q", lines.Text())
		}
		if line.Kind != "summary" {
			got.Lines++
			continue
		}
		got.Summaries++
		got.Dropped += line.Dropped
		for c, n := range line.Suppressed {
			got.Suppressed[c] += n
		}
	}
	return got
}

func TestTheLineOfAnEvent(t *testing.T) {
	want := `{"request_id":"01J9ZK3V5Q8W7X6Y5Z4A3B2C1D","time":"2026-11-22T10:00:01.5Z","kind":"request",` +
		`"tunnel":"01J9ZK3V5Q8W7X6Y5Z4A3B2C1C","client":"192.0.2.7","integration":"default","connection":"github",` +
		`"decision":"inject","code":"dns_error","reason":"the connection github covers api.github.com",` +
		`"target":"https://api.github.com","method":"GET","path":"/repos/<octocat>/hello-world","protocol":"HTTP/1.1",` +
		`"status":502,"bytes_in":1,"bytes_out":12345,"duration_seconds":0.25,"upstream_seconds":0.125}` + "\n"
	if diff := cmp.Diff(want, logged(t, audit.LogOptions{}, sample)); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}
}

func TestAnyTextStaysInItsLineAndComesBackAsItWas(t *testing.T) {
	awkward := rapid.OneOf(
		rapid.String(),
		rapid.SampledFrom([]string{"\r\n{}", "\x1b[2J", "\u009b2J", "\u0085", "\u2028", "\u202e", "\x7f", "\U000e0001", "é", "😀"}),
	)
	rapid.Check(t, func(rt *rapid.T) {
		e := sample
		e.Path = awkward.Draw(rt, "path")
		e.Method = awkward.Draw(rt, "method")
		e.Reason = awkward.Draw(rt, "reason")
		line, ended := strings.CutSuffix(logged(t, audit.LogOptions{}, e), "\n")
		if !ended {
			rt.Fatalf("no newline after %q", line)
		}
		for _, r := range line {
			if !unicode.IsPrint(r) {
				rt.Errorf("%U is in the line unescaped", r)
			}
		}
		var back attache.Event
		if err := json.Unmarshal([]byte(line), &back); err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(e, back); diff != "" {
			rt.Errorf("event (-recorded +read back):\n%s", diff)
		}
	})
}

func TestAPathThatIsNotUTF8StaysInItsLine(t *testing.T) {
	e := sample
	e.Path = "/\xff\xfe\n"
	if got := logged(t, audit.LogOptions{}, e); !strings.Contains(got, `"path":"/\ufffd\ufffd\n"`) {
		t.Errorf("logged %s", got)
	}
}

func TestAnEventThatHasNoJSONIsCounted(t *testing.T) {
	e := sample
	e.Duration = math.NaN()
	got := read(t, strings.NewReader(logged(t, audit.LogOptions{}, e, sample)))
	want := tally{Lines: 1, Suppressed: map[attache.Code]uint64{}, Dropped: 1, Summaries: 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAFloodOfDenialsIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := audit.NewLog(&out, audit.LogOptions{})
		stop := start(t, l)
		flood := func() {
			for range 1000 {
				l.Record(new(denied(attache.CodeTokenMissing)))
			}
		}
		flood()
		l.Record(new(denied(attache.CodeNoConnection)))
		for range 500 {
			l.Record(&sample) // no denial: never suppressed
		}
		<-time.After(1500 * time.Millisecond)
		synctest.Wait()
		first := read(t, bytes.NewReader(out.Bytes()))
		want := tally{
			Lines:      100 + 1 + 500,
			Suppressed: map[attache.Code]uint64{attache.CodeTokenMissing: 900},
			Summaries:  1,
		}
		if diff := cmp.Diff(want, first); diff != "" {
			t.Errorf("first flood (-want +got):\n%s", diff)
		}

		<-time.After(500 * time.Millisecond) // two seconds, so twenty more
		synctest.Wait()                      // a tick is due now: it must not fall into the flood
		flood()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		want.Lines += 20
		want.Suppressed[attache.CodeTokenMissing] += 980
		want.Summaries++
		if diff := cmp.Diff(want, read(t, &out)); diff != "" {
			t.Errorf("both floods (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(audit.LogStats{Suppressed: 1880}, l.Stats()); diff != "" {
			t.Errorf("stats (-want +got):\n%s", diff)
		}
	})
}

func TestTheRateOfDenialsCanBeSet(t *testing.T) {
	o := audit.LogOptions{DeniedRate: 1, DeniedBurst: 2}
	e := denied(attache.CodeTokenMissing)
	if got := read(t, strings.NewReader(logged(t, o, e, e, e, e, e))); got.Lines != 2 || got.Suppressed[attache.CodeTokenMissing] != 3 {
		t.Errorf("got %+v", got)
	}
}

// gated is a writer that waits for its gate to open.
type gated struct {
	bytes.Buffer
	gate chan struct{}
}

func (w *gated) Write(p []byte) (int, error) {
	<-w.gate
	return w.Buffer.Write(p)
}

func TestASlowWriterHoldsNobodyUpAndLosesNothingSilently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const events = 1000
		w := &gated{gate: make(chan struct{})}
		l := audit.NewLog(w, audit.LogOptions{Buffer: 10_000})
		stop := start(t, l)
		for range events {
			l.Record(&sample)
		}
		dropped := l.Stats().Dropped
		if dropped == 0 || dropped == events {
			t.Errorf("%d of %d events were dropped", dropped, events)
		}
		close(w.gate)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		got := read(t, &w.Buffer)
		want := tally{Lines: events - int(dropped), Suppressed: map[attache.Code]uint64{}, Dropped: dropped, Summaries: 1}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

var errDiskFull = errors.New("no space left on device")

// tight is a disk with little room.
type tight struct {
	bytes.Buffer
	room int
}

func (w *tight) Write(p []byte) (int, error) {
	if len(p) > w.room {
		n := w.room
		w.room = 0
		w.Buffer.Write(p[:n])
		return n, errDiskFull
	}
	w.room -= len(p)
	return w.Buffer.Write(p)
}

// recordTwenty gives w twenty events, one after the other. It needs a synctest
// bubble.
func recordTwenty(t *testing.T, w io.Writer) (l *audit.Log, stop func() error) {
	t.Helper()
	l = audit.NewLog(w, audit.LogOptions{})
	stop = start(t, l)
	for range 20 {
		l.Record(&sample)
		<-time.After(20 * time.Millisecond) // a write is followed by a pause
		synctest.Wait()
	}
	return l, stop
}

func TestAWriterThatRecoversGetsEveryLineWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &tight{room: 1000}
		_, stop := recordTwenty(t, w)
		w.room = 1 << 20
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		want := tally{Lines: 20, Suppressed: map[attache.Code]uint64{}}
		if diff := cmp.Diff(want, read(t, &w.Buffer)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestWhatCouldNotBeWrittenInTheEndIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &tight{room: 1000}
		l, stop := recordTwenty(t, w)
		err := stop()
		if !errors.Is(err, errDiskFull) {
			t.Errorf("error %v", err)
		}
		whole := strings.Count(w.String(), "\n")
		if got, want := l.Stats().Dropped, uint64(20-whole); got != want {
			t.Errorf("%d dropped, want %d since %d were written", got, want, whole)
		}
		if want := fmt.Sprintf("audit log: the last %d lines are lost: %v", 20-whole, errDiskFull); err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
	})
}

func TestEveryEventOfManyGoroutinesIsWrittenOnce(t *testing.T) {
	var out bytes.Buffer
	l := audit.NewLog(&out, audit.LogOptions{Buffer: 64 << 20})
	stop := start(t, l)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				l.Record(&sample)
			}
		})
	}
	all.Wait()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, &out); got.Lines != 8*200 {
		t.Errorf("%d lines of %d events", got.Lines, 8*200)
	}
}

func TestFanoutGivesEachEventToEverySink(t *testing.T) {
	var got []string
	sink := func(name string) audit.Sink {
		return func(e *attache.Event) { got = append(got, name+" "+e.ID) }
	}
	record := audit.Fanout(sink("log"), sink("ring"))
	record(&attache.Event{ID: "1"})
	record(&attache.Event{ID: "2"})
	if diff := cmp.Diff([]string{"log 1", "ring 1", "log 2", "ring 2"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func BenchmarkLogRecord(b *testing.B) {
	for name, e := range map[string]attache.Event{
		"written":    sample,
		"suppressed": denied(attache.CodeTokenMissing),
	} {
		b.Run(name, func(b *testing.B) {
			l := audit.NewLog(io.Discard, audit.LogOptions{Buffer: 1 << 30})
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan error)
			go func() { done <- l.Run(ctx) }()
			b.ReportAllocs()
			for b.Loop() {
				l.Record(&e)
			}
			cancel()
			<-done
		})
	}
}
