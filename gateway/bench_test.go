package gateway

import (
	"sync"
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// BenchmarkSockets is a message of 64 bytes from a client over TCP to a router, which acknowledges it at once, and back: eight to a
// frame, sixteen unanswered, four clients. Clients, router and gateway share the cores.
func BenchmarkSockets(b *testing.B) {
	h := start(b, func(c *Config) { c.SendRate, c.SendBurst = 60000, 65535 })
	bind := h.router.auto
	h.router.mu.Lock()
	h.router.auto = func(s *link.Stream, e *link.Envelope) bool {
		if e.Kind != link.KindMessage {
			return bind(s, e) || e.Kind == link.KindContact || e.Kind == link.KindNote
		}
		e.Kind, e.Group, e.Payload = link.KindAck, stanza.DirGroup(0), nil
		_ = s.Send(e)
		return true
	}
	h.router.mu.Unlock()
	const clients, batch = 4, 8
	var wg sync.WaitGroup
	conns := make([]*raw, clients)
	for i := range conns {
		conns[i] = h.bind(stanza.Account(i + 1))
	}
	ticks := time.NewTicker(10 * time.Millisecond) // the harness's clock stands still by itself
	defer ticks.Stop()
	go func() {
		for {
			select {
			case <-ticks.C:
				h.clock.Advance(10 * time.Millisecond)
			case <-b.Context().Done():
				return
			}
		}
	}()
	b.ResetTimer()
	for _, c := range conns {
		wg.Go(func() {
			text := string(make([]byte, 64))
			id, open := uint64(0), 0
			for n := 0; n < b.N/clients; n += batch {
				plain := []byte{}
				for range batch {
					id++
					plain = append(plain, message(id, 9, text)...)
				}
				c.send(plain)
				if open += batch; open > batch {
					open -= len(c.ids(batch))
				}
			}
		})
	}
	wg.Wait()
}
