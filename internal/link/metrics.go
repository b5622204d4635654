package link

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"linecard.example/internal/stanza"
)

// metrics of one endpoint: vectors curried with its own role. Endpoints that share a registerer share the vectors.
type metrics struct {
	sent, received, batches, bytesOut, bytesIn *prometheus.CounterVec
	drops, refusals                            *prometheus.CounterVec
	streams                                    *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer, self Role) *metrics {
	own := prometheus.Labels{"role": self.String()}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "linecard_link_" + name, Help: help}, append([]string{"role"}, labels...))
		return shared(r, v).MustCurryWith(own)
	}
	streams := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "linecard_link_streams", Help: "Streams up, by role of the peer."},
		[]string{"role", "peer"})
	return &metrics{
		sent:     counter("envelopes_sent_total", "Envelopes handed to the transport.", "peer"),
		received: counter("envelopes_received_total", "Envelopes handed to the daemon.", "peer"),
		batches:  counter("batches_sent_total", "Messages handed to the transport, signs of life included.", "peer"),
		bytesOut: counter("bytes_sent_total", "Bytes of envelopes handed to the transport.", "peer"),
		bytesIn:  counter("bytes_received_total", "Bytes of envelopes received.", "peer"),
		drops:    counter("drops_total", "Envelopes refused or dropped by a stream.", "peer", "reason"),
		refusals: counter("refusals_total", "Streams that did not come about, at either end, by cause.", "result"),
		streams:  shared(r, streams).MustCurryWith(own),
	}
}

// shared registers c, or returns the same collector of an earlier endpoint.
func shared[C prometheus.Collector](r prometheus.Registerer, c C) C {
	if r == nil {
		return c
	}
	err := r.Register(c)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		return already.ExistingCollector.(C)
	}
	if err != nil {
		panic(err) // another package has taken the name: a mistake of the program
	}
	return c
}

// refused counts a refusal by its cause; other: no connection, a certificate that does not fit, no introduction.
func (m *metrics) refused(err error) {
	m.refusals.WithLabelValues(refusals[refusalNumber(err)].name).Inc()
}

// streamMetrics are the children of one stream, resolved once.
type streamMetrics struct {
	sent, received, batches, bytesOut, bytesIn, noCredit, linkDown prometheus.Counter
	streams                                                        prometheus.Gauge
}

func (m *metrics) stream(peer Role) *streamMetrics {
	p := peer.String()
	return &streamMetrics{
		sent:     m.sent.WithLabelValues(p),
		received: m.received.WithLabelValues(p),
		batches:  m.batches.WithLabelValues(p),
		bytesOut: m.bytesOut.WithLabelValues(p),
		bytesIn:  m.bytesIn.WithLabelValues(p),
		noCredit: m.drops.WithLabelValues(p, stanza.ReasonNoCredit.String()),
		linkDown: m.drops.WithLabelValues(p, stanza.ReasonLinkDown.String()),
		streams:  m.streams.WithLabelValues(p),
	}
}

func (m *streamMetrics) up()                     { m.streams.Inc() }
func (m *streamMetrics) down()                   { m.streams.Dec() }
func (m *streamMetrics) receivedBytes(n int)     { m.bytesIn.Add(float64(n)) }
func (m *streamMetrics) receivedEnvelopes(n int) { m.received.Add(float64(n)) }
func (m *streamMetrics) droppedPending(n int)    { m.linkDown.Add(float64(n)) }

func (m *streamMetrics) sentBatch(n, bytes int) {
	m.batches.Inc()
	m.sent.Add(float64(n))
	m.bytesOut.Add(float64(bytes))
}

// dropped counts an envelope that Send did not take; the caller's mistakes are not counted.
func (m *streamMetrics) dropped(err error) {
	switch {
	case errors.Is(err, ErrNoCredit):
		m.noCredit.Inc()
	case errors.Is(err, ErrDown):
		m.linkDown.Inc()
	}
}
