package turnd

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// requestNames are the requests that are counted.
var requestNames = map[msgType]string{
	bindingRequest: "binding", allocateRequest: "allocate", refreshRequest: "refresh", permissionRequest: "permission", channelRequest: "channel",
}

// counters are the daemon's metrics, resolved beforehand. No label tells who.
type counters struct {
	requests map[msgType]prometheus.Counter // never changed
	refusals [reasonEnd]prometheus.Counter
	drops    [reasonEnd]prometheus.Counter
	ends     [reasonEnd]prometheus.Counter

	turnedAway  [reasonEnd]prometheus.Counter
	certificate prometheus.Gauge
	reloads     prometheus.Counter
}

func newCounters(reg prometheus.Registerer, s *Server) *counters {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	c := &counters{requests: map[msgType]prometheus.Counter{}}
	vec := func(name, help, label string) *prometheus.CounterVec {
		m := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "linecard_turnd_" + name, Help: help}, []string{label})
		reg.MustRegister(m)
		return m
	}
	requests := vec("requests_total", "Requests that were granted, by what they want.", "method")
	for t, name := range requestNames {
		c.requests[t] = requests.WithLabelValues(name)
	}
	byReason := func(list *[reasonEnd]prometheus.Counter, name, help string) {
		v := vec(name, help, "reason")
		for _, r := range Reasons()[1:] {
			list[r] = v.WithLabelValues(r.String())
		}
	}
	byReason(&c.refusals, "refusals_total", "Requests that were refused, by reason.")
	byReason(&c.drops, "drops_total", "Packets that were dropped and answers that were not sent, by reason.")
	byReason(&c.ends, "allocations_ended_total", "Allocations that ended, by reason.")
	byReason(&c.turnedAway, "connections_ended_total", "Connections that were not taken or that ended, by reason.")
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "linecard_turnd_allocations", Help: "Allocations that there are."},
		func() float64 { return float64(s.accounts.count()) }))
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "linecard_turnd_connections", Help: "TCP, TLS and DTLS connections."},
		func() float64 { return float64(s.doors.count()) }))
	c.certificate = prometheus.NewGauge(prometheus.GaugeOpts{Name: "linecard_turnd_certificate_expiry_seconds", Help: "When the TLS certificate ends, in seconds since 1970; 0 without TLS."})
	c.reloads = prometheus.NewCounter(prometheus.CounterOpts{Name: "linecard_turnd_certificate_failures_total", Help: "Changed TLS files that could not be used; the certificate before them stays."})
	reg.MustRegister(c.certificate, c.reloads)
	return c
}

// answered counts a request that was granted.
func (c *counters) answered(t msgType) { c.requests[t].Inc() }

// refused counts one that was not.
func (c *counters) refused(r Reason) { c.refusals[r].Inc() }

// drop counts a packet that was not relayed, or an answer that was not sent.
func (c *counters) drop(r Reason) { c.drops[r].Inc() }

// ended counts a connection that ended, or was not taken.
func (c *counters) ended(r Reason) { c.turnedAway[r].Inc() }

// started writes the begin of an allocation, for who has to answer for what came from this address.
func (s *Server) started(a *allocation) {
	s.log.Info("allocation started", slog.String("owner", a.owner.name), slog.String("client", a.client.String()),
		slog.String("transport", a.front.transport), slog.String("relay", s.policy.outward(a.relay.local).String()))
}

// stopped writes its end.
func (s *Server) stopped(a *allocation, why Reason) {
	s.count.ends[why].Inc()
	t := &a.traffic
	s.log.Info("allocation ended", slog.String("owner", a.owner.name), slog.String("client", a.client.String()),
		slog.String("transport", a.front.transport), slog.String("relay", s.policy.outward(a.relay.local).String()), slog.String("reason", why.String()),
		slog.Duration("lasted", s.deps.Clock().Sub(a.began).Round(time.Millisecond)),
		slog.Uint64("sent_packets", t.sentPackets.Load()), slog.Uint64("sent_bytes", t.sentBytes.Load()),
		slog.Uint64("received_packets", t.recvPackets.Load()), slog.Uint64("received_bytes", t.recvBytes.Load()))
}
