package offline

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// gateway is one run of a gateway worker and the stream to it, nil while there is none. Attachments hold it, so that a stream that
// comes back serves them again.
type gateway struct {
	id     link.GatewayID
	stream atomic.Pointer[link.Stream]
}

// leader is who leads a group, as its last hello said.
type leader struct {
	term   uint64
	stream *link.Stream
}

// peers is whom this process can reach. The maps are copied on write, so that shard goroutines look up without a lock; writes are as
// rare as streams and elections. A gateway is removed when a new run of the same one comes up; attachments may hold it longer.
type peers struct {
	gateways atomic.Pointer[map[link.GatewayID]*gateway]
	leaders  atomic.Pointer[map[stanza.Group]leader]
	borders  atomic.Pointer[[]border] // those that reach anybody

	mu      sync.Mutex // writers
	streams []*link.Stream
}

// border is a stream to a border and the regions that can be reached through it, a bit each.
type border struct {
	stream *link.Stream
	reach  uint64
}

func newPeers() *peers {
	p := &peers{}
	p.borders.Store(&[]border{})
	p.gateways.Store(&map[link.GatewayID]*gateway{})
	p.leaders.Store(&map[stanza.Group]leader{})
	return p
}

// gateway returns the gateway of that id, known or not.
func (p *peers) gateway(id link.GatewayID) *gateway {
	if g := (*p.gateways.Load())[id]; g != nil {
		return g
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gatewayLocked(id)
}

func (p *peers) gatewayLocked(id link.GatewayID) *gateway {
	old := *p.gateways.Load()
	if g := old[id]; g != nil {
		return g
	}
	g := &gateway{id: id}
	grown := maps.Clone(old)
	grown[id] = g
	p.gateways.Store(&grown)
	return g
}

// up notes a new stream. A gateway's newer stream replaces the older, which may not be down yet.
func (p *peers) up(s *link.Stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams = append(p.streams, s)
	if info := s.Peer(); info.Role == link.RoleGateway || info.Role == link.RoleBorder {
		id := info.Gateway()
		p.gatewayLocked(id).stream.Store(s)
		left := maps.Clone(*p.gateways.Load())
		maps.DeleteFunc(left, func(o link.GatewayID, _ *gateway) bool { return id.Replaces(o) })
		p.gateways.Store(&left)
	}
}

// down forgets a stream and the leaders behind it.
func (p *peers) down(s *link.Stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams = slices.DeleteFunc(p.streams, func(o *link.Stream) bool { return o == s })
	if g := (*p.gateways.Load())[s.Peer().Gateway()]; g != nil {
		g.stream.CompareAndSwap(s, nil)
	}
	left := maps.Clone(*p.leaders.Load())
	maps.DeleteFunc(left, func(_ stanza.Group, l leader) bool { return l.stream == s })
	p.leaders.Store(&left)
	p.reachesLocked(s, 0)
}

// reaches notes what a border reaches, and returns the regions that it did not reach before.
func (p *peers) reaches(s *link.Stream, reach uint64) (gained uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.streams, s) {
		return 0
	}
	return p.reachesLocked(s, reach)
}

func (p *peers) reachesLocked(s *link.Stream, reach uint64) (gained uint64) {
	all := *p.borders.Load()
	before := uint64(0)
	left := make([]border, 0, len(all)+1)
	for _, b := range all {
		if b.stream == s {
			before = b.reach
			continue
		}
		left = append(left, b)
	}
	if reach != 0 {
		left = append(left, border{s, reach})
	}
	p.borders.Store(&left)
	return reach &^ before
}

// border returns a stream to a border that reaches a region, nil if there is none.
func (p *peers) border(r stanza.Region) *link.Stream {
	for _, b := range *p.borders.Load() {
		if b.reach&(1<<r) != 0 {
			return b.stream
		}
	}
	return nil
}

// hello notes the leader of a group; the highest term wins. It reports whether that is news.
func (p *peers) hello(g stanza.Group, term uint64, s *link.Stream) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := *p.leaders.Load()
	if l, ok := old[g]; ok && (l.term > term || l == leader{term, s}) {
		return false
	}
	grown := maps.Clone(old)
	grown[g] = leader{term, s}
	p.leaders.Store(&grown)
	return true
}

// notLeader forgets a leader that says it is none.
func (p *peers) notLeader(g stanza.Group, s *link.Stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := *p.leaders.Load()
	if old[g].stream == s {
		left := maps.Clone(old)
		delete(left, g)
		p.leaders.Store(&left)
	}
}

// leader returns the stream to the leader of g, nil if it is not known.
func (p *peers) leader(g stanza.Group) *link.Stream { return (*p.leaders.Load())[g].stream }

// all returns every stream.
func (p *peers) all() []*link.Stream {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.streams)
}
