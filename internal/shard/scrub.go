package shard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble"
	"linecard.example/internal/stanza"
)

// A scrub removes from the disk what a group has deleted: it takes a snapshot, cuts the whole log up to it, and compacts the group's
// part of both databases, so that no file holds what was delivered, expired, refused or unlinked before the snapshot. Nothing drives
// it but the clock. docs/design/0009 has the arithmetic of the schedule.
const (
	// scrubEvery is the longest time between two cuts of a group. Twice this and two hours are a day: a scrub may fail, and be done
	// again for two hours, before something is on the disk for longer than a day.
	scrubEvery = 11 * time.Hour
	scrubLook  = 20          // ticks between two looks at what is due: 1 s
	scrubAgain = time.Minute // pause after a failure, by the injected clock

	// scrubGrace is how long a group with peers keeps the log behind a scrub's snapshot: a follower that lags less than this does
	// not need a snapshot because of the scrub.
	scrubGrace = 10 * time.Minute
)

// errBehind says that the log holds entries which are not applied yet, so that a snapshot does not cover them.
var errBehind = errors.New("shard: the log is ahead of the state")

// scrubs is what the scrubber knows of a group. Scrubber goroutine, but for what mu guards.
type scrubs struct {
	done  atomic.Int64 // last, in Unix ms, for others to see
	last  time.Time    // when the last complete scrub took its snapshot; durable
	retry time.Time    // not before, after a failure
	cut   uint64       // index of the snapshot of the scrub under way; 0: none
	at    time.Time    // of that snapshot

	mu     sync.Mutex // held while the group is needed
	closed bool       // the group is
}

// scrubPhase is where in each period a group is scrubbed: multiples of the golden ratio are far apart for any number of groups, so
// that those of a process follow one another and do not come together.
func scrubPhase(g stanza.Group) time.Duration {
	_, frac := math.Modf(float64(g) * math.Phi)
	return time.Duration(frac * float64(scrubEvery))
}

// scrubSlot numbers the periods of a group. A scrub is due once in each, which keeps the groups apart also after a time in which none
// could be done, and makes due at once what was missed.
func scrubSlot(g stanza.Group, t time.Time) int64 {
	since := t.UnixMilli() - scrubPhase(g).Milliseconds()
	every := scrubEvery.Milliseconds()
	if since < 0 {
		since -= every - 1
	}
	return since / every
}

func (s *scrubs) set(at time.Time) {
	s.last = at
	s.done.Store(at.UnixMilli())
}

func (s *scrubs) due(g stanza.Group, now time.Time) bool {
	if wait := s.retry.Sub(now); wait > 0 && wait <= scrubAgain { // a clock that was set back must not prolong it
		return false
	}
	return s.cut != 0 || scrubSlot(g, now) != scrubSlot(g, s.last)
}

// loadScrub reads when the group was scrubbed last. A group that never was counts from now on, durably, so that restarts do not put
// its first scrub off.
func (c *core) loadScrub() error {
	p := groupPrefix(keyScrub, c.id)
	v, err := getCopy(c.host.log, p[:])
	switch {
	case err != nil:
		return fmt.Errorf("shard: opening %s: %w", c.id, err)
	case len(v) == 8:
		c.scrubs.set(time.UnixMilli(int64(binary.BigEndian.Uint64(v))))
		return nil
	case v != nil:
		return fmt.Errorf("shard: opening %s: %w: time of the scrub", c.id, errLogRecord)
	}
	// Not synced: the next append is, to the same WAL.
	return c.noteScrub(c.host.cfg.Clock(), pebble.NoSync)
}

func (c *core) noteScrub(at time.Time, wo *pebble.WriteOptions) error {
	p := groupPrefix(keyScrub, c.id)
	if err := c.host.log.Set(p[:], binary.BigEndian.AppendUint64(nil, uint64(at.UnixMilli())), wo); err != nil {
		return fmt.Errorf("shard: noting the scrub of %s: %w", c.id, err)
	}
	c.scrubs.set(at)
	return nil
}

// scrubLoop is the scrubber: one goroutine for the host, so that its groups are scrubbed one after the other.
func (h *Host) scrubLoop() {
	defer close(h.scrubbed)
	tick := time.NewTicker(scrubLook * h.cfg.Tick)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			h.scrubDue()
			h.washDropped()
			h.reclaimIfLow()
		case <-h.closing:
			return
		case <-h.failing:
			return
		}
	}
}

// scrubDue scrubs what is due, and shows how long ago the oldest scrub was.
func (h *Host) scrubDue() {
	oldest := h.cfg.Clock()
	for _, g := range h.open() {
		select {
		case <-h.closing:
			return
		case <-h.failing:
			return
		default:
		}
		if last := g.scrubIfDue(); last.Before(oldest) {
			oldest = last
		}
	}
	h.metrics.scrubAge.Set(h.cfg.Clock().Sub(oldest).Seconds())
}

// scrubIfDue returns when the group's last complete scrub took its snapshot.
func (c *core) scrubIfDue() time.Time {
	s, now := &c.scrubs, c.host.cfg.Clock()
	if !s.due(c.id, now) {
		return s.last
	}
	begun := c.host.cfg.Monotonic()
	done, err := c.scrub(now)
	switch {
	case errors.Is(err, errClosed), errors.Is(err, errBehind): // it is about to end, or to catch up
	case err != nil:
		s.retry = now.Add(scrubAgain)
		c.metrics.scrubFailed.Inc()
		c.log.Warn("scrub failed", "error", err, "last", s.last.UTC())
	case done:
		c.metrics.scrubOK.Inc()
		c.log.Info("scrubbed", "upto", c.snaps.index.Load(), "took", c.host.cfg.Monotonic()-begun)
	}
	return s.last
}

// scrub does what is to be done now; done says that it was the last step. A group with peers waits between the snapshot and the cut.
func (c *core) scrub(now time.Time) (done bool, err error) {
	s := &c.scrubs
	if s.cut == 0 {
		if s.cut, err = c.coverLog(); err != nil {
			return false, err
		}
		s.at = now
	}
	if waited := now.Sub(s.at); !c.alone() && waited >= 0 && waited < scrubGrace {
		return false, nil
	}
	if err := c.cutLog(s.cut); err != nil {
		return false, err
	}
	if err := c.host.wash(c.id); err != nil {
		return false, err
	}
	s.cut = 0
	return true, c.noteScrub(s.at, c.host.writeOptions())
}

// coverLog takes a snapshot that covers everything in the log at the time of the call, and returns its index. The machine's changes
// up to there are in tables then, deletions included.
func (c *core) coverLog() (uint64, error) {
	c.scrubs.mu.Lock()
	defer c.scrubs.mu.Unlock()
	last, _ := c.store.LastIndex()
	for range 10 {
		if c.scrubs.closed {
			return 0, errClosed
		}
		if err := c.snapshot(); err != nil {
			return 0, err
		}
		if at := c.snaps.index.Load(); at >= last {
			return at, nil
		}
		select { // what was on its way is applied soon; there is nothing to wait on
		case <-c.dead:
		case <-time.After(20 * time.Millisecond):
		}
	}
	return 0, errBehind
}

// cutLog removes the log up to a snapshot, as raft does with TrailingLogs 0. It does not go through raft, which cuts nothing when
// there is nothing new to snapshot.
func (c *core) cutLog(upTo uint64) error {
	c.scrubs.mu.Lock()
	defer c.scrubs.mu.Unlock()
	if c.scrubs.closed {
		return errClosed
	}
	return c.store.DeleteRange(0, min(upTo, c.snaps.index.Load()))
}

// endScrubs waits until a scrub does not need the group any more, and lets none begin.
func (c *core) endScrubs() {
	c.scrubs.mu.Lock()
	defer c.scrubs.mu.Unlock()
	c.scrubs.closed = true
}
