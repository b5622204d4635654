package router

import (
	"sync"

	"linecard.example/internal/link"
)

// streamEvents tells a shard goroutine of streams that came and went. It is bounded by the streams of the process.
type streamEvents struct {
	mu    sync.Mutex
	ups   []streamUp
	downs []sender
}

type streamUp struct {
	to   sender
	info link.Info
}

// up notes a new stream; first says that the shard is to be woken. Safe for concurrent use, as down.
func (e *streamEvents) up(s sender, info link.Info) (first bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ups = append(e.ups, streamUp{to: s, info: info})
	return len(e.ups) == 1
}

func (e *streamEvents) down(s sender) (first bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.downs = append(e.downs, s)
	return len(e.downs) == 1
}

// takeUps returns the new streams since the last call. Shard goroutine only, as takeDowns.
func (e *streamEvents) takeUps() []streamUp {
	e.mu.Lock()
	defer e.mu.Unlock()
	ups := e.ups
	e.ups = nil
	return ups
}

func (e *streamEvents) takeDowns() []sender {
	e.mu.Lock()
	defer e.mu.Unlock()
	downs := e.downs
	e.downs = nil
	return downs
}
