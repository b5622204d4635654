package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"linecard.example/internal/admin"
	"linecard.example/internal/link"
	"linecard.example/internal/roster"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// cluster is what a process does as one of several: it keeps the roster, tells its own addresses, and has the groups here that the
// placement gives it. Gateways keep the roster only.
type cluster struct {
	cfg      *Config
	node     uint64
	role     Role // of a member; Gateway, Border, Media, Relay: none
	log      *slog.Logger
	board    *link.Board
	enquirer *enquirer

	// Set before Serve, of a member only.
	host   replicaHost // nil: a gateway
	groups groupOpener

	mu     sync.Mutex
	faults []admin.Fault  // what an operator has to see to
	absent []stanza.Group // from which this node was removed while it was away, as others say

	// Goroutine of Serve.
	written uint64 // version in the file
	wanted  uint64 // version that the host knows
	held    map[int]*holding
}

const fileRoster = "roster"

// errNoMember is why a process does not start that should be one of several.
var errNoMember = errors.New("is in no cluster: make a new one with linecard cluster init, or join one with linecard cluster join; " +
	"if there should be data, look whether the disk is mounted")

// openCluster reads what the data directory knows of the cluster. A member that is not in it does not start.
func (n *Node) openCluster() error {
	c := &cluster{cfg: &n.cfg, node: n.id.id, role: n.roles[0], log: n.log, board: link.NewBoard(), held: map[int]*holding{}}
	r, err := readRoster(n.cfg.Data)
	if err != nil {
		return err
	}
	if r != nil {
		if err := c.board.Offer(r); err != nil {
			return err
		}
		c.written = r.Version
	}
	if c.role.member() {
		if r == nil {
			return fmt.Errorf("data directory %s %w", n.cfg.Data, errNoMember)
		}
		m := r.Member(n.id.id)
		if m == nil {
			return fmt.Errorf("data directory %s: node %s is no member of its cluster (any more); an empty directory can join", n.cfg.Data, nodeName(n.id.id))
		}
		if m.Role != rosterRole(c.role) {
			return fmt.Errorf("data directory %s is that of a %s", n.cfg.Data, m.Role)
		}
		if m.Name != n.name() {
			return fmt.Errorf("data directory %s: node %s is the member %q, the configuration says links.name = %q: a member keeps its name, "+
				"and another one needs an empty directory", n.cfg.Data, nodeName(n.id.id), m.Name, n.name())
		}
	}
	if err := n.reg.Register(newRosterGauges(c.board)); err != nil {
		return fmt.Errorf("cluster: registering metrics: %w", err)
	}
	c.enquirer = newEnquirer(&n.cfg, n.id.id, n.incarnation, c.board, n.log, n.reg)
	n.cluster = c
	return nil
}

// checkAlone refuses the directory of a member to a process that is configured to be alone: it would wait for the others for ever.
func (n *Node) checkAlone() error {
	if !n.runs(Router) && !n.runs(Offline) {
		return nil
	}
	r, err := readRoster(n.cfg.Data)
	if err == nil && r != nil {
		err = fmt.Errorf("data directory %s is that of a member of a cluster: the configuration lacks raft.listen", n.cfg.Data)
	}
	return err
}

// readRoster reads DIR/roster, nil when there is none.
func readRoster(dir string) (*roster.Roster, error) {
	path := filepath.Join(dir, fileRoster)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("roster: %w", err)
	}
	r, err := roster.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s is damaged (%w): copy that of another member of this cluster, which is the same", path, err)
	}
	return r, nil
}

func writeRoster(dir string, r *roster.Roster) error {
	if err := writeFile(filepath.Join(dir, fileRoster), r.Append(nil), 0o600); err != nil {
		return fmt.Errorf("roster: %w", err)
	}
	return nil
}

func rosterRole(r Role) roster.Role {
	if r == Router {
		return roster.Router
	}
	return roster.Offline
}

// groupOf is the group of a shard number that a role holds.
func groupOf(role Role, shard int) stanza.Group {
	if role == Router {
		return stanza.DirGroup(shard)
	}
	return stanza.QueueGroup(shard)
}

// founds reports whether this process is to begin the groups of its role.
func (c *cluster) founds() bool { return c.board.Current().Founder(rosterRole(c.role)) == c.node }

// Peer implements shard.Peers.
func (c *cluster) Peer(node string) (shard.Peer, bool) {
	id, err := strconv.ParseUint(node, 16, 64)
	if err != nil {
		return shard.Peer{}, false
	}
	m := c.board.Current().Member(id)
	if m == nil {
		return shard.Peer{}, false
	}
	return shard.Peer{Addr: m.Raft, Name: m.Name}, true
}

// members returns the node ids of all members.
func (c *cluster) members() (nodes []string) {
	for _, m := range c.board.Current().Members {
		nodes = append(nodes, nodeName(m.Node))
	}
	return nodes
}

// lookAgain is how often a member looks whether groups can go, and tries again what failed.
const lookAgain = time.Second

// Serve follows the roster until ctx ends.
func (c *cluster) Serve(ctx context.Context) error {
	changed := c.board.Changed()
	defer c.board.Unwatch(changed)
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-tick.C:
		}
		if r := c.board.Current(); r != nil {
			c.follow(r)
		}
	}
}

// follow does what r asks of this process and is not done yet.
func (c *cluster) follow(r *roster.Roster) {
	var faults []admin.Fault
	fault := func(name string, err error) { faults = append(faults, admin.Fault{Name: name, Why: err.Error()}) }
	if r.Version > c.written {
		// Workers of a gateway share the directory: whichever of them comes last, what it writes is newer than what it began with.
		if err := writeRoster(c.cfg.Data, r); err != nil {
			fault("roster", err)
		} else {
			c.written = r.Version
		}
	}
	if c.host != nil {
		if r.Version > c.wanted {
			c.wanted = r.Version
			c.host.Want(func(g stanza.Group) []string { return nodeNames(r.Replicas(nil, g)) })
			c.log.Info("roster", "version", r.Version, "members", len(r.Members))
		}
		c.place(r, fault)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range faults {
		if !slices.Contains(c.faults, f) {
			c.log.Error("cannot follow the roster", "what", f.Name, "err", f.Why)
		}
	}
	c.faults = faults
}

func nodeNames(ids []uint64) []string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = nodeName(id)
	}
	return names
}

// warnings lists what went wrong with following the roster.
func (c *cluster) warnings() []admin.Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.faults)
}

// announcer tells routers what this member's name and addresses are, when the roster has others.
type announcer struct {
	c    *cluster
	self roster.Member
}

// Serve announces until ctx ends. A refusal is logged once for each text.
func (a announcer) Serve(ctx context.Context) error {
	changed := a.c.board.Changed()
	defer a.c.board.Unwatch(changed)
	for said := ""; ; {
		pause := time.Duration(1<<63 - 1)
		if m := a.c.board.Current().Member(a.c.node); m != nil && (m.Link != a.self.Link || m.Raft != a.self.Raft) {
			pause = 5 * time.Second
			if err := a.c.enquirer.announce(ctx, a.self); err != nil && ctx.Err() == nil && err.Error() != said {
				said = err.Error()
				a.c.log.Error("the other members know this one by other addresses", "err", err)
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}
