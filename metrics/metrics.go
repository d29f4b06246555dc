// Package metrics turns events, and a few numbers that other packages count,
// into Prometheus metrics on a registry of its own.
//
// No label holds anything that a client can choose. Integrations and
// connections are labels only as long as they exist, and hosts never are.
package metrics

import (
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"attache"
)

const (
	// maxScrapes run at the same time; others are answered 503.
	maxScrapes = 4
	// scrapeTimeout is Prometheus' own default.
	scrapeTimeout = 10 * time.Second
	// maxForgotten is how many removed connections are remembered.
	maxForgotten = 10_000
)

// Metrics counts events. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec   // integration, connection, decision, code
	duration *prometheus.HistogramVec // decision
	upstream prometheus.Histogram
	denied   *prometheus.CounterVec // reason
	grants   *grants
	statuses [600]string // label values; "0" for what is no status

	// mu is held for reading while an event is counted under an owner's name, so
	// that no event can bring the series back of one that is being forgotten.
	mu sync.RWMutex
	// forgotten are those that were removed. A request that was under way at
	// that time still ends, and then counts without a name.
	forgotten *simplelru.LRU[owner, struct{}]
}

// owner is a connection, or with an empty connection a whole integration.
type owner struct{ integration, connection string }

// New makes the metrics and registers them, with those of the sources in o, the
// Go runtime and the process.
func New(o Options) *Metrics {
	// The one error is of a size below one.
	forgotten, _ := simplelru.NewLRU[owner, struct{}](maxForgotten, nil)
	m := &Metrics{
		registry:  prometheus.NewRegistry(),
		grants:    newGrants(),
		forgotten: forgotten,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "attache_requests_total",
			Help: "Requests, by the status that the client saw; code 0 is none.",
		}, []string{"integration", "connection", "decision", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "attache_request_duration_seconds",
			Help:    "Time from the first byte of a request to the last of its answer.",
			Buckets: durations(),
		}, []string{"decision"}),
		upstream: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "attache_upstream_duration_seconds",
			Help:    "Time until the answer of the upstream began.",
			Buckets: durations(),
		}),
		denied: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "attache_denied_total",
			Help: "Requests and tunnels that the proxy refused, by the code of its answer.",
		}, []string{"reason"}),
	}
	for i := range m.statuses {
		m.statuses[i] = "0"
		if i >= 100 {
			m.statuses[i] = strconv.Itoa(i)
		}
	}
	buildInfo := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "attache_build_info",
		Help: "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{
			"version": o.Version, "revision": o.Revision, "goversion": runtime.Version(),
		},
	})
	buildInfo.Set(1)
	m.registry.MustRegister(m.requests, m.duration, m.upstream, m.denied, m.grants, buildInfo, newSources(o),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// durations are the bounds of the buckets, in seconds: from an answer out of a
// cache to one that a model writes for minutes.
func durations() []float64 {
	return []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}
}

// Record counts e. A CONNECT counts only when it was denied: what its tunnel
// carried has events of its own.
func (m *Metrics) Record(e *attache.Event) {
	if e.Decision == attache.Deny && e.Code != "" {
		m.denied.WithLabelValues(string(e.Code)).Inc()
	}
	switch e.Kind {
	case attache.GrantEvent:
		m.counted(e, m.grants.called)
		return
	case attache.ConnectEvent:
		return
	}
	m.counted(e, m.countRequest)
	m.duration.WithLabelValues(string(e.Decision)).Observe(e.Duration)
	if e.Upstream > 0 {
		m.upstream.Observe(e.Upstream)
	}
}

// counted counts e with the names of what still exists.
func (m *Metrics) counted(e *attache.Event, count func(owner, *attache.Event)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	who := owner{e.Integration, e.Connection}
	if m.forgotten.Len() > 0 {
		if m.forgotten.Contains(who) {
			who.connection = ""
		}
		if m.forgotten.Contains(owner{e.Integration, ""}) {
			who = owner{}
		}
	}
	count(who, e)
}

func (m *Metrics) countRequest(who owner, e *attache.Event) {
	m.requests.WithLabelValues(who.integration, who.connection, string(e.Decision), m.status(e.Status)).Inc()
}

func (m *Metrics) status(code int) string {
	if code < 0 || code >= len(m.statuses) {
		code = 0
	}
	return m.statuses[code]
}

// Changed removes the series of what was deleted, for good: what still ends of
// it counts without its name, until something of that name is made again.
func (m *Metrics) Changed(c attache.Change) {
	var changed owner
	switch {
	case c.Integration != nil:
		changed.integration = c.Integration.Name
	case c.Connection != nil:
		changed = owner{c.Connection.Integration, c.Connection.Name}
	default:
		return
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	if !c.Deleted {
		m.forgotten.Remove(changed)
		if c.Connection != nil {
			m.grants.changed(changed, c.Connection)
		}
		return
	}
	m.forgotten.Add(changed, struct{}{})
	series := prometheus.Labels{"integration": changed.integration}
	if changed.connection != "" {
		series["connection"] = changed.connection
	}
	m.requests.DeletePartialMatch(series)
	m.grants.forget(changed, series)
}

// Handler answers scrapes, in the OpenMetrics format to those who ask for it.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		EnableOpenMetrics:   true,
		MaxRequestsInFlight: maxScrapes,
		Timeout:             scrapeTimeout,
	})
}
