package link

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"linecard.example/internal/roster"
)

// Board is what a process knows of the roster. It takes newer ones from the process's own directory and from peers, and tells every
// peer that is not known to have them. A nil Board knows none and takes none. Safe for concurrent use.
type Board struct {
	current atomic.Pointer[roster.Roster]
	about   atomic.Pointer[func() []byte] // what operators are told, see Tell

	mu        sync.Mutex
	notice    []byte // current as an encoded envelope; never changed, since streams hold it
	endpoints []*Endpoint
	watchers  []chan struct{}
}

// ErrOtherCluster says that a roster is of a cluster of the same name that was founded at another time.
var ErrOtherCluster = errors.New("link: another cluster was founded under the same name")

// NewBoard returns an empty board. Options.Board puts an endpoint on it.
func NewBoard() *Board { return &Board{} }

// Current returns the newest roster, nil as long as none is known. It is shared: for reading only.
func (b *Board) Current() *roster.Roster {
	if b == nil {
		return nil
	}
	return b.current.Load()
}

// Offer gives the board a roster, which it retains. One that is not newer is ignored. ErrOtherCluster: it is of another cluster than what
// is known already, which stays.
func (b *Board) Offer(r *roster.Roster) error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.offer(r)
}

func (b *Board) offer(r *roster.Roster) error {
	if now := b.current.Load(); now != nil {
		if now.Cluster != r.Cluster {
			return ErrOtherCluster
		}
		if r.Version <= now.Version {
			return nil
		}
	}
	b.notice = AppendEnvelope(nil, &Envelope{Kind: KindRoster, Payload: r.Append(nil)})
	b.current.Store(r)
	for _, e := range b.endpoints {
		e.mu.Lock()
		for s := range e.streams {
			b.tell(s, r.Version)
		}
		e.mu.Unlock()
	}
	for _, w := range b.watchers {
		select {
		case w <- struct{}{}:
		default: // it has not looked since the last time
		}
	}
	return nil
}

// Changed returns a channel that gets a value when there is a newer roster, and one at once if there is any. Several changes may come as
// one: look at Current. The channel is never closed.
func (b *Board) Changed() <-chan struct{} {
	w := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchers = append(b.watchers, w)
	if b.current.Load() != nil {
		w <- struct{}{}
	}
	return w
}

// Unwatch ends what Changed began.
func (b *Board) Unwatch(c <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchers = slices.DeleteFunc(b.watchers, func(w chan struct{}) bool { return w == c })
}

func (b *Board) join(e *Endpoint) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endpoints = append(b.endpoints, e)
}

// greet tells a stream that is among its endpoint's.
func (b *Board) greet(s *Stream) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.current.Load(); r != nil {
		b.tell(s, r.Version)
	}
}

// tell sends the current roster unless the peer has it, does not know what that is, or is this process.
func (b *Board) tell(s *Stream, version uint64) {
	if !s.local && s.kinds >= KindRoster && s.roster < version {
		s.roster = version
		s.out.post(b.notice)
	}
}

// heard takes a roster from a peer. An error ends the stream.
func (b *Board) heard(s *Stream, payload []byte) error {
	if b == nil {
		return nil
	}
	r, err := roster.Parse(payload)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.roster = max(s.roster, r.Version) // before the others are told: this one is not
	return b.offer(r)
}

// Tell has operators who ask a process about itself answered with what about returns, at most MaxPayload bytes. It is called on the goroutine
// of the asker's stream, and must not block. Processes on a board without it say nothing.
func (b *Board) Tell(about func() []byte) { b.about.Store(&about) }

// looked answers an operator; others get nothing. An answer that finds no credit is lost like any other.
func (b *Board) looked(s *Stream, e *Envelope) {
	if b == nil || s.peer.Role != RoleOperator {
		return
	}
	if about := b.about.Load(); about != nil {
		_ = s.Send(&Envelope{Kind: KindLooked, Group: e.Group, ID: e.ID, Payload: (*about)()})
	}
}
