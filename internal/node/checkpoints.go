package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"linecard.example/internal/shard"
)

// checkpointLimit is how long a checkpoint may stay: it keeps what is deleted on the disk, and that has to be gone within a day.
const checkpointLimit = time.Hour

// checkpoints makes the copies of a process's databases that `linecard backup` copies away, one at a time. It has only file names to
// tell: the content goes by the file system, for the admin listener knows nobody. Safe for concurrent use.
type checkpoints struct {
	cfg   Config
	node  string
	hosts map[Role]*shard.Host
	log   *slog.Logger

	mu    sync.Mutex
	id    string // of the one that there is; "": none
	timer *time.Timer
}

// checkpointAnswer is what the admin listener answers to a wish for one.
type checkpointAnswer struct {
	ID      string            `json:"id"`
	Data    string            `json:"data"` // the data directory, absolute
	Node    string            `json:"node"`
	Cluster string            `json:"cluster"`
	Shards  int               `json:"shards"`
	Dirs    map[Role]string   `json:"dirs"` // of the copies, absolute
	Groups  map[string]uint64 `json:"groups"`
}

func (n *Node) checkpoints() *checkpoints {
	c := &checkpoints{cfg: n.cfg, node: n.id.name(), hosts: map[Role]*shard.Host{}, log: n.log}
	stateful := []Role{}
	for _, role := range n.roles {
		if role.member() {
			stateful = append(stateful, role)
		}
	}
	for i, host := range n.hosts {
		c.hosts[stateful[i]] = host
	}
	return c
}

// make answers the admin command that begins a backup.
func (c *checkpoints) make(context.Context, *http.Request) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.id != "" {
		return nil, fmt.Errorf("a backup is under way; it ends within %v, or with linecard backup --abort", checkpointLimit)
	}
	data, err := filepath.Abs(c.cfg.Data)
	if err != nil {
		return nil, err
	}
	a := &checkpointAnswer{
		ID: fmt.Sprintf("%016x", randomID()), Data: data, Node: c.node, Cluster: c.cfg.Cluster, Shards: c.cfg.Shards,
		Dirs: map[Role]string{}, Groups: map[string]uint64{},
	}
	// Queues first: a queue that the directory does not know would be given to another account; a device without a queue gets one.
	for _, role := range []Role{Offline, Router} {
		host := c.hosts[role]
		if host == nil {
			continue
		}
		dir, last, err := host.Checkpoint()
		if err == nil {
			dir, err = filepath.Abs(dir)
		}
		if err != nil {
			return nil, errors.Join(named(role, err), c.drop())
		}
		a.Dirs[role] = dir
		for g, index := range last {
			a.Groups[g.String()] = index
		}
	}
	c.id = a.ID
	c.timer = time.AfterFunc(checkpointLimit, func() { c.expire(a.ID) })
	c.log.Info("checkpoint made for a backup", "id", a.ID)
	return a, nil
}

// done answers the admin command that ends a backup; without an id, whichever there is.
func (c *checkpoints) done(_ context.Context, r *http.Request) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := r.URL.Query().Get("id")
	if c.id == "" || id != "" && id != c.id {
		return nil, errors.New("there is no such backup under way")
	}
	return map[string]bool{"ok": true}, c.drop()
}

// expire ends a backup that took too long.
func (c *checkpoints) expire(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.id == id {
		c.log.Warn("a backup was not done in time: its checkpoint is removed", "id", id, "limit", checkpointLimit)
		if err := c.drop(); err != nil {
			c.log.Error("removing a checkpoint", "err", err)
		}
	}
}

// end removes what is left at the end of the process.
func (c *checkpoints) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.id != "" {
		if err := c.drop(); err != nil {
			c.log.Error("removing a checkpoint", "err", err)
		}
	}
}

// drop is called under mu.
func (c *checkpoints) drop() error {
	var errs []error
	for _, host := range c.hosts {
		errs = append(errs, host.DropCheckpoint())
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.id != "" {
		c.log.Info("checkpoint removed", "id", c.id)
	}
	c.id, c.timer = "", nil
	return errors.Join(errs...)
}
