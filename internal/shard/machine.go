package shard

import "time"

// Entry is one committed command as a machine applies it.
type Entry struct {
	Index uint64 // raft log index of its pack
	Seq   int    // ordinal in its pack, from 0
	Stamp int64  // Unix ms the leader put on the pack; never falls from one entry to the next
	Cmd   []byte // borrowed for the length of Apply: copy what is kept
}

// Outcome says what became of a proposed command.
type Outcome uint8

const (
	// Committed: the command is durable on a majority and was applied here.
	Committed Outcome = iota
	// Rejected: the command never entered the log and never will; proposing it again is safe.
	Rejected
	// Unknown: the command may or may not be applied, now or later (leadership lost, shutdown).
	Unknown
)

// String returns the name of o in lower case, as in logs and metrics.
func (o Outcome) String() string {
	switch o {
	case Committed:
		return "committed"
	case Rejected:
		return "rejected"
	}
	return "unknown"
}

// Machine is the deterministic state machine of one group, together with the soft state that belongs to its shard. All methods
// are called on the group's shard goroutine, so that a machine needs no lock. C is what the proposer wants back with the
// outcome of a command; R is what Apply returns.
type Machine[C, R any] interface {
	// Load is called before anything else: applied is the index F up to which the tables are complete. Message records
	// that carry an index above it were written ahead and must be ignored: their entries will be applied again. It is called again,
	// while the machine follows, when a whole state was received that is newer than its own: the tables are others then, and what
	// the machine held of the old ones, changes included, is void. What it proposed is not: Done still comes for that.
	Load(t Tables, applied uint64) error
	// Apply folds one committed command into the state. It reads no clock, no randomness and no map order, and does no I/O
	// except reading the tables; if that fails it calls Host.StopGroup, and its result is not used.
	Apply(e Entry) R
	// Done reports the outcome of a command that this process proposed since it opened the group: exactly once for each, in
	// the order of proposing, directly after its Apply if committed. r is zero unless o is Committed. It may propose. It may come
	// after Follow, with any outcome: what was in flight when the leadership ended or the group began to close still commits.
	Done(ctx C, o Outcome, r R)
	// Flush appends every change since the last Flush to b. The shard adds the applied index and commits b.
	Flush(b *Batch) error
	// Dirty returns about how many bytes the changes take that Flush would write now: above HostConfig.FlushBytes it is called. Dirty is
	// called every turn and must not walk anything.
	Dirty() int
	// Lead says that this process leads the group from now on: all entries of earlier terms are applied. It may propose.
	Lead(term uint64)
	// Follow ends the leadership that Lead announced.
	Follow()
	// Turn is called after Group.Wake, after each batch of entries and after each Tick: drain inboxes, push, propose.
	Turn()
	// EndTurn is called behind Turn and all that followed from it, outcomes included: hand over what was sent.
	EndTurn()
	// Tick is called every HostConfig.Tick (50 ms) with the injected clock's time.
	Tick(now time.Time)
	// Hash returns a hash of the logical state, equal for equal logs whatever restarts, flushes and snapshots came between.
	Hash() uint64
}
