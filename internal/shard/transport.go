package shard

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"linecard.example/internal/stanza"
)

// Peer is a member of the cluster as the transport sees it.
type Peer struct {
	Addr string // host:port of its raft listener
	Name string // its certificate must be issued for it; empty: any certificate of the authority will do
}

// Peers knows the members. Safe for concurrent use; it must not block.
type Peers interface {
	// Peer returns the member with a node id, false if there is none. It is asked at each connection, in both directions: who is no
	// member is neither dialled nor served.
	Peer(node string) (Peer, bool)
}

// NetworkConfig configures the connections of a process with the other replicas of its groups. Cluster, Shards, Node, TLS and Peers
// are required.
type NetworkConfig struct {
	Cluster     string // name, and whatever else tells one cluster from others; 1..128 bytes; with another one a connection is refused
	Shards      int    // 1..32768, the same
	Node        string // node id of this process, as in HostConfig; 1..128 bytes
	Incarnation uint64 // drawn at each start: tells two processes with one node id apart
	Writes      int    // the format of what this process writes; 0: 1
	Reads       int    // the highest format that it can read: who writes a higher one is not connected to; 0: Writes

	// TLS holds a certificate, the authority that signs members (RootCAs and ClientCAs) and the name in every certificate
	// (ServerName). Both ends must show a certificate, whatever ClientAuth says, over TLS 1.3 or later. It is copied.
	TLS   *tls.Config
	Peers Peers

	// Timeout is how long a connection may be without progress while something is under way on it; 0: 3 s. Longer forgives a peer
	// that is starved of CPU or waits for its disk; shorter finds out earlier that it is gone without a word.
	Timeout time.Duration

	Logger     *slog.Logger          // nil: discards
	Registerer prometheus.Registerer // nil: no metrics; names begin with shard_, for the caller to prefix
}

// Bounds of the transport. A group needs up to two connections to each replica, three while it elects.
const (
	defaultTimeout = 3 * time.Second
	dialTimeout    = 2 * time.Second // from the first packet to the answer to the hello
	helloTimeout   = 5 * time.Second // the same at the other end, more: it may be the one that is busy
	maxHandshakes  = 256             // connections that have not been identified, anybody can make those
	maxPerGroup    = 16              // accepted from one node for one group
	maxAccepted    = 8192            // accepted and identified, of all nodes
	maxPool        = 2               // idle connections that a group keeps to each replica
)

// Network is the transport between the replicas of groups in different processes: one listener, and connections that it and its peers
// dial, each of which serves one group. Give it to HostConfig.Network, run Serve, and close it after the host. Safe for
// concurrent use.
type Network struct {
	cfg     NetworkConfig
	server  *tls.Config
	client  *tls.Config
	dialer  net.Dialer
	base    time.Time // now counts from here
	log     *slog.Logger
	metrics *networkMetrics
	told    teller
	twins   twins
	host    atomic.Pointer[Host] // answers status requests

	ctx  context.Context // ends with Close
	stop context.CancelFunc

	helloLimit time.Duration // helloTimeout but in tests

	lobby lobby // accepted, not yet identified

	mu       sync.Mutex
	layers   map[stanza.Group]*layer
	peers    map[string]*peerConns // of nodes with open connections
	accepted int                   // in peers
	asking   map[string]*statusClient
}

// NewNetwork checks cfg and reports every fault of it at once. It opens nothing.
func NewNetwork(cfg NetworkConfig) (*Network, error) {
	defaulted(&cfg.Timeout, defaultTimeout)
	defaulted(&cfg.Writes, 1)
	defaulted(&cfg.Reads, cfg.Writes)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	check := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New("shard: transport: "+what))
		}
	}
	check(len(cfg.Cluster) >= 1 && len(cfg.Cluster) <= maxHeaderName, "cluster name is not 1 to 128 bytes")
	check(cfg.Shards >= 1 && cfg.Shards <= maxShards, "number of shards is not 1..32768")
	check(len(cfg.Node) >= 1 && len(cfg.Node) <= maxHeaderName, "node id is not 1 to 128 bytes")
	check(cfg.Peers != nil, "no peers")
	check(cfg.Timeout >= 100*time.Millisecond, "Timeout is too short")
	errs = append(errs, checkMutual(cfg.TLS))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	n := &Network{cfg: cfg, base: time.Now(), log: cfg.Logger, helloLimit: helloTimeout,
		layers: map[stanza.Group]*layer{}, peers: map[string]*peerConns{}, asking: map[string]*statusClient{},
		twins: twins{since: map[string]time.Duration{}, found: make(chan error, 1)}}
	n.server, n.client = cfg.TLS.Clone(), cfg.TLS.Clone()
	for _, c := range []*tls.Config{n.server, n.client} {
		c.MinVersion = max(c.MinVersion, tls.VersionTLS13)
	}
	n.server.ClientAuth = tls.RequireAndVerifyClientCert
	n.server.SessionTicketsDisabled = true // nobody resumes, and a ticket would wait unread on each connection
	n.dialer.KeepAliveConfig = keepAlive
	var err error
	if n.metrics, err = newNetworkMetrics(cfg.Registerer); err != nil {
		return nil, err
	}
	n.ctx, n.stop = context.WithCancel(context.Background())
	return n, nil
}

// keepAlive finds a peer that is gone without a word on a connection on which nothing is under way.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 4}

// checkMutual makes sure that conf can serve both ends of a connection.
func checkMutual(conf *tls.Config) error {
	switch {
	case conf == nil:
		return errors.New("shard: transport: no TLS configuration")
	case conf.ClientCAs == nil || conf.RootCAs == nil:
		return errors.New("shard: transport: TLS configuration without an authority")
	case len(conf.Certificates) == 0 && (conf.GetCertificate == nil || conf.GetClientCertificate == nil):
		return errors.New("shard: transport: TLS configuration without a certificate")
	case conf.ServerName == "":
		return errors.New("shard: transport: TLS configuration without the name in the members' certificates")
	}
	return nil
}

// now is monotonic: connections must not look old or young because the clock was set.
func (n *Network) now() time.Duration { return time.Since(n.base) }

// attach makes h the one that answers status requests.
func (n *Network) attach(h *Host) error {
	if h.cfg.NodeID != n.cfg.Node {
		return fmt.Errorf("shard: the transport is of node %s, the host of %s", n.cfg.Node, h.cfg.NodeID)
	}
	if !n.host.CompareAndSwap(nil, h) {
		return errors.New("shard: a transport serves one host")
	}
	return nil
}

// Close ends every connection and makes Serve return. Groups that are still open lose their peers. It does not wait.
func (n *Network) Close() {
	n.stop()
	n.mu.Lock()
	var all []*conn
	for _, p := range n.peers {
		for c := range p.conns {
			all = append(all, c)
		}
	}
	n.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
}

// Connections returns how many connections are open, accepted and dialled together.
func (n *Network) Connections() (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.peers {
		count += len(p.conns)
	}
	return count
}

// layerOf returns the open layer of a group, nil if there is none.
func (n *Network) layerOf(g stanza.Group) *layer {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.layers[g]
}
