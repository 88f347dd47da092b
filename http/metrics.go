package http

import (
	"iter"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"attune/wire"
)

// metrics is what /metrics shows. Labels take few values, all of them ours:
// transports, channels of the configuration, reasons, routes.
type metrics struct {
	registry    *prometheus.Registry
	connections *prometheus.GaugeVec
	deliveries  *prometheus.CounterVec
	slow        *prometheus.CounterVec
	requests    *prometheus.HistogramVec
	refused     *prometheus.CounterVec

	webSockets, eventStreams *tally
}

// tally is what is counted about the streams of one transport.
type tally struct {
	transport        string
	connections      prometheus.Gauge
	deliveries, slow prometheus.Counter
}

func (m *metrics) tally(transport string) *tally {
	return &tally{
		transport:   transport,
		connections: m.connections.WithLabelValues(transport),
		deliveries:  m.deliveries.WithLabelValues(transport),
		slow:        m.slow.WithLabelValues(transport),
	}
}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "attune_connections", Help: "Open streams and long polls.",
		}, []string{"transport"}),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "attune_deliveries_total", Help: "Notifications written to clients.",
		}, []string{"transport"}),
		slow: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "attune_slow_consumers_total", Help: "Streams ended because the client did not keep up.",
		}, []string{"transport"}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "attune_http_request_seconds",
			Help:    "How long requests took, streams excepted; long polls are among them.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30, 300},
		}, []string{"route", "method", "status"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "attune_refused_total", Help: "Requests of somebody unknown, who may not, or who asks for too much.",
		}, []string{"code"}),
	}
	// Present from the start: a rate needs a zero.
	for _, code := range []wire.Code{wire.CodeUnauthenticated, wire.CodeForbidden, wire.CodeOverCapacity} {
		m.refused.WithLabelValues(string(code))
	}
	m.connections.WithLabelValues("longpoll")
	m.webSockets, m.eventStreams = m.tally("ws"), m.tally("sse")
	m.registry.MustRegister(m.connections, m.deliveries, m.slow, m.requests, m.refused, newSourceCollector(s),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// byTransport reads a vector's values, keyed by its only label.
func (m *metrics) byTransport(vec prometheus.Collector) map[string]uint64 {
	values := make(map[string]uint64)
	for metric := range collect(vec) {
		values[metric.label] = uint64(metric.value)
	}
	return values
}

// sourceCollector reads the hub and the source when it is scraped.
type sourceCollector struct {
	server *Server

	notifications, skipped, gaps                         *prometheus.Desc
	canary, live, reconnects, queueUsage                 *prometheus.Desc
	logHead, logLag, logRetained, logLosses, logPolling  *prometheus.Desc
	subscribers, filters, queued, queuedMost, windowSize *prometheus.Desc
}

func newSourceCollector(s *Server) *sourceCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &sourceCollector{
		server:        s,
		notifications: desc("attune_notifications_total", "Notifications received from PostgreSQL.", "notification_type"),
		skipped:       desc("attune_notifications_skipped_total", "Notifications that were not as the protocol wants them.", "reason"),
		gaps:          desc("attune_gaps_total", "Gaps announced to subscribers.", "reason"),
		canary:        desc("attune_canary_seconds", "Latest round trip of the canary through PostgreSQL."),
		live:          desc("attune_source_live", "1 while the canary passes."),
		reconnects:    desc("attune_listener_reconnects_total", "How often the listen connection was made anew."),
		queueUsage:    desc("attune_pg_notification_queue_usage", "How full PostgreSQL's notification queue is, 0 to 1."),
		logHead:       desc("attune_log_head", "Latest seq of the notification log."),
		logLag:        desc("attune_log_lag", "Rows of the notification log that were not published yet when the last canary came back."),
		logRetained:   desc("attune_log_retained", "How far back the notification log reaches, in seq."),
		logPolling:    desc("attune_log_polling", "1 while rows come so fast that the notification log is read on an interval instead of announced."),
		logLosses:     desc("attune_log_losses_total", "Notifications that writers could not log."),
		subscribers:   desc("attune_subscribers", "Subscribers of the hub."),
		filters:       desc("attune_filters", "Different filters in use."),
		queued:        desc("attune_queue_messages", "Messages waiting in all queues."),
		queuedMost:    desc("attune_queue_messages_max", "Messages waiting in the fullest queue."),
		windowSize:    desc("attune_window_notifications", "Notifications retained for replay."),
	}
}

// Describe implements prometheus.Collector.
func (c *sourceCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *sourceCollector) Collect(ch chan<- prometheus.Metric) {
	source, hub := c.server.Source(), c.server.Hub.Stats()
	send := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, kind, value, labels...)
	}
	for channel, n := range source.Notifications {
		send(c.notifications, prometheus.CounterValue, float64(n), channel)
	}
	for reason, n := range source.Skipped {
		send(c.skipped, prometheus.CounterValue, float64(n), reason)
	}
	for _, reason := range []wire.GapReason{
		wire.GapListenerReconnected, wire.GapCursorExpired, wire.GapCursorUnknown, wire.GapCursorInvalid, wire.GapSourceOverflow,
	} {
		send(c.gaps, prometheus.CounterValue, float64(hub.Gaps[reason]), string(reason))
	}
	send(c.canary, prometheus.GaugeValue, source.CanarySeconds)
	send(c.live, prometheus.GaugeValue, oneIf(source.Live))
	send(c.queueUsage, prometheus.GaugeValue, source.QueueUsage)
	send(c.reconnects, prometheus.CounterValue, float64(source.Reconnects))
	if log := source.Log; log != nil {
		send(c.logHead, prometheus.GaugeValue, float64(log.Head))
		send(c.logLag, prometheus.GaugeValue, float64(log.Lag))
		send(c.logRetained, prometheus.GaugeValue, float64(log.Head-min(log.Pruned, log.Head)))
		send(c.logLosses, prometheus.CounterValue, float64(log.Losses))
		send(c.logPolling, prometheus.GaugeValue, oneIf(log.Polling))
	}
	send(c.subscribers, prometheus.GaugeValue, float64(hub.Subscribers))
	send(c.filters, prometheus.GaugeValue, float64(hub.Filters))
	send(c.queued, prometheus.GaugeValue, float64(hub.Queued))
	send(c.queuedMost, prometheus.GaugeValue, float64(hub.QueuedMost))
	send(c.windowSize, prometheus.GaugeValue, float64(hub.Retained))
}

// labelled is the value of a metric with one label.
type labelled struct {
	label string
	value float64
}

// collect yields the values of a vector of counters or gauges.
func collect(vec prometheus.Collector) iter.Seq[labelled] {
	return func(yield func(labelled) bool) {
		ch := make(chan prometheus.Metric, 16) // more than there are transports
		vec.Collect(ch)
		close(ch)
		for metric := range ch {
			var m dto.Metric
			if metric.Write(&m) != nil || len(m.GetLabel()) != 1 {
				continue
			}
			if !yield(labelled{m.GetLabel()[0].GetValue(), m.GetCounter().GetValue() + m.GetGauge().GetValue()}) {
				return
			}
		}
	}
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
