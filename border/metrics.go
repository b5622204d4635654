package border

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"linecard.example/internal/metrics"
	"linecard.example/internal/stanza"
)

// counters are the daemon's metrics.
type counters struct {
	out, in               prometheus.Counter
	queriesOut, queriesIn prometheus.Counter
	calls                 prometheus.Gauge
	refused, dropped      *metrics.Reasons
	links                 *prometheus.GaugeVec
}

func newCounters(reg prometheus.Registerer, cfg Config) *counters {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	count := func(name, help string) prometheus.Counter {
		m := prometheus.NewCounter(prometheus.CounterOpts{Name: "linecard_border_" + name, Help: help})
		reg.MustRegister(m)
		return m
	}
	c := &counters{
		out:        count("forwards_out_total", "Messages that went to other regions, repeats counted."),
		in:         count("forwards_in_total", "Messages of other regions that were stored here, repeats counted."),
		queriesOut: count("queries_out_total", "Questions that went to other regions."),
		queriesIn:  count("queries_in_total", "Questions of other regions."),
		calls:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "linecard_border_calls", Help: "Messages and questions that wait for their answer."}),
		links: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "linecard_border_links", Help: "Streams to the region, 0: it cannot be reached."},
			[]string{"region"}),
		refused: metrics.NewReasons(reg, "linecard_border_refusals_total", "Messages and questions refused by a border, by reason."),
		dropped: metrics.NewReasons(reg, "linecard_border_drops_total", "Envelopes dropped, by reason; forbidden: what a peer may not say."),
	}
	reg.MustRegister(c.calls, c.links)
	cfg.Each(func(r stanza.Region, _ Peer) { c.up(r, 0) })
	return c
}

// up shows how many streams there are to a region.
func (c *counters) up(r stanza.Region, n int) {
	c.links.WithLabelValues(strconv.Itoa(int(r))).Set(float64(n))
}
