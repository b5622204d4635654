package offline

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"linecard.example/internal/metrics"
	"linecard.example/internal/stanza"
)

// counters are the daemon's metrics; all groups share them but for the gauges, which have the label group.
type counters struct {
	refused *metrics.Reasons
	dropped *metrics.Reasons

	forwardRefused *metrics.Reasons
	lines          *metrics.Lines

	admitted, duplicates                      prometheus.Counter
	acked, expired                            prometheus.Counter
	pushed, pushedBytes, resent               prometheus.Counter
	forwards, forwarded                       prometheus.Counter
	outEntries, outBytes, outAge              *prometheus.GaugeVec
	receiptsSent, receiptsDone, receiptsIn    prometheus.Counter
	hits, misses, aheadBytes                  prometheus.Counter
	entries, bytes, resident, cached, pending *prometheus.GaugeVec
	attachments, streams                      *prometheus.GaugeVec
}

func newCounters(reg prometheus.Registerer) *counters {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	c := &counters{
		refused: metrics.NewReasons(reg, "linecard_offline_refusals_total", "Messages refused, by reason."),
		dropped: metrics.NewReasons(reg, "linecard_offline_drops_total", "Entries, answers and acks dropped, by reason."),
		forwardRefused: metrics.NewReasons(reg, "linecard_offline_forward_refusals_total",
			"Messages for other regions that were sent there and not taken, by reason; those that pass are sent again."),
		lines: metrics.NewLines(slog.New(slog.DiscardHandler), metrics.Budget{}),
	}
	count := func(name, help string) prometheus.Counter {
		m := prometheus.NewCounter(prometheus.CounterOpts{Name: "linecard_offline_" + name, Help: help})
		reg.MustRegister(m)
		return m
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		m := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "linecard_offline_" + name, Help: help}, []string{"group"})
		reg.MustRegister(m)
		return m
	}
	c.admitted = count("admitted_total", "Messages and read receipts admitted.")
	c.duplicates = count("duplicates_total", "Messages acked again.")
	c.acked = count("acked_entries_total", "Entries that their device has.")
	c.expired = count("expired_entries_total", "Entries that no device fetched in time.")
	c.pushed = count("pushed_total", "Deliveries sent to gateways, resends not counted.")
	c.pushedBytes = count("pushed_bytes_total", "Bytes of those deliveries.")
	c.resent = count("resent_total", "Deliveries sent again.")
	c.forwards = count("forwards_total", "Messages for other regions sent there, repeats counted.")
	c.forwarded = count("forwarded_total", "Messages for other regions that are stored there.")
	c.outEntries = gauge("outbound_entries", "Messages that wait for other regions; counted in the group's leader.")
	c.outBytes = gauge("outbound_bytes", "Bytes of those, as queue limits count them.")
	c.outAge = gauge("outbound_age_seconds", "How long the oldest of them waits, 0 without any.")
	c.receiptsSent = count("receipts_sent_total", "Receipt envelopes sent to the senders' shards, repeats counted.")
	c.receiptsDone = count("receipts_confirmed_total", "Delivered receipts that the senders' shards confirmed.")
	c.receiptsIn = count("receipts_stored_total", "Delivered receipt entries stored for senders.")
	c.hits = count("cache_hits_total", "Entries read from memory.")
	c.misses = count("cache_misses_total", "Entries read from tables.")
	c.aheadBytes = count("written_ahead_bytes_total", "Bytes of messages written ahead of a flush.")
	c.entries = gauge("queue_entries", "Entries waiting.")
	c.bytes = gauge("queue_bytes", "Bytes waiting, as queue limits count them.")
	c.resident = gauge("cache_bytes", "Bytes of waiting entries in memory.")
	c.cached = gauge("cached_queues", "Queues whose state is in memory.")
	c.pending = gauge("pending_receipts", "Pairs of device and account with receipts to hand over.")
	c.attachments = gauge("attachments", "Devices attached.")
	c.streams = gauge("changed_streams", "Streams changed since the last flush.")
	return c
}

// groupGauges are the gauges of one group, resolved.
type groupGauges struct {
	entries, bytes, resident, cached, pending, attachments, streams prometheus.Gauge
	outEntries, outBytes, outAge                                    prometheus.Gauge
}

func (c *counters) group(g stanza.Group) groupGauges {
	name := g.String()
	return groupGauges{
		entries: c.entries.WithLabelValues(name), bytes: c.bytes.WithLabelValues(name),
		resident: c.resident.WithLabelValues(name), cached: c.cached.WithLabelValues(name),
		pending: c.pending.WithLabelValues(name), attachments: c.attachments.WithLabelValues(name),
		streams: c.streams.WithLabelValues(name), outEntries: c.outEntries.WithLabelValues(name),
		outBytes: c.outBytes.WithLabelValues(name), outAge: c.outAge.WithLabelValues(name),
	}
}

// drop removes the gauges of a group that was closed.
func (c *counters) drop(g stanza.Group) {
	for _, v := range []*prometheus.GaugeVec{c.entries, c.bytes, c.resident, c.cached, c.pending, c.attachments, c.streams, c.outEntries, c.outBytes, c.outAge} {
		v.DeleteLabelValues(g.String())
	}
}

// publish shows the group's sizes and adds what was counted since the last time without atomics.
func (m *group) publish() {
	g := &m.gauges
	g.entries.Set(float64(m.entries))
	g.bytes.Set(float64(m.bytes))
	g.resident.Set(float64(m.resident))
	g.cached.Set(float64(len(m.queues)))
	g.pending.Set(float64(len(m.pending)))
	g.attachments.Set(float64(m.attached))
	g.streams.Set(float64(len(m.state.streams.dirty)))
	m.publishDrains()
	m.count.hits.Add(float64(m.hits))
	m.count.misses.Add(float64(m.misses))
	if m.leading {
		for range m.lost {
			m.count.dropped.Inc(stanza.ReasonReceiptFull)
		}
	}
	m.hits, m.misses, m.lost = 0, 0, 0
}

// publishDrains shows what waits for other regions.
func (m *group) publishDrains() {
	entries, bytes, oldest := uint64(0), int64(0), int64(0)
	for _, d := range m.abroad.byKey {
		entries += d.entries
		bytes += d.bytes
		if d.oldest != 0 && (oldest == 0 || d.oldest < oldest) {
			oldest = d.oldest
		}
	}
	age := 0.0
	if oldest != 0 && m.raft != nil {
		age = float64(max(m.raft.Stamp()-oldest, 0)) / 1000
	}
	m.gauges.outEntries.Set(float64(entries))
	m.gauges.outBytes.Set(float64(bytes))
	m.gauges.outAge.Set(age)
}
