package mediad

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// op is what a request wants, as metrics name it.
type op uint8

const (
	opUnknown op = iota
	opOptions
	opCreate
	opOffset
	opPatch
	opTerminate
	opPut
	opGet
	opStat
	opDelete
	opEnd
)

var opNames = [opEnd]string{"unknown", "options", "create", "offset", "patch", "terminate", "put", "get", "stat", "delete"}

func (o op) String() string { return opNames[o] }

// counters are the daemon's metrics, resolved beforehand. No label tells who.
type counters struct {
	requests [opEnd]prometheus.Counter
	refused  [reasonEnd]prometheus.Counter

	bytesIn, bytesOut   prometheus.Counter
	uploaded            prometheus.Counter
	turnedAway          prometheus.Counter
	connections, active prometheus.Gauge
	slowBuffers         prometheus.Counter
	certificate         prometheus.Gauge
	reloads             prometheus.Counter
}

func newCounters(reg prometheus.Registerer) *counters {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	c := &counters{}
	count := func(name, help string) prometheus.Counter {
		m := prometheus.NewCounter(prometheus.CounterOpts{Name: "linecard_mediad_" + name, Help: help})
		reg.MustRegister(m)
		return m
	}
	gauge := func(name, help string) prometheus.Gauge {
		m := prometheus.NewGauge(prometheus.GaugeOpts{Name: "linecard_mediad_" + name, Help: help})
		reg.MustRegister(m)
		return m
	}
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "linecard_mediad_requests_total", Help: "HTTP requests, by what they want."}, []string{"op"})
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "linecard_mediad_refusals_total", Help: "Requests that were not served, by reason."}, []string{"reason"})
	reg.MustRegister(requests, refused)
	for o := range opEnd {
		c.requests[o] = requests.WithLabelValues(o.String())
	}
	for _, r := range Reasons()[1:] {
		c.refused[r] = refused.WithLabelValues(r.String())
	}
	c.bytesIn = count("received_bytes_total", "Bytes of uploads taken in.")
	c.bytesOut = count("sent_bytes_total", "Bytes of blobs sent.")
	c.uploaded = count("uploads_finished_total", "Uploads that became blobs, those that were there already counted.")
	c.turnedAway = count("connections_refused_total", "Connections closed at once, over the limit of all or of one source.")
	c.connections = gauge("connections", "Connections of HTTP clients.")
	c.active = gauge("active_requests", "Requests under way.")
	c.slowBuffers = count("small_buffer_transfers_total", "Times that a transfer went on with a small buffer because all big ones were lent.")
	c.certificate = gauge("certificate_expiry_seconds", "When the TLS certificate ends, in seconds since 1970; 0 without TLS.")
	c.reloads = count("certificate_failures_total", "Changed TLS files that could not be used; the certificate before them stays.")
	return c
}

// own are the reasons that an operator can put right: a warning each. The others are the client's.
func (r Reason) own() bool { return r == Internal || r == Unavailable || r == StorageFull }

// log writes a line about a request that failed. It never tells paths, grants or addresses.
func (q *request) log(err error) {
	reason, level := reasonOf(err), slog.LevelDebug
	attrs := []slog.Attr{slog.String("op", q.op.String())}
	if q.grant.Account != 0 {
		attrs = append(attrs, slog.Uint64("account", uint64(q.grant.Account)))
	}
	if reason.own() {
		level, attrs = slog.LevelWarn, append(attrs, slog.Any("err", err))
	}
	q.s.lines.WriteWith(level, "request not served", reason, attrs...)
}
