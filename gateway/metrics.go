package gateway

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	reasons "linecard.example/internal/metrics"
	"linecard.example/internal/stanza"
)

// metrics is what a gateway counts, every child resolved beforehand. Safe for concurrent use.
type metrics struct {
	sessions, connections   prometheus.Gauge
	unanswered              prometheus.Gauge
	closes, refusals, drops *reasons.Reasons
	up, down                [tagMask + 1]prometheus.Counter // by tag; unknown ones share a counter
	framesUp, framesDown    prometheus.Counter
	bytesUp, bytesDown      prometheus.Counter
	grants                  [stanza.GrantDelete + 1]prometheus.Counter // for media, by method; the first is none's
	relays                  prometheus.Counter                         // credentials for them
	heldBack                prometheus.Counter                         // deliveries
	writes                  prometheus.Counter                         // outboxes written; bytes and frames by it are the sizes of outboxes
	handshakesOK, resumed   prometheus.Counter
	useXX                   [causes]prometheus.Counter
	checks                  prometheus.Counter    // health checks of a balancer
	handedOver, takenOver   prometheus.Counter    // sessions, to and from another process
	handshakesBad           []prometheus.Counter  // by reason
	lag                     []prometheus.Observer // by loop
}

func newMetrics(reg prometheus.Registerer, loops int) *metrics {
	m := &metrics{
		sessions:    gauge(reg, "linecard_gateway_sessions", "Bound sessions."),
		connections: gauge(reg, "linecard_gateway_connections", "Open connections, bound or not."),
		unanswered:  gauge(reg, "linecard_gateway_unanswered_messages", "Messages forwarded and not answered yet, as the windows count them."),
		closes:      reasons.NewReasons(reg, "linecard_gateway_closes_total", "Bound sessions ended, by reason."),
		refusals:    reasons.NewReasons(reg, "linecard_gateway_refusals_total", "Messages and queries that the gateway refused, by reason."),
		drops:       reasons.NewReasons(reg, "linecard_gateway_drops_total", "Envelopes dropped, by reason; all are recovered by resending."),
	}
	m.handedOver = counter(reg, "linecard_gateway_handed_over_total", "Sessions handed over to another process.")
	m.takenOver = counter(reg, "linecard_gateway_taken_over_total", "Sessions taken over from another process.")
	m.stanzas(reg)
	m.traffic(reg)
	m.handshakes(reg)
	lag := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "linecard_gateway_loop_lag_seconds", Help: "From asking a loop for a turn to the turn, two to ten times a second.",
		Buckets: []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5},
	}, []string{"loop"})
	reg.MustRegister(lag)
	for i := range loops {
		m.lag = append(m.lag, lag.WithLabelValues(strconv.Itoa(i)))
	}
	return m
}

func (m *metrics) stanzas(reg prometheus.Registerer) {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "linecard_gateway_stanzas_total", Help: "Stanzas from and to clients, by kind.",
	}, []string{"kind", "direction"})
	reg.MustRegister(vec)
	for tag := range m.up {
		name := stanza.Tag(tag).String()
		m.up[tag], m.down[tag] = vec.WithLabelValues(name, "up"), vec.WithLabelValues(name, "down")
	}
	grants := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "linecard_gateway_grants_total", Help: "Grants for media that were given to clients, by method.",
	}, []string{"method"})
	reg.MustRegister(grants)
	for method := stanza.GrantUpload; method <= stanza.GrantDelete; method++ {
		m.grants[method] = grants.WithLabelValues(method.String())
	}
	m.relays = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "linecard_gateway_relay_credentials_total", Help: "Credentials for relays that were given to clients.",
	})
	reg.MustRegister(m.relays)
}

func (m *metrics) traffic(reg prometheus.Registerer) {
	frames := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "linecard_gateway_frames_total", Help: "Sealed frames from and to clients.",
	}, []string{"direction"})
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "linecard_gateway_bytes_total", Help: "Bytes of sealed frames from and to clients.",
	}, []string{"direction"})
	m.heldBack = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "linecard_gateway_held_back_total", Help: "Deliveries left to their queue for now, since the client does not take what was written.",
	})
	m.writes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "linecard_gateway_outboxes_total", Help: "Outboxes written: one for each session that got something in a turn of its loop.",
	})
	reg.MustRegister(frames, bytes, m.heldBack, m.writes)
	m.framesUp, m.framesDown = frames.WithLabelValues("up"), frames.WithLabelValues("down")
	m.bytesUp, m.bytesDown = bytes.WithLabelValues("up"), bytes.WithLabelValues("down")
}

func (m *metrics) handshakes(reg prometheus.Registerer) {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "linecard_gateway_handshakes_total", Help: "Connections by how they came to be bound, or not: ok (XX), resumed, check (a balancer's), or the reason why they ended before.",
	}, []string{"result"})
	reg.MustRegister(vec)
	m.handshakesOK, m.resumed, m.checks = vec.WithLabelValues("ok"), vec.WithLabelValues("resumed"), vec.WithLabelValues("check")
	back := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "linecard_gateway_use_xx_total", Help: "Resumes sent back to XX on the same connection, by cause.",
	}, []string{"cause"})
	reg.MustRegister(back)
	for c := range causes {
		m.useXX[c] = back.WithLabelValues(c.String())
	}
	for _, r := range stanza.Reasons {
		for len(m.handshakesBad) <= int(r) {
			m.handshakesBad = append(m.handshakesBad, nil)
		}
		if r.Closes() {
			m.handshakesBad[r] = vec.WithLabelValues(r.String())
		}
	}
}

// handshake counts a connection that ended before it was bound.
func (m *metrics) handshake(r stanza.Reason) {
	if int(r) >= len(m.handshakesBad) || m.handshakesBad[r] == nil {
		r = stanza.ReasonInternal
	}
	m.handshakesBad[r].Inc()
}

func gauge(reg prometheus.Registerer, name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	reg.MustRegister(g)
	return g
}

func counter(reg prometheus.Registerer, name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	reg.MustRegister(c)
	return c
}
