package gateway

import (
	"context"
	"sync"
)

// Trim has the loops and the links let go of buffers that grow again when they are needed, and returns when they have, or ctx ends. It is
// for a moment in which little happens, before a collection. Safe for concurrent use.
func (g *Gateway) Trim(ctx context.Context) {
	g.endpoint.Trim()
	var left sync.WaitGroup
	for _, l := range g.loops {
		left.Add(1)
		l.post(notice{trim: left.Done})
	}
	done := make(chan struct{})
	go func() {
		left.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func (l *loop) trim() {
	l.flush()
	l.boxes, l.out, l.plain = nil, nil, nil
	l.inbox.Trim()
}
