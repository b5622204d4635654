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
	role     Role // of a member; Gateway: none
	log      *slog.Logger
	board    *link.Board
	enquirer *enquirer
	path     string // DIR/roster; "": not kept

	// Set before Serve, of a member only.
	host   replicaHost // nil: a gateway
	groups groupOpener

	mu     sync.Mutex
	open   map[int]bool  // groups of this process, by shard number
	faults []admin.Fault // what an operator has to see to

	// Goroutine of Serve.
	written uint64      // version in the file
	wanted  uint64      // version that the host knows
	gone    map[int]int // looks in a row that a group was wanted here neither by the roster nor by its own configuration
}

// replicaHost is what placing needs of shard.Host.
type replicaHost interface {
	Status() []shard.GroupStatus
	Want(func(stanza.Group) []string)
	Drop(stanza.Group) error
}

// groupOpener is a daemon whose groups come and go.
type groupOpener interface {
	OpenGroup(shard int) error
	CloseGroup(shard int) error
}

const fileRoster = "roster"

// errNoMember is why a process does not start that should be one of several.
var errNoMember = errors.New("is in no cluster: make a new one with linecard cluster init, or join one with linecard cluster join; " +
	"if there should be data, look whether the disk is mounted")

// openCluster reads what the data directory knows of the cluster. A member that is not in it does not start.
func (n *Node) openCluster() error {
	c := &cluster{cfg: &n.cfg, node: n.id.id, role: n.roles[0], log: n.log, board: link.NewBoard(), open: map[int]bool{}, gone: map[int]int{}}
	if n.seat == nil { // workers of a gateway share the directory
		c.path = filepath.Join(n.cfg.Data, fileRoster)
	}
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
	if c.role != Gateway {
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
	}
	c.enquirer = newEnquirer(&n.cfg, n.id.id, n.incarnation, c.board, n.log, n.reg)
	n.cluster = c
	return nil
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

// first returns the shard numbers to open at the start: those placed here, and those of which something is here. Who begins the groups opens
// all: where others have joined meanwhile, they get theirs from it.
func (c *cluster) first(held []stanza.Group, begin bool) []int {
	r := c.board.Current()
	for shard := range c.cfg.Shards {
		g := groupOf(c.role, shard)
		c.open[shard] = begin || slices.Contains(held, g) || c.places(r, g)
	}
	return c.opened()
}

// places reports whether a replica of g belongs here.
func (c *cluster) places(r *roster.Roster, g stanza.Group) bool {
	var room [roster.MaxVoters]uint64
	return slices.Contains(r.Replicas(room[:0], g), c.node)
}

func (c *cluster) opened() (shards []int) {
	for shard := range c.cfg.Shards {
		if c.open[shard] {
			shards = append(shards, shard)
		}
	}
	return shards
}

const (
	// lookAgain is how often a member looks whether groups can go, and tries again what failed.
	lookAgain = time.Second
	// goneLooks is for how many looks a group has to be unwanted before its data are deleted: the configuration that says so may not be
	// committed yet, and be taken back by the next leader.
	goneLooks = 10
)

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
	if c.path != "" && r.Version > c.written {
		if err := writeRoster(filepath.Dir(c.path), r); err != nil {
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

// place opens the groups that belong here, and removes those of which this node is no replica any more. Who is to hold a group that this
// node still votes in is the leader's to arrange: until then it stays.
func (c *cluster) place(r *roster.Roster, fault func(string, error)) {
	in := map[stanza.Group]bool{} // open, and this node is in its configuration
	for _, s := range c.host.Status() {
		in[s.Group] = slices.ContainsFunc(s.Servers, func(x shard.ServerStatus) bool { return x.Node == nodeName(c.node) })
	}
	for number := range c.cfg.Shards {
		g := groupOf(c.role, number)
		open, wanted := c.isOpen(number), c.places(r, g)
		var err error
		switch {
		case wanted && !open:
			if err = c.groups.OpenGroup(number); err == nil {
				c.setOpen(number, true)
				c.log.Info("replica opened", "group", g.String())
			}
		case !wanted && open && !in[g] && c.gone[number] < goneLooks:
			c.gone[number]++
			continue
		case !wanted && open && !in[g]:
			c.setOpen(number, false)
			if err = errors.Join(c.groups.CloseGroup(number), c.host.Drop(g)); err == nil {
				c.log.Info("replica removed", "group", g.String())
			}
		}
		c.gone[number] = 0
		if err != nil {
			fault(g.String(), err)
		}
	}
}

func (c *cluster) isOpen(number int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open[number]
}

func (c *cluster) setOpen(number int, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[number] = open
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
		if m := a.c.board.Current().Member(a.c.node); m != nil && (m.Name != a.self.Name || m.Link != a.self.Link || m.Raft != a.self.Raft) {
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
