package link

import (
	"errors"
	"slices"
)

// Road is what lies between endpoints of one process that a simulation takes apart: for tests. It is asked to carry each batch, on the
// sender goroutine of its stream, and returns when the batch has arrived, or with the reason why it never will, which ends the stream. It
// may wait meanwhile, and then what is sent behind the batch waits too: order holds, as on TCP. down is closed when the stream has ended.
type Road func(from, to Info, down <-chan struct{}) error

// Travel has the batches of e's streams within this process take r, and jitter draw from 0 to 1 how long e waits before it connects
// again. Call it before the first stream; the peer's direction is the peer's own. Envelopes are not handed over in turns then, as they
// are not between processes.
func (e *Endpoint) Travel(r Road, jitter func() float64) { e.road, e.jitter = r, jitter }

// errBroken ends a stream that Break broke.
var errBroken = errors.New("link: broken by a test")

// Break ends every stream of e at once, as the death of its process does, and drops what is pending on them.
func (e *Endpoint) Break() {
	e.mu.Lock()
	all := make([]*Stream, 0, len(e.streams))
	for s := range e.streams {
		all = append(all, s)
	}
	e.mu.Unlock()
	slices.SortFunc(all, func(a, b *Stream) int { return int(a.id) - int(b.id) })
	for _, s := range all {
		s.fail(errBroken)
	}
}

// carried puts the road of s, if there is one, before transmit.
func (s *Stream) carried(transmit func(*batch) error) func(*batch) error {
	if s.ep.road == nil {
		return transmit
	}
	return func(b *batch) error {
		if err := s.ep.road(s.ep.info, s.peer, s.failed); err != nil {
			return err
		}
		return transmit(b)
	}
}
