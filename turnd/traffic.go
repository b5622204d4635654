package turnd

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// traffic counts what an allocation relayed. Nothing else is counted for a packet: the sums are made when somebody asks.
type traffic struct {
	sentPackets, sentBytes atomic.Uint64 // to peers
	recvPackets, recvBytes atomic.Uint64 // from peers
}

// The directions.
const (
	toPeers = iota
	fromPeers
	directions
)

// sums is packets and bytes by direction.
type sums [directions]struct{ packets, bytes uint64 }

func (t *traffic) addTo(s *sums) {
	s[toPeers].packets += t.sentPackets.Load()
	s[toPeers].bytes += t.sentBytes.Load()
	s[fromPeers].packets += t.recvPackets.Load()
	s[fromPeers].bytes += t.recvBytes.Load()
}

// total is the metric of all that was relayed: by allocations that there are, and by those that have ended.
type total struct {
	fronts         []*front
	packets, bytes *prometheus.Desc

	mu    sync.Mutex // an allocation is in a front's table or in ended
	ended sums
}

var _ prometheus.Collector = (*total)(nil)

func newTotal(fronts []*front) *total {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("linecard_turnd_relayed_"+name, help, []string{"to"}, nil)
	}
	return &total{fronts: fronts, packets: desc("packets_total", "Packets that were relayed."), bytes: desc("bytes_total", "Bytes of payload that were relayed.")}
}

// end moves an allocation out of its front's table.
func (t *total) end(a *allocation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a.front.table.drop(a)
	a.traffic.addTo(&t.ended)
}

// Describe tells what Collect makes.
func (t *total) Describe(to chan<- *prometheus.Desc) { to <- t.packets; to <- t.bytes }

// Collect makes the sums.
func (t *total) Collect(to chan<- prometheus.Metric) {
	t.mu.Lock()
	all := t.ended
	for _, f := range t.fronts {
		for _, a := range f.table.all() {
			a.traffic.addTo(&all)
		}
	}
	t.mu.Unlock()
	for i, name := range [directions]string{"peer", "client"} {
		to <- prometheus.MustNewConstMetric(t.packets, prometheus.CounterValue, float64(all[i].packets), name)
		to <- prometheus.MustNewConstMetric(t.bytes, prometheus.CounterValue, float64(all[i].bytes), name)
	}
}
