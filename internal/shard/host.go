package shard

import (
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"linecard.example/internal/stanza"
)

// HostConfig configures the groups of one daemon process. Only Dir and NodeID are required; zero values mean the defaults.
type HostConfig struct {
	Dir        string                // holds log/ and state/, both Pebble databases
	FS         vfs.FS                // nil: the disk
	NodeID     string                // raft server id of this node, the content of DIR/node
	Bootstrap  bool                  // the node id is new: groups with an empty log start as their own only voter. False: they refuse to open
	NoSync     bool                  // skip fsync of the raft log: for benchmarks only, loses acknowledged entries at power loss
	Clock      func() time.Time      // wall clock; nil: time.Now
	Monotonic  func() time.Duration  // nil: elapsed time by Clock
	Logger     *slog.Logger          // nil: discards
	Registerer prometheus.Registerer // nil: no metrics; may be shared by several hosts
}

// Host holds the databases that the groups of one daemon process share.
type Host struct{ cfg HostConfig }

// OpenHost opens the databases in cfg.Dir.
func OpenHost(cfg HostConfig) (*Host, error) { panic("not yet") }

// Close closes every group and then the databases.
func (h *Host) Close() error { panic("not yet") }

// Failed delivers the first fatal error of the host; the process should report it and exit.
func (h *Host) Failed() <-chan error { panic("not yet") }

// GroupStatus describes one group for metrics, /readyz and admin.
type GroupStatus struct {
	Group    stanza.Group
	Leading  bool
	Term     uint64
	LeaderID string // node id of the leader as this process knows it; empty: none
	Applied  uint64
	Last     uint64
	Flushed  uint64
	Turned   time.Time
}

// Status returns the state of every open group, ordered by group.
func (h *Host) Status() []GroupStatus { panic("not yet") }
