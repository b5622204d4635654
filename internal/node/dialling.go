package node

import (
	"context"
	"crypto/tls"
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
	return keepUp(ctx, d.n.cluster.board, d.n.tls, d.n.rosterTargets)
}

// keepUp keeps the streams up that targets lists, and asks it again when the roster has changed, until ctx ends.
func keepUp(ctx context.Context, board *link.Board, conf *tls.Config, targets func() []target) error {
	changed := board.Changed()
	defer board.Unwatch(changed)
	running := map[target]context.CancelFunc{}
	var dials sync.WaitGroup
	defer dials.Wait()
	for {
		wanted := map[target]bool{}
		for _, t := range targets() {
			t.leaving = false // the stream goes on
			wanted[t] = true
			if running[t] == nil {
				end, cancel := context.WithCancel(ctx)
				running[t] = cancel
				dials.Go(func() { t.from.Dial(end, t.addr, t.role, conf) })
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

// rosterTargets lists the streams that the daemons of this process should have: gateways and borders to all members, mediads and turnds to
// routers, routers to offlines, offlines to each other.
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
			if m.Node != n.id.id && talksTo(e.Info().Role, m.Role) {
				all = append(all, target{e, m.Link, role, m.State == roster.Leaving})
			}
		}
	}
	return all
}

// talksTo reports whether a daemon of role from dials members of role to.
func talksTo(from link.Role, to roster.Role) bool {
	switch from {
	case link.RoleGateway, link.RoleBorder:
		return true
	case link.RoleMedia, link.RoleRelay:
		return to == roster.Router
	}
	return to == roster.Offline
}

// routerDials keeps a stream up from an enquirer to each router that the configuration names and, once the roster is known, to each that it has:
// any of them may lead the directory, and no other can change the roster.
type routerDials struct {
	a    *enquirer
	conf *tls.Config
}

// Serve dials until ctx ends.
func (d routerDials) Serve(ctx context.Context) error {
	return keepUp(ctx, d.a.board, d.conf, d.a.targets)
}

// targets lists routers; this process is among them only if the configuration names it.
func (a *enquirer) targets() (all []target) {
	for _, addr := range a.routers {
		all = append(all, target{from: a.ep, addr: addr, role: link.RoleRouter})
	}
	if r := a.board.Current(); r != nil {
		for i := range r.Members {
			if m := &r.Members[i]; m.Role == roster.Router && m.Node != a.ep.Info().Node {
				all = append(all, target{from: a.ep, addr: m.Link, role: link.RoleRouter})
			}
		}
	}
	return all
}

// begin has a command's enquirer dial routers until the function that it returns is called.
func (a *enquirer) begin(conf *tls.Config) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var dials sync.WaitGroup
	dials.Go(func() { _ = routerDials{a, conf}.Serve(ctx) }) // says no more than that ctx ended
	return func() {
		cancel()
		dials.Wait()
	}
}
