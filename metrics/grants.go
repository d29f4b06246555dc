package metrics

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"attache"
)

// grants are the metrics of OAuth connections: how each one's grant stands, and
// what became of the calls that keep it alive.
type grants struct {
	expiry    *prometheus.GaugeVec   // integration, connection
	state     *prometheus.GaugeVec   // integration, connection, state
	refreshes *prometheus.CounterVec // integration, connection, result
	took      prometheus.Histogram

	mu     sync.Mutex // guards states
	states map[owner]attache.GrantState
}

func newGrants() *grants {
	return &grants{
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "attache_oauth_token_expiry_timestamp_seconds",
			Help: "When the access token of an OAuth connection expires; none where that is not known.",
		}, []string{"integration", "connection"}),
		state: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "attache_oauth_connection_state",
			Help: "1 for the state that the grant of an OAuth connection is in.",
		}, []string{"integration", "connection", "state"}),
		refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "attache_oauth_refreshes_total",
			Help: "Calls of token endpoints, by result: success or failure.",
		}, []string{"integration", "connection", "result"}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "attache_oauth_refresh_duration_seconds",
			Help:    "Time that token endpoints took.",
			Buckets: durations(),
		}),
		states: map[owner]attache.GrantState{},
	}
}

// Describe implements [prometheus.Collector].
func (g *grants) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(g, to) }

// Collect implements [prometheus.Collector].
func (g *grants) Collect(to chan<- prometheus.Metric) {
	g.expiry.Collect(to)
	g.state.Collect(to)
	g.refreshes.Collect(to)
	g.took.Collect(to)
}

// called counts the call that an event tells of, under the names of its owner.
func (g *grants) called(e attache.Event) {
	if e.Duration == 0 {
		return // a change of state without one
	}
	result := "success"
	if e.Code != "" {
		result = "failure"
	}
	g.refreshes.WithLabelValues(e.Integration, e.Connection, result).Inc()
	g.took.Observe(e.Duration)
}

// changed shows how a connection's grant stands.
func (g *grants) changed(o owner, c *attache.Connection) {
	if c.Type != attache.OAuth {
		return
	}
	now := attache.GrantPending
	if c.Grant != nil {
		now = c.Grant.State
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if before, ok := g.states[o]; ok && before != now {
		g.state.DeleteLabelValues(o.integration, o.connection, string(before))
	}
	g.states[o] = now
	g.state.WithLabelValues(o.integration, o.connection, string(now)).Set(1)
	if c.Grant == nil || c.Grant.ExpiresAt.IsZero() {
		g.expiry.DeleteLabelValues(o.integration, o.connection)
	} else {
		g.expiry.WithLabelValues(o.integration, o.connection).Set(float64(c.Grant.ExpiresAt.Unix()))
	}
}

// forget removes the series of a connection, or of all of an integration's.
func (g *grants) forget(o owner, series prometheus.Labels) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for known := range g.states {
		if known.integration == o.integration && (o.connection == "" || known.connection == o.connection) {
			delete(g.states, known)
		}
	}
	g.expiry.DeletePartialMatch(series)
	g.state.DeletePartialMatch(series)
	g.refreshes.DeletePartialMatch(series)
}
