package shard

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"linecard.example/internal/stanza"
)

// HostConfig configures the groups of one daemon process. Dir and NodeID are required; every zero value means its default.
type HostConfig struct {
	Dir    string // holds log/ and state/, both Pebble databases
	FS     vfs.FS // nil: that of Disk, or the disk
	Disk   *Disk  // watched for free space; nil: nobody looks
	NodeID string // raft server id of this node: the content of DIR/node

	// Bootstrap says that the node id is new, so that the databases may be created and each group without a log starts as its own
	// only voter. It stays true until a first start has opened every group, so that a crash during it does no harm.
	// False: missing databases, or a group with an empty log, refuse to open, because its disk was lost and its vote with it.
	Bootstrap bool

	// Voters are the node ids with which a group without a log begins, the same list on each of them; their transports must know them by
	// these ids. Nil: this node alone.
	Voters []string

	NoSync     bool                  // no fsync of the raft log: loses acknowledged entries at power loss; for benchmarks
	Clock      func() time.Time      // wall clock; nil: time.Now
	Monotonic  func() time.Duration  // elapsed time; nil: differences of Clock, which are monotonic with time.Now
	Logger     *slog.Logger          // nil: discards
	Registerer prometheus.Registerer // nil: no metrics; names begin with shard_, for the caller to prefix; may be shared

	SyncInterval time.Duration // least time between syncs of the log, for more groups to share one; 0: 300 us; negative: none

	Light         bool  // the machines change little: they get less memory, a fourth of some defaults and less of others
	Cache         int64 // bytes of the block cache of both databases; 0: 64 MiB; Light: 32 MiB
	LogMemTable   int   // bytes; larger: fewer log entries reach tables before they are truncated; 0: 32 MiB, less on a Disk below 16 GiB; Light: 8 MiB
	StateMemTable int   // bytes; 0: the same

	Tick          time.Duration // of Machine.Tick, and a twentieth of the scrubber's; 0: 50 ms
	LazyWait      time.Duration // how long ProposeLazy waits for company; 0: 20 ms
	PackCommands  int           // commands in a pack, 1..64; 0: 64
	PacksInFlight int           // packs proposed and not yet applied, per group; 0: 4
	PendingBytes  int           // bytes proposed and not yet answered, per group: beyond it Propose returns false; 0: 4 MiB
	FlushBytes    int           // Machine.Dirty above it flushes; 0: 8 MiB; Light: 256 KiB
	SnapshotBytes int64         // log since the last snapshot above it takes one; 0: 64 MiB, less on a Disk below 64 GiB
	SnapshotCount uint64        // the same, in packs; 0: 10,000
	TrailingLogs  uint64        // packs kept behind a snapshot for followers; 0: 1,024
	TrailingBytes int64         // the same in bytes, about: whichever is less; 0: a fourth of SnapshotBytes
	NoTrailing    bool          // keep none

	Heartbeat time.Duration // raft's heartbeat, election and lease timeouts; 0: 300 ms, good for 16 groups a process

	// Network connects the groups with their replicas in other processes; nil: each group is alone, with one voter. The caller closes it
	// after the host.
	Network *Network

	// Transport is for tests without a Network: it returns the transport and address of a group, which is the node id. It has to
	// implement raft.WithPreVote. The host closes what it returns.
	Transport func(g stanza.Group) (raft.Transport, raft.ServerAddress)

	// Join says that the node is one of a cluster: a group of which nothing is here waits for the group's leader to add this node, where it
	// would else become its own only voter (Bootstrap) or be refused (ErrLost).
	Join bool

	// AskPeer asks another node how far its replica of a group is, before that is promoted or handed the leadership; nil: over the Network,
	// and without one its answers to heartbeats say enough. Called on any goroutine.
	AskPeer func(ctx context.Context, node string, g stanza.Group) (PeerStatus, error)
}

func defaulted[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// withDefaults returns c with every default filled in, or every fault of c at once.
func (c HostConfig) withDefaults() (HostConfig, error) {
	defaulted(&c.SyncInterval, 300*time.Microsecond)
	cache, memTable, flush := int64(64<<20), int64(32<<20), 8<<20
	if c.Light {
		cache, memTable, flush = 32<<20, 8<<20, 256<<10
	}
	defaulted(&c.Cache, cache)
	defaulted(&c.LogMemTable, int(c.Disk.smallDisk(memTable, 16<<30, 512<<10)))
	defaulted(&c.StateMemTable, int(c.Disk.smallDisk(memTable, 16<<30, 512<<10)))
	defaulted(&c.Tick, 50*time.Millisecond)
	defaulted(&c.LazyWait, 20*time.Millisecond)
	defaulted(&c.PackCommands, MaxPackCommands)
	defaulted(&c.PacksInFlight, 4)
	defaulted(&c.PendingBytes, 4<<20)
	defaulted(&c.FlushBytes, flush)
	defaulted(&c.SnapshotBytes, c.Disk.smallDisk(64<<20, 64<<30, 128<<10))
	defaulted(&c.SnapshotCount, 10_000)
	defaulted(&c.TrailingLogs, 1024)
	defaulted(&c.TrailingBytes, c.SnapshotBytes/4)
	defaulted(&c.Heartbeat, 300*time.Millisecond)
	if c.Network != nil && c.AskPeer == nil {
		c.AskPeer = c.Network.askPeer
	}
	if c.NoTrailing {
		c.TrailingLogs = 0
	}
	if c.FS == nil && c.Disk != nil {
		c.FS = c.Disk.FS()
	}
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Monotonic == nil {
		clock, base := c.Clock, c.Clock()
		c.Monotonic = func() time.Duration { return clock().Sub(base) }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, c.validate()
}

func (c *HostConfig) validate() error {
	var errs []error
	check := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New("shard: "+what))
		}
	}
	check(c.Dir != "", "no directory")
	check(c.NodeID != "", "no node id")
	check(c.PackCommands >= 1 && c.PackCommands <= MaxPackCommands, "PackCommands is not 1..64")
	check(c.PacksInFlight >= 1 && c.PacksInFlight <= 64, "PacksInFlight is not 1..64")
	check(c.PendingBytes >= 1024, "PendingBytes is below 1 KiB")
	check(c.Cache > 0 && c.LogMemTable >= 64<<10 && c.StateMemTable >= 64<<10, "cache or memtable is too small")
	check(c.Tick >= time.Millisecond && c.LazyWait > 0 && c.Heartbeat >= 5*time.Millisecond, "Tick, LazyWait or Heartbeat is too short")
	check(c.Network == nil || c.Transport == nil, "both Network and Transport")
	check(c.FlushBytes > 0 && c.SnapshotBytes > 0 && c.TrailingBytes >= 0, "FlushBytes, SnapshotBytes or TrailingBytes is negative")
	return errors.Join(errs...)
}
