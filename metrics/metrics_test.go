package metrics_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/goleak"

	"attache"
	"attache/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var sample = attache.Event{
	Kind:        attache.RequestEvent,
	Integration: "default",
	Connection:  "github",
	Decision:    attache.Inject,
	Target:      "https://api.github.com",
	Status:      200,
	Duration:    0.2,
	Upstream:    0.1,
}

func full() metrics.Options {
	return metrics.Options{
		Version:  "1.2.3",
		Revision: "abcdef",
		Proxy:    func() metrics.ProxyStats { return metrics.ProxyStats{Tunnels: 7, UpstreamConnectionsOpened: 8} },
		Leaves: func() metrics.LeafStats {
			return metrics.LeafStats{Minted: 1, Renewed: 2, Hits: 3, Evicted: 4, Failed: 5}
		},
		Store: func() metrics.StoreStats {
			return metrics.StoreStats{Writes: 11, Failures: 12, WriteTime: 1500 * time.Millisecond, Size: 32768}
		},
		Audit:       func() metrics.AuditStats { return metrics.AuditStats{Dropped: 21, Suppressed: 22} },
		Connections: func() int { return 31 },
		CAExpiry:    func() time.Time { return time.Unix(2_000_000_000, 0) },
	}
}

// observing is metrics that know the connections "github" and "crm".
func observing(o metrics.Options) *metrics.Metrics {
	m := metrics.New(o)
	m.Changed(integration("default", false))
	m.Changed(connection("default", "github", false))
	m.Changed(connection("default", "crm", false))
	return m
}

// scrape is what a Prometheus would read.
func scrape(t testing.TB, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// series are the lines of a scrape that begin with one of the names.
func series(t testing.TB, m *metrics.Metrics, names ...string) []string {
	t.Helper()
	var found []string
	for line := range strings.Lines(scrape(t, m)) {
		if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(line, n) }) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

func TestWhatAnEventCounts(t *testing.T) {
	event := func(change func(*attache.Event)) []attache.Event {
		e := sample
		change(&e)
		return []attache.Event{e}
	}
	tests := map[string]struct {
		events []attache.Event
		want   []string
	}{
		"a request counts by who, with what, how, and its status": {
			event(func(*attache.Event) {}),
			[]string{
				`attache_request_duration_seconds_count{decision="inject"} 1`,
				`attache_requests_total{code="200",connection="github",decision="inject",integration="default"} 1`,
				`attache_upstream_duration_seconds_count 1`,
			},
		},
		"a request that saw no answer has code 0": {
			event(func(e *attache.Event) { e.Status, e.Upstream = 0, 0 }),
			[]string{
				`attache_request_duration_seconds_count{decision="inject"} 1`,
				`attache_requests_total{code="0",connection="github",decision="inject",integration="default"} 1`,
				`attache_upstream_duration_seconds_count 0`,
			},
		},
		"a denied request counts as a request and as denied": {
			event(func(e *attache.Event) {
				e.Decision, e.Code, e.Status, e.Connection, e.Upstream = attache.Deny, attache.CodeTraceRefused, 403, "", 0
			}),
			[]string{
				`attache_denied_total{reason="trace_refused"} 1`,
				`attache_request_duration_seconds_count{decision="deny"} 1`,
				`attache_requests_total{code="403",connection="",decision="deny",integration="default"} 1`,
				`attache_upstream_duration_seconds_count 0`,
			},
		},
		"a denied CONNECT counts as denied alone": {
			event(func(e *attache.Event) {
				e.Kind, e.Decision, e.Code, e.Status = attache.ConnectEvent, attache.Deny, attache.CodeTokenMissing, 407
			}),
			[]string{
				`attache_denied_total{reason="access_token_missing"} 1`,
				`attache_upstream_duration_seconds_count 0`,
			},
		},
		"a CONNECT whose requests have their own events counts nothing": {
			event(func(e *attache.Event) { e.Kind = attache.ConnectEvent }),
			[]string{`attache_upstream_duration_seconds_count 0`},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := observing(metrics.Options{})
			for _, e := range tt.events {
				m.Record(&e)
			}
			got := series(t, m, "attache_requests_total", "attache_denied_total",
				"attache_request_duration_seconds_count", "attache_upstream_duration_seconds_count")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("series (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAStatusThatIsNoneCannotMakeSeries(t *testing.T) {
	m := observing(metrics.Options{})
	for _, status := range []int{-1, 0, 1, 99, 600, 1000, 1 << 40} {
		e := sample
		e.Status = status
		m.Record(&e)
	}
	want := []string{`attache_requests_total{code="0",connection="github",decision="inject",integration="default"} 7`}
	if diff := cmp.Diff(want, series(t, m, "attache_requests_total")); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}

func connection(integration, name string, deleted bool) attache.Change {
	return attache.Change{Deleted: deleted, Connection: &attache.Connection{Integration: integration, Name: name}}
}

func integration(name string, deleted bool) attache.Change {
	return attache.Change{Deleted: deleted, Integration: &attache.Integration{Name: name}}
}

func TestTheSeriesOfWhatWasRemovedDisappear(t *testing.T) {
	of := func(integration, connection string) attache.Event {
		e := sample
		e.Integration, e.Connection = integration, connection
		return e
	}
	counted := func(integration, connection, count string) string {
		return `attache_requests_total{code="200",connection="` + connection + `",decision="inject",integration="` + integration + `"} ` + count
	}
	tests := map[string]struct {
		changes []attache.Change
		late    []attache.Event // end after the changes
		want    []string
	}{
		"a connection": {
			changes: []attache.Change{connection("bot", "github", true)},
			want:    []string{counted("bot", "", "1"), counted("team", "github", "1"), counted("bot", "slack", "1")},
		},
		"an integration, with all that it owned": {
			changes: []attache.Change{integration("bot", true)},
			want:    []string{counted("team", "github", "1")},
		},
		"a request under way when its connection goes counts without its name": {
			changes: []attache.Change{connection("bot", "github", true)},
			late:    []attache.Event{of("bot", "github")},
			want:    []string{counted("bot", "", "2"), counted("team", "github", "1"), counted("bot", "slack", "1")},
		},
		"a request under way when its integration goes counts without any name": {
			changes: []attache.Change{integration("bot", true)},
			late:    []attache.Event{of("bot", "github")},
			want:    []string{counted("", "", "1"), counted("team", "github", "1")},
		},
		"a connection that is made again counts from zero": {
			changes: []attache.Change{connection("bot", "github", true), connection("bot", "github", false)},
			late:    []attache.Event{of("bot", "github")},
			want: []string{
				counted("bot", "", "1"), counted("bot", "github", "1"), counted("team", "github", "1"), counted("bot", "slack", "1"),
			},
		},
		"an integration that is made again counts from zero": {
			changes: []attache.Change{integration("bot", true), integration("bot", false), connection("bot", "github", false)},
			late:    []attache.Event{of("bot", "github")},
			want:    []string{counted("bot", "github", "1"), counted("team", "github", "1")},
		},
		"an integration that is made again brings nothing of its old connections back": {
			changes: []attache.Change{integration("bot", true), integration("bot", false)},
			late:    []attache.Event{of("bot", "github")},
			want:    []string{counted("bot", "", "1"), counted("team", "github", "1")},
		},
		"what never was counts without any name": {
			late: []attache.Event{of("nobody", "github"), of("bot", "nothing")},
			want: []string{
				counted("", "", "1"), counted("bot", "", "2"), counted("bot", "github", "1"), counted("team", "github", "1"), counted("bot", "slack", "1"),
			},
		},
		"a rotated credential or an access token changes nothing": {
			changes: []attache.Change{
				connection("bot", "github", false),
				{Deleted: true, AccessToken: &attache.AccessToken{Integration: "bot"}},
			},
			want: []string{
				counted("bot", "", "1"), counted("bot", "github", "1"), counted("team", "github", "1"), counted("bot", "slack", "1"),
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := metrics.New(metrics.Options{})
			for _, c := range []attache.Change{
				integration("bot", false), integration("team", false),
				connection("bot", "github", false), connection("bot", "slack", false), connection("team", "github", false),
			} {
				m.Changed(c)
			}
			for _, e := range []attache.Event{of("bot", ""), of("bot", "github"), of("bot", "slack"), of("team", "github")} {
				m.Record(&e)
			}
			for _, c := range tt.changes {
				m.Changed(c)
			}
			for _, e := range tt.late {
				m.Record(&e)
			}
			slices.Sort(tt.want)
			got := series(t, m, "attache_requests_total")
			slices.Sort(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("series (-want +got):\n%s", diff)
			}
		})
	}
}

func TestARemovedConnectionStaysAwayWhileItsRequestsEnd(t *testing.T) {
	m := observing(metrics.Options{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 200 {
				m.Record(&sample)
			}
		})
	}
	m.Changed(connection("default", "github", true))
	all.Wait()
	for _, s := range series(t, m, "attache_requests_total") {
		if strings.Contains(s, `connection="github"`) {
			t.Errorf("there is still %s", s)
		}
	}
}

func TestTheNumbersOfOthers(t *testing.T) {
	want := []string{
		`attache_audit_events_dropped_total 21`,
		`attache_build_info{goversion="` + runtime.Version() + `",revision="abcdef",version="1.2.3"} 1`,
		`attache_ca_certificate_expiry_timestamp_seconds 2e+09`,
		`attache_connections 31`,
		`attache_leaf_certificates_total{result="evicted"} 4`,
		`attache_leaf_certificates_total{result="failed"} 5`,
		`attache_leaf_certificates_total{result="hit"} 3`,
		`attache_leaf_certificates_total{result="minted"} 1`,
		`attache_leaf_certificates_total{result="renewed"} 2`,
		`attache_log_events_suppressed_total 22`,
		`attache_store_size_bytes 32768`,
		`attache_store_write_errors_total 12`,
		`attache_store_write_seconds_total 1.5`,
		`attache_store_writes_total 11`,
		`attache_tunnels 7`,
		`attache_upstream_connections_opened_total 8`,
	}
	got := slices.DeleteFunc(series(t, metrics.New(full()), "attache_"), func(line string) bool {
		return strings.HasPrefix(line, "attache_upstream_duration_seconds") || strings.HasPrefix(line, "attache_oauth_refresh_duration_seconds")
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}

func TestWhatHasNoSourceDoesNotExist(t *testing.T) {
	for name, o := range map[string]metrics.Options{
		"no sources":                       {},
		"no CA certificate, and no others": {CAExpiry: func() time.Time { return time.Time{} }},
	} {
		t.Run(name, func(t *testing.T) {
			got := series(t, metrics.New(o), "attache_tunnels", "attache_store", "attache_leaf", "attache_audit", "attache_connections", "attache_ca")
			if len(got) != 0 {
				t.Errorf("got %q", got)
			}
		})
	}
}

// used is the metrics of a proxy that has seen everything.
func used() *metrics.Metrics {
	m := observing(full())
	m.Record(&sample)
	m.Changed(granted(attache.GrantActive))
	m.Record(new(attache.Event{Kind: attache.GrantEvent, Integration: "default", Connection: "crm", Duration: 0.3}))
	for _, c := range attache.Codes() {
		m.Record(new(attache.Event{Kind: attache.RequestEvent, Decision: attache.Deny, Code: c, Status: c.Status()}))
	}
	return m
}

func TestLint(t *testing.T) {
	problems, err := promlint.New(strings.NewReader(scrape(t, used()))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestPromtoolAcceptsTheMetrics(t *testing.T) {
	promtool := exec.CommandContext(t.Context(), "promtool", "check", "metrics")
	promtool.Stdin = strings.NewReader(scrape(t, used()))
	if out, err := promtool.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestAScrapeOverHTTP(t *testing.T) {
	server := httptest.NewServer(used().Handler())
	defer server.Close()
	for accept, want := range map[string]string{
		"text/plain": "text/plain; version=0.0.4",
		"application/openmetrics-text;version=1.0.0": "application/openmetrics-text; version=1.0.0",
	} {
		t.Run(accept, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Accept", accept)
			answer, err := server.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err != nil {
				t.Fatal(err)
			}
			if got := answer.Header.Get("Content-Type"); !strings.HasPrefix(got, want) {
				t.Errorf("content type %q, want %q", got, want)
			}
			for _, name := range []string{"attache_requests_total", "go_goroutines", "process_open_fds"} {
				if !bytes.Contains(body, []byte("\n"+name)) {
					t.Errorf("no %s", name)
				}
			}
			if bytes.Contains(body, []byte("github.com")) {
				t.Error("a host is in a label")
			}
		})
	}
}

func TestTwoMetricsShareNothing(t *testing.T) {
	one, other := observing(full()), observing(full())
	one.Record(&sample)
	if got := series(t, other, "attache_requests_total"); len(got) != 0 {
		t.Errorf("got %q", got)
	}
}

func BenchmarkRecord(b *testing.B) {
	for name, others := range map[string]int{"few connections": 0, "100,000 connections": 100_000} {
		b.Run(name, func(b *testing.B) {
			m := observing(metrics.Options{})
			for i := range others {
				m.Changed(connection("default", strconv.Itoa(i), false))
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					m.Record(&sample)
				}
			})
		})
	}
}
