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
	// that no event can bring the series back of one that is being removed.
	mu sync.RWMutex
	// known are the integrations that exist, each with its connections. A request
	// that was under way when its connection was removed still ends, and then counts
	// without a name.
	known map[string]map[string]struct{}
}

// owner is a connection, or with an empty connection a whole integration.
type owner struct{ integration, connection string }

// New makes the metrics and registers them, with those of the sources in o, the
// Go runtime and the process.
func New(o Options) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		grants:   newGrants(),
		known:    map[string]map[string]struct{}{},
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
	connections, ok := m.known[who.integration]
	if !ok {
		who.integration = ""
	}
	if _, ok := connections[who.connection]; !ok {
		who.connection = ""
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

// Changed takes note of what is made, which has series from then on, and removes
// the series of what was deleted: what still ends of it counts without its name,
// until something of that name is made again.
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
	connections := m.known[changed.integration]
	if !c.Deleted {
		if connections == nil {
			connections = map[string]struct{}{}
			m.known[changed.integration] = connections
		}
		if c.Connection != nil {
			connections[changed.connection] = struct{}{}
			m.grants.changed(changed, c.Connection)
		}
		return
	}
	series := prometheus.Labels{"integration": changed.integration}
	if c.Connection != nil {
		delete(connections, changed.connection)
		series["connection"] = changed.connection
	} else {
		delete(m.known, changed.integration)
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
