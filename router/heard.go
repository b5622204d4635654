package router

import (
	"sync"

	"linecard.example/internal/link"
)

// heard keeps who said last that he leads queue/N, for all shard numbers: offlines say it once, and a group that is opened here later, since its
// replica comes to this process, has to know it. Safe for concurrent use.
type heard struct {
	mu     sync.Mutex
	queues map[int]hello // by shard number, of streams that are up
}

type hello struct {
	from *link.Stream
	term uint64
}

// hear notes the hellos of a batch, by the rule of dirShard.helloFrom, and takes back those that the batch takes back.
func (h *heard) hear(s *link.Stream, batch []link.Envelope) {
	if s.Peer().Role != link.RoleOffline {
		return
	}
	for i := range batch {
		e := &batch[i]
		if !e.Group.IsQueue() || e.Kind != link.KindHello && e.Kind != link.KindNotLeader {
			continue
		}
		h.mu.Lock()
		switch was := h.queues[e.Group.Shard()]; {
		case e.Kind == link.KindHello && e.Term >= was.term:
			h.queues[e.Group.Shard()] = hello{s, e.Term}
		case e.Kind == link.KindNotLeader && was.from == s:
			delete(h.queues, e.Group.Shard())
		}
		h.mu.Unlock()
	}
}

// down forgets what a stream said.
func (h *heard) down(s *link.Stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for n, was := range h.queues {
		if was.from == s {
			delete(h.queues, n)
		}
	}
}

// of returns the last word on queue/n; from is nil if there is none.
func (h *heard) of(n int) hello {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.queues[n]
}
