package node

import (
	"context"
	"log/slog"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Daemons allocate in bursts: in a gateway a handshake makes 11 KB of garbage, and a session keeps 0.3 KB of heap. Behind a burst the heap
// has grown to its goal, five times what lives in a router or offline, and what is free in it stays with the process, though idle sessions
// will not use it. So when little is allocated any more, the loops let go of their buffers, and the heap is collected and given back to
// the kernel. While much is allocated the collector's own pace is the right one. Much is measured by the memory that the heap has from
// the kernel: by what lives, a process whose clients that never read are probed would never be calm, and was seen to keep 1.4 GB of which 110 MB
// lived. What is worth it is measured by what lives, which is what a collection has to look at: in quiet times there is garbage of an
// eighth of it at most, for the price that a pace of 12 % has.
const (
	calmShare   = 64 // a calm second allocates less than this part of what the heap has from the kernel
	calmSeconds = 3  // so many in a row end a burst
	tidyShare   = 8  // less than this part of what lives allocated since the last tidying is not worth another
	tidyEvery   = time.Second
)

// tidier tells when a burst is over.
type tidier struct {
	seen    uint64 // allocated up to the last look
	pending uint64 // allocated since the last tidying
	calm    int    // calm looks in a row
}

// due is called once a second with the bytes ever allocated, the bytes that the last collection found living, and those that the heap has
// from the kernel.
func (t *tidier) due(allocated, living, held uint64) bool {
	fresh := allocated - t.seen
	t.seen = allocated
	t.pending += fresh
	if fresh > held/calmShare {
		t.calm = 0
		return false
	}
	if t.calm++; t.calm < calmSeconds || t.pending < living/tidyShare {
		return false
	}
	t.pending, t.calm = 0, 0
	return true
}

// tidyService tidies up a process of one daemon.
type tidyService struct {
	daemon trimmer // nil: only the heap is tidied
	log    *slog.Logger
}

// trimmer is a daemon that can let go of buffers.
type trimmer interface{ Trim(context.Context) }

// trimmer returns the daemon of a process that has only one; nil if it has no buffers of its own, as a border or a turnd.
func (n *Node) trimmer() trimmer {
	switch {
	case n.gateway != nil:
		return n.gateway
	case n.router != nil:
		return n.router
	case n.offline != nil:
		return n.offline
	case n.media != nil:
		return n.media
	}
	return nil
}

func (s tidyService) Serve(ctx context.Context) error {
	heap := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for t := (tidier{}); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		metrics.Read(heap)
		held := heap[2].Value.Uint64() + heap[3].Value.Uint64() + heap[4].Value.Uint64() // what was given back is not in it
		if t.due(heap[0].Value.Uint64(), heap[1].Value.Uint64(), held) {
			if s.daemon != nil {
				s.daemon.Trim(ctx)
			}
			debug.FreeOSMemory()
			s.log.Debug("tidied up", "heap", heap[1].Value.Uint64())
		}
	}
}
