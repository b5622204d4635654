package router

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"linecard.example/internal/metrics"
	"linecard.example/internal/stanza"
)

// routerMetrics are the daemon's metrics; every child is resolved at start, so that counting is one atomic addition. No label names
// an account or a device.
type routerMetrics struct {
	queries, refusals, drops             *metrics.Reasons
	lines                                *metrics.Lines
	bindOK, rebound, moved               prometheus.Counter
	redeemOK, forwarded                  prometheus.Counter
	lookups, deviceLists, links, unlinks prometheus.Counter
	bindings, accounts, pendingDrops     *prometheus.GaugeVec
	ticketKeyAge                         prometheus.Gauge
}

// groupMetrics adds the gauges of one group.
type groupMetrics struct {
	*routerMetrics
	bindings, accounts, pendingDrops prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *routerMetrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"group"})
		reg.MustRegister(g)
		return g
	}
	m := &routerMetrics{
		lines:     metrics.NewLines(slog.New(slog.DiscardHandler), metrics.Budget{}),
		bindOK:    counter("linecard_router_binds_total", "Sessions bound, registrations included."),
		rebound:   counter("linecard_router_rebinds_total", "Sessions taken over from an earlier leader or after a cut."),
		moved:     counter("linecard_router_moves_total", "Of these, sessions that another process of their gateway has handed over."),
		queries:   metrics.NewReasons(reg, "linecard_router_query_errors_total", "Queries answered with an error, by reason."),
		redeemOK:  counter("linecard_router_invites_redeemed_total", "Invites redeemed, repeats by the same key included."),
		refusals:  metrics.NewReasons(reg, "linecard_router_refusals_total", "Messages and read receipts refused by the router, by reason."),
		drops:     metrics.NewReasons(reg, "linecard_router_drops_total", "Envelopes that a link did not take, by reason."),
		forwarded: counter("linecard_router_messages_total", "Messages and read receipts handed on to a queue."),
		bindings:  gauge("linecard_router_bindings", "Devices bound to a session."),
		accounts:  gauge("linecard_router_accounts", "Accounts created in the group."),
		pendingDrops: gauge("linecard_router_pending_drops",
			"Queues of unlinked devices that are being dropped; those that wait for their turn in the tables are not counted."),
		ticketKeyAge: prometheus.NewGauge(prometheus.GaugeOpts{Name: "linecard_router_ticket_key_age_seconds",
			Help: "Age of the newest key of resumption tickets; 0 where dir/0 was never led."}),
	}
	reg.MustRegister(m.ticketKeyAge)
	queries := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "linecard_router_queries_total", Help: "Queries answered, by operation."}, []string{"kind"})
	reg.MustRegister(queries)
	m.lookups = queries.WithLabelValues(stanza.OpLookup.String())
	m.deviceLists = queries.WithLabelValues(stanza.OpDeviceList.String())
	m.links = queries.WithLabelValues(stanza.OpLink.String())
	m.unlinks = queries.WithLabelValues(stanza.OpUnlink.String())
	return m
}

func (m *routerMetrics) group(name string) *groupMetrics {
	return &groupMetrics{m, m.bindings.WithLabelValues(name), m.accounts.WithLabelValues(name), m.pendingDrops.WithLabelValues(name)}
}

// drop removes the gauges of a group that was closed.
func (m *routerMetrics) drop(name string) {
	for _, v := range []*prometheus.GaugeVec{m.bindings, m.accounts, m.pendingDrops} {
		v.DeleteLabelValues(name)
	}
}

// answered counts the answer to p.
func (m *routerMetrics) answered(p *pending) {
	switch {
	case p.want == wantLink:
		m.links.Inc()
	case p.want == wantUnlink:
		m.unlinks.Inc()
	case p.handle != "":
		m.lookups.Inc()
	default:
		m.deviceLists.Inc()
	}
}
