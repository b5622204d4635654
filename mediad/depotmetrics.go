package mediad

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// depotCounters are the depot's metrics. No label tells who or which blob.
type depotCounters struct {
	syncs                    prometheus.Histogram
	sweeps, sweepFailures    prometheus.Counter
	references, blobs, bytes prometheus.Counter
	expired                  prometheus.Counter
	again, commitErrors      prometheus.Counter
	sweepSeconds             prometheus.Gauge
}

func newDepotCounters(reg prometheus.Registerer) *depotCounters {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	count := func(name, help string) prometheus.Counter {
		m := prometheus.NewCounter(prometheus.CounterOpts{Name: "linecard_mediad_" + name, Help: help})
		reg.MustRegister(m)
		return m
	}
	c := &depotCounters{
		syncs: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "linecard_mediad_sync_seconds", Help: "How long it takes until bytes of an upload, or its record, are on the disk.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9),
		}),
		sweepSeconds: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "linecard_mediad_sweep_seconds", Help: "How long the last sweep took that came to its end.",
		}),
	}
	reg.MustRegister(c.syncs, c.sweepSeconds)
	c.sweeps = count("sweeps_total", "Sweeps that came to their end.")
	c.sweepFailures = count("sweep_failures_total", "Sweeps that did not; the next one begins anew.")
	c.references = count("expired_references_total", "References that ended with their retention.")
	c.blobs = count("removed_blobs_total", "Blobs that a sweep removed because nothing referred to them.")
	c.bytes = count("removed_bytes_total", "Bytes of those.")
	c.expired = count("expired_uploads_total", "Records of uploads, unfinished or finished, that were removed when their time had come.")
	c.again = count("renewed_references_total", "Uploads that became a blob to which their account had a reference already; it is as good as new.")
	c.commitErrors = count("commit_failures_total", "Uploads that are complete and could not be made blobs, each attempt counted.")
	return c
}

// register shows what the depot has now, each time that it is asked.
func (d *depot) register(reg prometheus.Registerer) {
	if reg == nil {
		return
	}
	show := func(name, help string, labels prometheus.Labels, f func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "linecard_mediad_" + name, Help: help, ConstLabels: labels}, f))
	}
	for _, p := range []struct {
		name string
		get  func() int
	}{
		{"open", func() int { n, _, _ := d.uploads.count(); return n }},
		{"complete", func() int { _, n, _ := d.uploads.count(); return n }},
		{"finished", func() int { _, _, n := d.uploads.count(); return n }},
	} {
		show("uploads", "Uploads with a record, by how far they are: open, complete and not a blob yet, finished.",
			prometheus.Labels{"phase": p.name}, func() float64 { return float64(p.get()) })
	}
	show("accounts", "Accounts with references or unfinished uploads.", nil, func() float64 { return float64(d.ledger.sum().accounts) })
	show("reference_bytes", "Bytes that accounts have by references: a blob counts once for each of its accounts.", nil,
		func() float64 { return float64(d.ledger.sum().stored) })
	show("reserved_bytes", "Bytes that unfinished uploads may come to.", nil, func() float64 { return float64(d.ledger.sum().reserved) })
	show("room_bytes", "Bytes that the disk has above what uploads leave free; less than 0 below.", nil, func() float64 { return float64(d.room.bytes()) })
	show("blobs", "Blobs, as of the last sweep.", nil, func() float64 { return float64(d.swept().kept) })
	show("blob_bytes", "Bytes of them.", nil, func() float64 { return float64(d.swept().keptBytes) })
}

// swept is what the last sweep found.
func (d *depot) swept() swept {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

// sweptOne notes a sweep that came to its end.
func (d *depot) sweptOne(s swept, took time.Duration) {
	d.mu.Lock()
	d.last = s
	d.mu.Unlock()
	d.count.sweeps.Inc()
	d.count.references.Add(float64(s.references))
	d.count.blobs.Add(float64(s.blobs))
	d.count.bytes.Add(float64(s.bytes))
	d.count.sweepSeconds.Set(took.Seconds())
}
