package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options say what is running, and where the numbers come from that are not in
// events. Each function is called once per scrape, by several goroutines at
// once; without it, its metrics do not exist.
type Options struct {
	Version  string // of the program
	Revision string // of its source

	Proxy       func() ProxyStats
	Leaves      func() LeafStats
	Store       func() StoreStats
	Audit       func() AuditStats
	Connections func() int       // how many there are, of all integrations
	CAExpiry    func() time.Time // when the CA certificate that signs ends; zero if none does
}

// ProxyStats are the numbers of the proxy. A proxy.Stats converts to it.
type ProxyStats struct {
	Tunnels                   int    // open now
	UpstreamConnectionsOpened uint64 // since the start
}

// LeafStats count what became of requests for leaf certificates since the
// start. A certs.Stats converts to it.
type LeafStats struct {
	Minted  uint64 // signed for a host that had none
	Renewed uint64 // signed for a host whose leaf was near its end
	Hits    uint64 // served without signing
	Evicted uint64 // dropped to make room
	Failed  uint64 // not signed
}

// StoreStats are the numbers of the store since it was opened. A store.Stats
// converts to it.
type StoreStats struct {
	Writes    uint64        // transactions committed
	Failures  uint64        // transactions that could not be
	WriteTime time.Duration // spent in both
	Size      int64         // of the database, in bytes
}

// AuditStats count the events that have no line in the log, since the start. An
// audit.LogStats converts to it.
type AuditStats struct {
	Dropped    uint64 // lost
	Suppressed uint64 // only counted
}

// sources collects the metrics that others count.
type sources struct {
	descs   []*prometheus.Desc
	collect []func(emit)
}

// emit sends one value of a metric. Its labels are in the order in which the
// metric was described.
type emit func(d *prometheus.Desc, t prometheus.ValueType, value float64, labels ...string)

func newSources(o Options) *sources {
	s := &sources{}
	if o.Proxy != nil {
		s.proxy(o.Proxy)
	}
	if o.Leaves != nil {
		s.leaves(o.Leaves)
	}
	if o.Store != nil {
		s.store(o.Store)
	}
	if o.Audit != nil {
		s.audit(o.Audit)
	}
	if o.Connections != nil {
		connections := s.desc("attache_connections", "Connections that exist.")
		s.collect = append(s.collect, func(emit emit) {
			emit(connections, prometheus.GaugeValue, float64(o.Connections()))
		})
	}
	if o.CAExpiry != nil {
		expiry := s.desc("attache_ca_certificate_expiry_timestamp_seconds", "When the CA certificate that signs leaves ends.")
		s.collect = append(s.collect, func(emit emit) {
			if end := o.CAExpiry(); !end.IsZero() {
				emit(expiry, prometheus.GaugeValue, float64(end.Unix()))
			}
		})
	}
	return s
}

func (s *sources) desc(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc(name, help, labels, nil)
	s.descs = append(s.descs, d)
	return d
}

func (s *sources) proxy(read func() ProxyStats) {
	tunnels := s.desc("attache_tunnels", "Tunnels that are open.")
	opened := s.desc("attache_upstream_connections_opened_total", "Connections opened to upstreams.")
	s.collect = append(s.collect, func(emit emit) {
		stats := read()
		emit(tunnels, prometheus.GaugeValue, float64(stats.Tunnels))
		emit(opened, prometheus.CounterValue, float64(stats.UpstreamConnectionsOpened))
	})
}

func (s *sources) leaves(read func() LeafStats) {
	leaves := s.desc("attache_leaf_certificates_total", "Leaf certificates, by what became of asking for them.", "result")
	s.collect = append(s.collect, func(emit emit) {
		stats := read()
		emit(leaves, prometheus.CounterValue, float64(stats.Minted), "minted")
		emit(leaves, prometheus.CounterValue, float64(stats.Renewed), "renewed")
		emit(leaves, prometheus.CounterValue, float64(stats.Hits), "hit")
		emit(leaves, prometheus.CounterValue, float64(stats.Evicted), "evicted")
		emit(leaves, prometheus.CounterValue, float64(stats.Failed), "failed")
	})
}

func (s *sources) store(read func() StoreStats) {
	writes := s.desc("attache_store_writes_total", "Transactions that the store has committed.")
	failures := s.desc("attache_store_write_errors_total", "Transactions that the store could not commit.")
	seconds := s.desc("attache_store_write_seconds_total", "Time spent in the store's transactions.")
	size := s.desc("attache_store_size_bytes", "Size of the database.")
	s.collect = append(s.collect, func(emit emit) {
		stats := read()
		emit(writes, prometheus.CounterValue, float64(stats.Writes))
		emit(failures, prometheus.CounterValue, float64(stats.Failures))
		emit(seconds, prometheus.CounterValue, stats.WriteTime.Seconds())
		emit(size, prometheus.GaugeValue, float64(stats.Size))
	})
}

func (s *sources) audit(read func() AuditStats) {
	dropped := s.desc("attache_audit_events_dropped_total", "Events that are missing from the log: it was too slow, or failed.")
	suppressed := s.desc("attache_log_events_suppressed_total", "Denials that the log has only counted, because they were many.")
	s.collect = append(s.collect, func(emit emit) {
		stats := read()
		emit(dropped, prometheus.CounterValue, float64(stats.Dropped))
		emit(suppressed, prometheus.CounterValue, float64(stats.Suppressed))
	})
}

// Describe implements [prometheus.Collector].
func (s *sources) Describe(to chan<- *prometheus.Desc) {
	for _, d := range s.descs {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (s *sources) Collect(to chan<- prometheus.Metric) {
	emit := func(d *prometheus.Desc, t prometheus.ValueType, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, t, value, labels...)
	}
	for _, collect := range s.collect {
		collect(emit)
	}
}
