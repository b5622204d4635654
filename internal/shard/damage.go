package shard

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"linecard.example/internal/stanza"
)

// Data that cannot be trusted are never skipped, guessed or repaired: what would come of it is not the log's truth, and nobody would
// hear of it. What concerns one group (its entries, its records, the tables they are in) stops that group; what all groups share (WAL,
// manifest, a write that fails) stops the host. Rejected: going on without the record, which keeps a shard in service and loses an
// acknowledged message without a word.

// remedy is what the operator is told to do.
const remedy = "stopped before anything is lost silently: check the disk, then have this node seeded anew by the other replicas, or restore a " +
	"backup; docs/operations.md, section Damage"

// makeRoom is what the operator is told to do when the disk is full.
const makeRoom = "nothing is lost: free some space and start again"

// tableName is how Pebble names a table in an error.
var tableName = regexp.MustCompile(`\btable (\d{6})\b`)

// report adds to an error where the damaged file is, as far as it is known, and what to do; name is the database's, empty: any.
func (h *Host) report(name string, err error) error {
	dir := path.Join(h.cfg.Dir, name)
	if m := tableName.FindStringSubmatch(err.Error()); m != nil {
		dir = path.Join(dir, m[1]+".sst")
	}
	return fmt.Errorf("%w (in %s); %s", err, dir, remedy)
}

// circumstances are errors of opening that say nothing about the data: another process has it open, its owner is another, the file
// system is mounted read-only, descriptors are used up. To restore a copy then would lose what is there.
var circumstances = []error{syscall.EAGAIN, syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM}

// openError says why a database does not open.
func (h *Host) openError(name string, err error) error {
	dir := path.Join(h.cfg.Dir, name)
	if slices.ContainsFunc(circumstances, func(c error) bool { return errors.Is(err, c) }) {
		return fmt.Errorf("shard: opening %s: %w", dir, err)
	}
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("shard: opening %s: %w; %s", dir, err, makeRoom)
	}
	return h.report(name, fmt.Errorf("shard: opening %s: %w", dir, err))
}

// halt is the end of one group's service while the host goes on.
type halt struct {
	once sync.Once
	down atomic.Bool
	done chan struct{} // closed when down is set
	why  error         // set before
}

// StopGroup stops one group because of data that cannot be trusted: it follows, answers what is in flight with Unknown, and applies,
// flushes and truncates nothing more. The other groups go on. It is for machines that find damage, on their shard goroutine: the result
// of the Apply that found it, and those after it, are not delivered. The first error counts; it is logged here and shown by Status.
func (h *Host) StopGroup(g stanza.Group, err error) {
	h.mu.Lock()
	c := h.cores[g]
	h.mu.Unlock()
	if c == nil {
		h.Fail(err) // nothing of the group is there to be stopped
		return
	}
	c.stopGroup(err)
}

func (c *core) stopGroup(err error) {
	c.halt.once.Do(func() {
		c.halt.why = c.host.report("state", err)
		c.halt.down.Store(true)
		c.metrics.stopped.Set(1)
		c.log.Error("shard stopped, the others go on", "error", c.halt.why)
		close(c.halt.done)
	})
}

// halted reports whether the group must not go on, for its own damage or the host's.
func (c *core) halted() bool { return c.host.down.Load() || c.halt.down.Load() }

// stopped returns why the group was stopped, empty if it was not.
func (c *core) stopped() string {
	if !c.halt.down.Load() {
		return ""
	}
	return c.halt.why.Error()
}

// enter makes a group known for StopGroup, leave forgets it.
func (h *Host) enter(c *core) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cores[c.id] = c
}

func (h *Host) leave(g stanza.Group) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.cores, g)
}

// Brief joins the errors of groups that were opened or closed side by side. Damage of what they share makes all of them fail alike: only
// the first is told in full.
func Brief(errs []error) error {
	n := 0
	var first error
	for _, err := range errs {
		if err == nil {
			continue
		}
		if n++; first == nil {
			first = err
		}
	}
	if n < 2 {
		return first
	}
	return errors.Join(first, fmt.Errorf("and %d more groups like it", n-1))
}

// Stopped says which of the groups were stopped, and the first one's reason; empty: none.
func Stopped(all []GroupStatus) string {
	var names []string
	why := ""
	for _, s := range all {
		if s.Stopped == "" {
			continue
		}
		if names = append(names, s.Group.String()); why == "" {
			why = s.Stopped
		}
	}
	if len(names) == 0 {
		return ""
	}
	return strings.Join(names, ", ") + " stopped: " + why
}
