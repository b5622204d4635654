package node

import (
	"context"
	"sync"

	"linecard.example/internal/link"
	"linecard.example/internal/roster"
)

// target is a stream that a process keeps up.
type target struct {
	from *link.Endpoint
	addr string
	role link.Role
	// leaving: the member may lead something for some time still, or be dead; nobody has to see to it that it can be reached.
	leaving bool
}

// rosterDials keeps a stream up from each daemon to each member that it talks to, as the roster has them.
type rosterDials struct{ n *Node }

// Serve dials until ctx ends.
func (d rosterDials) Serve(ctx context.Context) error {
	changed := d.n.cluster.board.Changed()
	defer d.n.cluster.board.Unwatch(changed)
	running := map[target]context.CancelFunc{}
	var dials sync.WaitGroup
	defer dials.Wait()
	for {
		wanted := map[target]bool{}
		for _, t := range d.n.rosterTargets() {
			t.leaving = false // the stream goes on
			wanted[t] = true
			if running[t] == nil {
				end, cancel := context.WithCancel(ctx)
				running[t] = cancel
				dials.Go(func() { t.from.Dial(end, t.addr, t.role, d.n.tls) })
			}
		}
		for t, cancel := range running {
			if !wanted[t] {
				cancel()
				delete(running, t)
			}
		}
		select {
		case <-ctx.Done():
			for _, cancel := range running {
				cancel()
			}
			return ctx.Err()
		case <-changed:
		}
	}
}

// rosterTargets lists the streams that the daemons of this process should have: gateways and borders to all members, routers to offlines, offlines
// to each other.
func (n *Node) rosterTargets() []target {
	r := n.cluster.board.Current()
	if r == nil {
		return nil
	}
	var all []target
	for i := range r.Members {
		m := &r.Members[i]
		role := link.Role(m.Role)
		for _, e := range n.Endpoints() {
			if m.Node != n.id.id && (role == link.RoleOffline || m.Role == roster.Router && (e.Info().Role == link.RoleGateway || e.Info().Role == link.RoleBorder)) {
				all = append(all, target{e, m.Link, role, m.State == roster.Leaving})
			}
		}
	}
	return all
}
