package link

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Usage is what the streams of an endpoint to peers of one role hold at a moment.
type Usage struct {
	Streams int // up, both ends counted where both are here
	Local   int // of them those within the process
	// Used is the bytes of the peers' credits that were not given back: pending here, on their way, waiting there, or handled there and
	// not yet granted again, which is less than half of a grant for each group.
	Used int64
	// Taken is the bytes received of what this endpoint granted and not yet granted again: at rest the same as Used at the peers.
	Taken int64
	// Unhandled is the part of Taken that the daemon has not given back with Done.
	Unhandled int64
}

// Usage returns what streams to peers of a role hold. Safe for concurrent use; it takes a lock of every stream for a moment.
func (e *Endpoint) Usage(peer Role) (u Usage) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.streams {
		if s.peer.Role != peer {
			continue
		}
		u.Streams++
		if s.local {
			u.Local++
		}
		u.Used += s.out.used()
		taken, unhandled := s.in.held()
		u.Taken += taken
		u.Unhandled += unhandled
	}
	return u
}

// dialKey is what Dial was asked for.
type dialKey struct {
	addr string
	role Role
}

// Dialled reports whether Dial has a stream up to the endpoint of that role at addr. Streams that the peer made do not count.
func (e *Endpoint) Dialled(addr string, role Role) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.dialled[dialKey{addr, role}] > 0
}

// enter notes a stream that is up, leave one that is down.
func (e *Endpoint) enter(s *Stream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.streams[s] = struct{}{}
	if s.dialled != (dialKey{}) {
		e.dialled[s.dialled]++
	}
}

func (e *Endpoint) leave(s *Stream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.streams, s)
	if s.dialled == (dialKey{}) {
		return
	}
	if e.dialled[s.dialled]--; e.dialled[s.dialled] == 0 {
		delete(e.dialled, s.dialled)
	}
}

// used sums up the charges of all groups that were not given back.
func (o *outbox) used() (sum int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, left := range o.credit {
		sum += o.initial - left
	}
	return sum
}

// held sums up what was received and not granted again, and the part of it that is not handled.
func (w *window) held() (taken, unhandled int64) {
	for i := range w.group {
		owed := w.group[i].owed.Load() // before taken, which grows first
		t := w.group[i].taken.Load()
		taken += t
		unhandled += max(t-owed, 0)
	}
	return taken, unhandled
}

// usage exports Usage of the endpoints that share a registerer.
type usage struct {
	used, unhandled *prometheus.Desc

	mu        sync.Mutex
	endpoints []*Endpoint
}

func registerUsage(r prometheus.Registerer, e *Endpoint) {
	if r == nil {
		return
	}
	labels := []string{"role", "peer"}
	u := &usage{
		used: prometheus.NewDesc("linecard_link_used_bytes",
			"Bytes of the peers' credits in use: pending, on their way, or not yet granted again.", labels, nil),
		unhandled: prometheus.NewDesc("linecard_link_unhandled_bytes", "Bytes received and not handled by the daemon.", labels, nil),
	}
	u = shared(r, u)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.endpoints = append(u.endpoints, e)
}

// Describe implements prometheus.Collector.
func (u *usage) Describe(ch chan<- *prometheus.Desc) { ch <- u.used; ch <- u.unhandled }

// Collect implements prometheus.Collector. Endpoints of one role are summed up.
func (u *usage) Collect(ch chan<- prometheus.Metric) {
	u.mu.Lock()
	defer u.mu.Unlock()
	sums := map[[2]Role]Usage{}
	for _, e := range u.endpoints {
		for peer := RoleGateway; peer < roleEnd; peer++ {
			if one := e.Usage(peer); one.Streams > 0 {
				key := [2]Role{e.info.Role, peer}
				sum := sums[key]
				sum.Used += one.Used
				sum.Unhandled += one.Unhandled
				sums[key] = sum
			}
		}
	}
	for key, sum := range sums {
		self, peer := key[0].String(), key[1].String()
		ch <- prometheus.MustNewConstMetric(u.used, prometheus.GaugeValue, float64(sum.Used), self, peer)
		ch <- prometheus.MustNewConstMetric(u.unhandled, prometheus.GaugeValue, float64(sum.Unhandled), self, peer)
	}
}
