package shard

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"linecard.example/internal/stanza"
)

// metricVecs are the collectors of all hosts that share a registerer.
type metricVecs struct {
	latency, packs               *prometheus.HistogramVec
	leader, term, applied, last  *prometheus.GaugeVec
	stopped                      *prometheus.GaugeVec
	voters, reachable, lag       *prometheus.GaugeVec
	changes, transfers           *prometheus.CounterVec
	pending, inFlight            *prometheus.GaugeVec
	flushes, snapshots, outcomes *prometheus.CounterVec
	scrubs, streams              *prometheus.CounterVec
	scrubAge                     prometheus.Gauge
}

func newMetricVecs(r prometheus.Registerer) (*metricVecs, error) {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "shard_" + name, Help: help}, []string{"group"})
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "shard_" + name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "shard_" + name, Help: help, Buckets: buckets}, []string{"group"})
	}
	v := &metricVecs{
		latency:   histogram("commit_seconds", "Time from submitting a pack to raft until it is applied.", prometheus.ExponentialBuckets(0.0001, 2, 16)),
		packs:     histogram("pack_commands", "Commands in a submitted pack.", []float64{1, 2, 4, 8, 16, 32, 64}),
		leader:    gauge("leader", "1 if this process leads the group."),
		term:      gauge("term", "Raft term."),
		applied:   gauge("applied_index", "Index of the last entry applied."),
		last:      gauge("last_index", "Index of the last entry in the log."),
		stopped:   gauge("stopped", "1 if the group was stopped because of damaged data."),
		voters:    gauge("voters", "Voters of the group, as this process knows its configuration."),
		reachable: gauge("reachable_voters", "On the leader, voters that answer, itself included."),
		lag:       gauge("lag_entries", "On the leader, entries that the log of the replica furthest behind lacks."),
		changes:   counter("config_changes_total", "Changes of a group's raft configuration, by result.", "group", "result"),
		transfers: counter("transfers_total", "Leaderships handed over, by result.", "group", "result"),
		pending:   gauge("pending_bytes", "Bytes proposed and not yet answered."),
		inFlight:  gauge("packs_in_flight", "Packs submitted to raft and not yet applied."),
		flushes:   counter("flushes_total", "Flushes of a machine's changes to tables.", "group"),
		snapshots: counter("snapshots_total", "Raft snapshots, by result.", "group", "result"),
		scrubs:    counter("scrubs_total", "Scrubs, by result.", "group", "result"),
		streams:   counter("streams_total", "Whole states sent to or received from other replicas, by result.", "group", "result"),
		scrubAge: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "shard_scrub_age_seconds", Help: "Seconds since the scrub of the group that was scrubbed longest ago."}),
		outcomes: counter("lost_commands_total", "Commands that were not committed, by outcome.", "group", "result"),
	}
	if r == nil {
		return v, nil
	}
	err := errors.Join(register(r, &v.voters), register(r, &v.reachable), register(r, &v.lag), register(r, &v.changes), register(r, &v.transfers),
		register(r, &v.stopped), register(r, &v.latency), register(r, &v.packs), register(r, &v.leader), register(r, &v.term),
		register(r, &v.applied), register(r, &v.last), register(r, &v.pending), register(r, &v.inFlight),
		register(r, &v.flushes), register(r, &v.snapshots), register(r, &v.outcomes), register(r, &v.scrubs), register(r, &v.streams), register(r, &v.scrubAge))
	if err != nil {
		return nil, fmt.Errorf("shard: registering metrics: %w", err)
	}
	return v, nil
}

// register registers *c, or takes the collector that another host of the process registered before.
func register[T prometheus.Collector](r prometheus.Registerer, c *T) error {
	err := r.Register(*c)
	var dup prometheus.AlreadyRegisteredError
	if errors.As(err, &dup) {
		if old, ok := dup.ExistingCollector.(T); ok {
			*c = old
			return nil
		}
	}
	return err
}

// groupMetrics are the resolved children of one group.
type groupMetrics struct {
	latency, packs              prometheus.Observer
	leader, term, applied, last prometheus.Gauge
	stopped, pending, inFlight  prometheus.Gauge
	flushes                     prometheus.Counter
	snapshotOK, snapshotFailed  prometheus.Counter
	scrubOK, scrubFailed        prometheus.Counter
	streamSent, streamReceived  prometheus.Counter
	streamFailed                prometheus.Counter
	rejected, unknown           prometheus.Counter
	voters, reachable, lag      prometheus.Gauge
	changeOK, changeFailed      prometheus.Counter
	transferOK, transferFailed  prometheus.Counter
}

func (v *metricVecs) group(g stanza.Group) groupMetrics {
	name := g.String()
	return groupMetrics{
		latency: v.latency.WithLabelValues(name), packs: v.packs.WithLabelValues(name),
		leader: v.leader.WithLabelValues(name), term: v.term.WithLabelValues(name),
		applied: v.applied.WithLabelValues(name), last: v.last.WithLabelValues(name),
		stopped: v.stopped.WithLabelValues(name), pending: v.pending.WithLabelValues(name), inFlight: v.inFlight.WithLabelValues(name),
		flushes:    v.flushes.WithLabelValues(name),
		snapshotOK: v.snapshots.WithLabelValues(name, "ok"), snapshotFailed: v.snapshots.WithLabelValues(name, "failed"),
		scrubOK: v.scrubs.WithLabelValues(name, "ok"), scrubFailed: v.scrubs.WithLabelValues(name, "failed"),
		voters: v.voters.WithLabelValues(name), reachable: v.reachable.WithLabelValues(name), lag: v.lag.WithLabelValues(name),
		changeOK: v.changes.WithLabelValues(name, "ok"), changeFailed: v.changes.WithLabelValues(name, "failed"),
		transferOK: v.transfers.WithLabelValues(name, "ok"), transferFailed: v.transfers.WithLabelValues(name, "failed"),
		streamSent: v.streams.WithLabelValues(name, "sent"), streamReceived: v.streams.WithLabelValues(name, "received"),
		streamFailed: v.streams.WithLabelValues(name, "failed"),
		rejected:     v.outcomes.WithLabelValues(name, Rejected.String()), unknown: v.outcomes.WithLabelValues(name, Unknown.String()),
	}
}

// drop removes the gauges of a closed group, so that nothing looks alive that is not.
func (v *metricVecs) drop(g stanza.Group) {
	for _, vec := range []*prometheus.GaugeVec{v.voters, v.reachable, v.lag, v.stopped, v.leader, v.term, v.applied, v.last, v.pending, v.inFlight} {
		vec.DeleteLabelValues(g.String())
	}
}
