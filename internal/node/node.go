package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"linecard.example/border"
	"linecard.example/gateway"
	"linecard.example/internal/link"
	"linecard.example/internal/metrics"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
	"linecard.example/mediad"
	"linecard.example/offline"
	"linecard.example/router"
	"linecard.example/turnd"
)

// Node is one process: some daemons, their links and the admin listener. New makes it, Run runs it once; the accessors may be
// called from any goroutine after New.
type Node struct {
	cfg   Config
	roles []Role
	log   *slog.Logger
	clock func() time.Time
	reg   *prometheus.Registry

	shards      []int // shard numbers hosted here
	id          identity
	incarnation uint64

	gateway *gateway.Gateway
	router  *router.Router
	offline *offline.Offline
	media   *mediad.Server
	relay   *turnd.Server
	border  *border.Border // of a border process, or of `up` with other regions
	hosts   []*shard.Host
	disks   []*shard.Disk // that the hosts live on

	cluster *cluster       // nil: the process is alone
	network *shard.Network // of a member

	tls     *tls.Config
	seat    *gateway.Seat // of a worker process, else nil
	adminLn net.Listener  // nil while the process to be replaced has the address
	linkLn  net.Listener
	raftLn  net.Listener
	mediaLn net.Listener

	regionLn     net.Listener // nil: borders of other regions do not connect here
	regionServer *tls.Config
	regionTLS    map[stanza.Region]*tls.Config // to dial a region with

	takeover *gateway.Takeover // the running gateway to replace, else nil
	lock     dirLock           // of a gateway alone, without a supervisor
	adminAt  atomic.Value      // net.Addr, any goroutine

	stopping atomic.Bool // any goroutine: Run has begun to end the daemons
}

// New opens everything a process needs: directories, keys, databases, listeners. On error all of it is closed again.
func New(cfg Config, roles []Role, log *slog.Logger) (*Node, error) {
	return newNode(cfg, roles, log, nil)
}

func newNode(cfg Config, roles []Role, log *slog.Logger, seat *gateway.Seat) (*Node, error) {
	tuneRuntime(roles, cfg.Admin.HeapProfile)
	shards, err := parseShards(cfg.Links.Shards, cfg.Shards)
	if err != nil {
		return nil, err
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	n := &Node{cfg: cfg, roles: roles, log: log, clock: cfg.Clock, reg: metrics.NewRegistry(), shards: shards, incarnation: link.NewIncarnation(cfg.Worker, randomID())}
	n.seat = seat
	if err := n.open(); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *Node) open() error {
	if err := os.MkdirAll(n.cfg.Data, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := n.lockDir(); err != nil {
		return err
	}
	known, err := n.cfg.checkFacts()
	if err != nil {
		return err
	}
	if n.id, err = readIdentity(n.cfg.Data); err != nil {
		return err
	}
	if err := n.findOld(); err != nil {
		return err
	}
	if !n.together() && n.cfg.linked(n.roles[0]) {
		err = n.openCluster()
	} else {
		err = n.checkAlone()
	}
	if err != nil {
		return err
	}
	if err := n.openAdmin(); err != nil {
		return err
	}
	if !n.together() {
		if err := n.openLinks(); err != nil {
			return err
		}
	}
	if err := n.openMediaListener(); err != nil {
		return named(Media, err)
	}
	if err := n.openRelay(); err != nil {
		return named(Relay, err)
	}
	for _, role := range n.roles {
		if err := n.openRole(role); err != nil {
			return named(role, err)
		}
	}
	if !known && len(n.hosts) > 0 {
		if err := n.cfg.settleFacts(); err != nil {
			return err
		}
	}
	n.tellOperators()
	if n.bordered() {
		if err := n.openBorder(); err != nil {
			return named(Border, err)
		}
	}
	return n.id.settle()
}

// lockDir makes the data directory this gateway's. One that replaces another gets it with that one's end.
func (n *Node) lockDir() error {
	switch {
	case n.together() || !n.runs(Gateway) || n.seat != nil:
		return nil
	case n.cfg.Upgrade:
		go func() {
			if err := n.lock.await(n.cfg.Data); err != nil {
				n.log.Warn("another gateway could be started beside this one", "err", err)
			}
		}()
		return nil
	}
	return n.lock.lock(n.cfg.Data)
}

func (n *Node) openLinks() error {
	var err error
	if n.tls, err = linkTLS(n.cfg.keyDir(), n.name(), n.clock()); err != nil {
		return err
	}
	if err := n.reg.Register(n.certificateGauge()); err != nil {
		return fmt.Errorf("links: registering metrics: %w", err)
	}
	if !n.roles[0].member() {
		return nil // it only dials
	}
	if n.linkLn, err = net.Listen("tcp", n.cfg.Links.Listen); err != nil {
		return fmt.Errorf("link listener: %w", err)
	}
	if n.cluster == nil {
		return nil
	}
	if n.raftLn, err = net.Listen("tcp", n.cfg.Raft.Listen); err != nil {
		return fmt.Errorf("raft listener: %w", err)
	}
	n.network, err = shard.NewNetwork(shard.NetworkConfig{
		Cluster: n.cfg.Cluster, Shards: n.cfg.Shards, Node: n.id.name(), Incarnation: n.incarnation, Writes: n.cfg.written(), Reads: dataFormat, TLS: n.tls, Peers: n.cluster,
		Logger: n.log, Registerer: prometheus.WrapRegistererWithPrefix("linecard_"+string(n.roles[0])+"_", n.reg),
	})
	if err != nil {
		return err
	}
	// Before anything of the data is opened, and before the others are told an address: it may be a copy of theirs.
	return n.network.CheckUnique(context.Background(), n.cluster.members())
}

// board is where the daemons of this process find the roster; nil: it is alone.
func (n *Node) board() *link.Board {
	if n.cluster == nil {
		return nil
	}
	return n.cluster.board
}

func (n *Node) openRole(role Role) error {
	log := n.log.With("daemon", string(role))
	switch role {
	case Border, Relay:
		return nil // openBorder, which `up` does too; openRelay, before all others
	case Media:
		return n.openMedia(log)
	case Gateway:
		static, cert, err := n.cfg.gatewayKeys(n.name(), n.clock())
		if err != nil {
			return err
		}
		var listen []string
		if n.seat != nil {
			listen = n.seat.Listen
		}
		n.gateway, err = gateway.New(n.cfg.Gateway, gateway.Deps{
			Node: n.id.id, Incarnation: n.incarnation, Shards: n.cfg.Shards, Cluster: n.cfg.Cluster,
			Region: n.cfg.Region.Region(), Logger: log, Registerer: n.reg, Clock: n.clock, Static: static, Cert: cert,
			LinkCredit: n.cfg.Links.Credit.Int(), Lines: n.cfg.Log.budget(), Board: n.board(),
			Listen: listen, HandoverSocket: n.handoverSocket(), Takeover: n.takeover,
		})
		return err
	case Router:
		host, err := n.openHost(role, log)
		if err != nil {
			return err
		}
		n.router, err = router.New(n.cfg.Router, router.Deps{
			Node: n.id.id, Incarnation: n.incarnation, Shards: n.cfg.Shards, Cluster: n.cfg.Cluster,
			Region: n.cfg.Region.Region(), Regions: n.cfg.Region.Regions(),
			Logger: log, Registerer: n.reg, Clock: n.clock, Host: host, Groups: n.shards,
			LinkCredit: n.cfg.Links.Credit.Int(), Lines: n.cfg.Log.budget(), Board: n.board(),
		})
		return err
	case Offline:
		host, err := n.openHost(role, log)
		if err != nil {
			return err
		}
		n.offline, err = offline.New(n.cfg.Offline, offline.Deps{
			Node: n.id.id, Incarnation: n.incarnation, Shards: n.cfg.Shards, Cluster: n.cfg.Cluster,
			Region: n.cfg.Region.Region(), Logger: log, Registerer: n.reg, Host: host, Groups: n.shards,
			LinkCredit: n.cfg.Links.Credit.Int(), Lines: n.cfg.Log.budget(), Board: n.board(),
		})
		return err
	}
	return fmt.Errorf("no such daemon")
}

// loneHeartbeat is raft's timeout where each group has one voter: nobody can be overheard, it only delays the start.
const loneHeartbeat = 100 * time.Millisecond

// openHost opens the two databases of a daemon with shards.
func (n *Node) openHost(role Role, log *slog.Logger) (*shard.Host, error) {
	if n.id.new && n.cluster == nil && !n.together() && !n.cfg.Bootstrap {
		return nil, fmt.Errorf("data directory %s is fresh: --bootstrap makes it the start of a new cluster; "+
			"if there should be data, look whether the disk is mounted", n.cfg.Data)
	}
	begin := n.id.new && (n.cluster == nil || n.cluster.founds())
	dir := filepath.Join(n.cfg.Data, string(role))
	disk, err := n.openDisk(dir, role)
	if err != nil {
		return nil, err
	}
	cfg := shard.HostConfig{
		Dir: dir, Disk: disk, NodeID: n.id.name(), Bootstrap: n.id.new,
		Light:      role == Router, // a directory's entries are few, and each is written to tables sooner or later
		NoTrailing: true,           // a group alone has nobody to send old entries to
		Heartbeat:  loneHeartbeat, Clock: n.clock, Logger: log, Registerer: prometheus.WrapRegistererWithPrefix("linecard_"+string(role)+"_", n.reg),
	}
	if n.cluster != nil {
		cfg.NoTrailing, cfg.Heartbeat, cfg.Network = false, n.cfg.heartbeat(), n.network
		cfg.Join = !begin
	}
	host, err := shard.OpenHost(cfg)
	if err != nil {
		return nil, err
	}
	n.hosts = append(n.hosts, host)
	if n.cluster == nil {
		return host, nil
	}
	held, err := host.Held()
	n.cluster.host, n.shards = host, n.cluster.first(held, begin)
	return host, err
}

// close closes what New opened, for a node that does not run.
func (n *Node) close() {
	if n.media != nil {
		n.closeByRun(Media, n.media.Run)
	}
	if n.relay != nil {
		n.closeByRun(Relay, n.relay.Run)
	}
	for _, ln := range []net.Listener{n.adminLn, n.linkLn, n.raftLn, n.regionLn, n.mediaLn} {
		if ln != nil {
			ln.Close()
		}
	}
	if n.takeover != nil {
		n.takeover.Close()
	}
	n.lock.close()
	if err := n.closeHosts(closeLimit); err != nil {
		n.log.Error("closing the databases", "err", err)
	}
	if n.network != nil {
		n.network.Close()
	}
}

// closeByRun closes what the New of a daemon opened that does so at the end of its Run, which here is at once.
func (n *Node) closeByRun(role Role, run func(context.Context) error) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := run(ended); err != nil {
		n.log.Error("closing a daemon that did not run", "daemon", string(role), "err", err)
	}
}

// Bounds on closing the databases: a flush to a full disk never returns. What is not flushed is replayed from the log.
const (
	closeLimit       = 30 * time.Second
	closeLimitFailed = 2 * time.Second // after a failure of any of them
)

// closeHosts closes the databases, or leaves them as they are when that takes longer than limit.
func (n *Node) closeHosts(limit time.Duration) error {
	hosts := n.hosts
	n.hosts = nil
	ends := make(chan error, len(hosts))
	for _, h := range hosts {
		go func() { ends <- h.Close() }()
	}
	var errs []error
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for range hosts {
		select {
		case err := <-ends:
			errs = append(errs, err)
		case <-timer.C:
			return errors.Join(append(errs, fmt.Errorf("the databases did not close within %v and were left as they are", limit))...)
		}
	}
	return errors.Join(errs...)
}

func (n *Node) runs(r Role) bool { return slices.Contains(n.roles, r) }

// together reports whether all daemons run in this process.
func (n *Node) together() bool { return len(n.roles) > 1 }

// name is this process's name among the keys.
func (n *Node) name() string {
	if n.together() && n.cfg.Links.Name == "" {
		return upName
	}
	return n.cfg.linkName(n.roles[0])
}

// GatewayAddr is where clients connect, known once Run has called its ready function; nil without a gateway.
func (n *Node) GatewayAddr() net.Addr {
	if n.gateway == nil {
		return nil
	}
	return n.gateway.Addr()
}

// AdminAddr is the address of the admin listener; nil as long as the process to be replaced has it.
func (n *Node) AdminAddr() net.Addr {
	at, _ := n.adminAt.Load().(net.Addr)
	return at
}

// LinkAddr is where links are accepted; nil in `up` and for a gateway.
func (n *Node) LinkAddr() net.Addr {
	if n.linkLn == nil {
		return nil
	}
	return n.linkLn.Addr()
}

// Endpoints returns the daemons' ends of the links, gateway first. Tests inject faults there before Run.
func (n *Node) Endpoints() []*link.Endpoint {
	var all []*link.Endpoint
	if n.gateway != nil {
		all = append(all, n.gateway.Endpoint())
	}
	if n.router != nil {
		all = append(all, n.router.Endpoint())
	}
	if n.offline != nil {
		all = append(all, n.offline.Endpoint())
	}
	if n.border != nil {
		all = append(all, n.border.Within())
	}
	return append(all, n.hearers()...)
}
