package node

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"linecard.example/gateway"
)

// handoverSocket is where this process's gateway can be asked for its sessions; "" for one of `up`, which cannot.
func (n *Node) handoverSocket() string {
	switch {
	case n.together():
		return ""
	case n.seat != nil:
		return n.seat.Handover
	}
	return n.cfg.handoverSocket()
}

func (c Config) handoverSocket() string {
	if c.Gateway.HandoverSocket != "" {
		return c.Gateway.HandoverSocket
	}
	return filepath.Join(c.Data, "gateway.sock")
}

// findOld finds the process that this one is to replace, if any, and takes the name on links that its successor must have. A worker that
// finds none to take sessions from serves without them: its supervisor has the old one drain.
func (n *Node) findOld() error {
	path := ""
	switch {
	case n.seat != nil:
		path = n.seat.Takeover
	case n.cfg.Upgrade:
		path = n.cfg.handoverSocket()
	}
	if path == "" {
		return nil
	}
	t, err := gateway.DialTakeover(gateway.TakeoverOptions{
		Socket: path, Node: n.id.id, Worker: n.cfg.Worker, Shards: n.cfg.Shards, Cluster: n.cfg.Cluster, MaxSessions: n.cfg.Gateway.MaxSessions,
	})
	if err != nil {
		if n.seat != nil {
			n.log.Warn("no sessions are taken over", "err", err)
			return nil
		}
		return named(Gateway, err)
	}
	n.takeover, n.incarnation = t, t.Incarnation()
	return nil
}

// openAdmin opens the admin listener, unless the process to be replaced has its address still.
func (n *Node) openAdmin() (err error) {
	switch {
	case n.seat != nil:
		n.adminLn = n.seat.Admin
	case n.takeover != nil:
		return nil
	default:
		if n.adminLn, err = net.Listen("tcp", n.cfg.Admin.Listen); err != nil {
			return fmt.Errorf("admin listener: %w", err)
		}
	}
	n.adminAt.Store(n.adminLn.Addr())
	return nil
}

// lateAdmin is the admin listener of a process that replaces another one: it begins when that has ended.
type lateAdmin struct {
	n     *Node
	serve func(context.Context, net.Listener) error
}

// adminRetry is the pause between two tries at the address: the old process closes its listener a moment after its gateway's end.
const adminRetry = 50 * time.Millisecond

func (s lateAdmin) Serve(ctx context.Context) error {
	select {
	case <-s.n.takeover.Gone():
	case <-ctx.Done():
		return ctx.Err()
	}
	for tries := 0; ; tries++ {
		ln, err := net.Listen("tcp", s.n.cfg.Admin.Listen)
		if err == nil {
			s.n.adminAt.Store(ln.Addr())
			return (&listenService{ln: ln, serve: s.serve}).Serve(ctx)
		}
		if tries == int(startLimit/adminRetry) {
			s.n.log.Warn("the admin address is still taken", "err", err)
		}
		select {
		case <-time.After(adminRetry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// UpgradeSupervised has the supervisor that runs on the configuration's data directory replace its workers with new processes, of the
// binary that lies at its path now; each takes the sessions of the one it replaces. It returns when all are replaced.
func UpgradeSupervised(ctx context.Context, cfg Config) error {
	if err := gateway.AskRoll(ctx, cfg.handoverSocket()); err != nil {
		return named(Gateway, err)
	}
	return nil
}
