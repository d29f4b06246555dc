package metrics

import (
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"attache"
)

// grants are the metrics of OAuth connections: how each one's grant stands, and
// what became of the calls that keep it alive.
type grants struct {
	expiry    *prometheus.Desc       // integration, connection
	state     *prometheus.Desc       // integration, connection, state
	refreshes *prometheus.CounterVec // integration, connection, result
	took      prometheus.Histogram

	mu sync.Mutex // guards standings
	// standings become series when somebody asks: there may be very many, and none
	// costs a start, or a change, more than this.
	standings map[owner]standing
}

// standing is how a grant stands.
type standing struct {
	state   attache.GrantState
	expires int64 // seconds since 1970; 0: not known
}

func newGrants() *grants {
	return &grants{
		expiry: prometheus.NewDesc("attache_oauth_token_expiry_timestamp_seconds",
			"When the access token of an OAuth connection expires; none where that is not known.",
			[]string{"integration", "connection"}, nil),
		state: prometheus.NewDesc("attache_oauth_connection_state",
			"1 for the state that the grant of an OAuth connection is in.",
			[]string{"integration", "connection", "state"}, nil),
		refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "attache_oauth_refreshes_total",
			Help: "Calls of token endpoints, by result: success or failure.",
		}, []string{"integration", "connection", "result"}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "attache_oauth_refresh_duration_seconds",
			Help:    "Time that token endpoints took.",
			Buckets: durations(),
		}),
		standings: map[owner]standing{},
	}
}

// Describe implements [prometheus.Collector].
func (g *grants) Describe(to chan<- *prometheus.Desc) {
	to <- g.expiry
	to <- g.state
	g.refreshes.Describe(to)
	g.took.Describe(to)
}

// Collect implements [prometheus.Collector].
func (g *grants) Collect(to chan<- prometheus.Metric) {
	g.mu.Lock()
	all := maps.Clone(g.standings) // who scrapes may be slow, and changes wait for the lock
	g.mu.Unlock()
	for o, s := range all {
		to <- prometheus.MustNewConstMetric(g.state, prometheus.GaugeValue, 1, o.integration, o.connection, string(s.state))
		if s.expires != 0 {
			to <- prometheus.MustNewConstMetric(g.expiry, prometheus.GaugeValue, float64(s.expires), o.integration, o.connection)
		}
	}
	g.refreshes.Collect(to)
	g.took.Collect(to)
}

// called counts the call that an event tells of, under the names of its owner.
func (g *grants) called(who owner, e *attache.Event) {
	if e.Duration == 0 {
		return // a change of state without one
	}
	result := "success"
	if e.Code != "" {
		result = "failure"
	}
	g.refreshes.WithLabelValues(who.integration, who.connection, result).Inc()
	g.took.Observe(e.Duration)
}

// changed takes note of how a connection's grant stands.
func (g *grants) changed(o owner, c *attache.Connection) {
	if c.Type != attache.OAuth {
		return
	}
	now := standing{state: attache.GrantPending}
	if c.Grant != nil {
		now.state = c.Grant.State
		if at := c.Grant.ExpiresAt; !at.IsZero() {
			now.expires = at.Unix()
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.standings[o] = now
}

// forget removes the series of a connection, or of all of an integration's.
func (g *grants) forget(o owner, series prometheus.Labels) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if o.connection != "" {
		delete(g.standings, o)
	} else {
		maps.DeleteFunc(g.standings, func(known owner, _ standing) bool { return known.integration == o.integration })
	}
	g.refreshes.DeletePartialMatch(series)
}
