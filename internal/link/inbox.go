package link

import "sync"

// Item is one received envelope and the stream it came on; From is nil for what the process put there itself.
type Item struct {
	From *Stream
	Env  Envelope
}

// Inbox is the mailbox of one event loop or shard goroutine: any goroutine pushes, the owner drains. It has no bound of its own:
// what comes from links is bounded by their credits, and whoever pushes with a nil stream bounds that himself.
type Inbox struct {
	wake func()

	mu sync.Mutex
	in []Item

	// Owner.
	out  []Item
	idle int // uses in a row of a large out that filled little of it
}

// Shape of shrinking: a buffer of more than shrinkOver items that shrinkAfter uses in a row filled to less than a sixteenth is
// given up, so that one burst does not hold memory for good.
const (
	shrinkOver  = 4096
	shrinkAfter = 64
)

// NewInbox returns an empty inbox. wake is called by the pushing goroutine, without any lock held, once each time the inbox goes
// from empty to not empty; it must not block. It may be nil.
func NewInbox(wake func()) *Inbox { return &Inbox{wake: wake} }

// Push appends envs in order, as received on s. It copies the envelopes; payloads are retained as they are. Safe for concurrent use;
// never blocks.
func (b *Inbox) Push(s *Stream, envs ...Envelope) {
	if len(envs) == 0 {
		return
	}
	b.mu.Lock()
	first := len(b.in) == 0
	for i := range envs {
		b.in = append(b.in, Item{From: s, Env: envs[i]})
	}
	b.mu.Unlock()
	if first && b.wake != nil {
		b.wake()
	}
}

// Drain returns everything pushed since the last Drain, in order, and leaves the inbox empty, so the next Push wakes again. The
// items are valid until the next Drain. Owner only.
func (b *Inbox) Drain() []Item {
	old := b.reuse()
	b.mu.Lock()
	b.out, b.in = b.in, old
	b.mu.Unlock()
	return b.out
}

// reuse returns the buffer of the last drain, emptied, or nil when it has been far too large for a while.
func (b *Inbox) reuse() []Item {
	if cap(b.out) > shrinkOver { // the two buffers take turns, so a small one says nothing
		b.idle++
		if len(b.out) >= cap(b.out)/16 {
			b.idle = 0
		}
	}
	if b.idle >= shrinkAfter {
		b.idle = 0
		return nil
	}
	clear(b.out) // lets go of the payloads
	return b.out[:0]
}

// Trim lets go of room that is not in use, until it is needed again. Owner only, when what the last Drain returned is handled.
func (b *Inbox) Trim() {
	b.out, b.idle = nil, 0
	b.mu.Lock()
	if len(b.in) == 0 {
		b.in = nil
	}
	b.mu.Unlock()
}

// Done tells the streams that items are handled, which gives their credits back. Kind and Payload of the items must be those that
// were received. Owner only; once per item.
func (b *Inbox) Done(items []Item) {
	for i := 0; i < len(items); {
		s, g, n := items[i].From, items[i].Env.Group, 0
		for ; i < len(items) && items[i].From == s && items[i].Env.Group == g; i++ {
			n += items[i].Env.Size()
		}
		if s != nil {
			s.Done(g, n)
		}
	}
}
