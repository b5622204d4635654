// Package planted holds the bugs that the test suite must catch. Each is one that somebody has made, or would make: a rule of the
// delivery contract that is easy to break and whose breach loses, doubles or reorders messages. They stand in the production code, at
// the place where the mistake would be made, as one line that asks On.
//
//	planted.go       the list: what each bug does, and what it breaks
//	off.go           every ordinary build: On is false, and the compiler removes what it guards
//	on.go            with the build tag planted: the bug that the environment variable LINECARD_PLANTED names is there
//	catch_test.go    which tests must fail because of which bug, and with which words
//	suite_test.go    builds those tests with the tag and runs them with the bug, and without
//	trace_test.go    looks for the bugs in the ordinary binary, and holds the list and its page together
//
// One bug is planted in a process, for all its life. On is safe for concurrent use.
package planted

// Variable is the environment variable that names the bug of a process.
const Variable = "LINECARD_PLANTED"

// AtWork begins the line on standard error by which a process says that it has reached its bug.
const AtWork = "planted bug at work: "

// Bug names one planted bug, as LINECARD_PLANTED does.
type Bug string

// The bugs. Each comment names the promise that it breaks.
const (
	// AckBeforeSync acks a message when its entry is proposed: durable before ack.
	AckBeforeSync Bug = "ack-before-sync"
	// NoSync appends to the raft log without fsync: durable before ack. A kill -9 cannot see it, a power cut does.
	NoSync Bug = "no-sync"
	// NoDedup admits an id that its stream has had: id <= last is a duplicate, acked again and not stored again.
	NoDedup Bug = "no-dedup"
	// PushPastCursor pushes the newest entry of a queue at once, a second way out beside the cursor: live delivery is the tail of the
	// drain, so that nothing overtakes.
	PushPastCursor Bug = "push-past-cursor"
	// TruncateBeforeFlush calls a snapshot durable, so that raft truncates the log, before Pebble has flushed the tables behind it: a
	// snapshot at C calls Flush before Persist returns.
	TruncateBeforeFlush Bug = "truncate-before-flush"
	// LastIDsAhead writes streams' last ids with the records that are written ahead of the applied index F: all but message records
	// changes in the batch that carries F.
	LastIDsAhead Bug = "last-ids-ahead"
	// OldAck accepts a delivery ack of an attachment that is no more, whose numbers mean other messages: acks of another epoch are ignored.
	OldAck Bug = "ack-of-old-attachment"
	// AttachmentLost has a router answer the hello of a queue's new leader with "that is all" and no attachments: it re-sends them.
	AttachmentLost Bug = "attachment-lost-at-restart"
	// LaterIDFirst has a client pass over a message that was refused, with queue_full for one, and send what is behind it as if it did
	// not exist: what was refused for now goes again before anything later of its stream.
	LaterIDFirst Bug = "later-id-first"
	// OutOfTurn has a gateway write whatever delivery comes: only the next one of the attachment is written.
	OutOfTurn Bug = "out-of-turn"
	// HeadsAhead writes queues' heads and counts ahead of F, like LastIDsAhead.
	HeadsAhead Bug = "heads-ahead"
	// WriteAheadLost counts records as written ahead that were not written: tables have what memory lets go of.
	WriteAheadLost Bug = "write-ahead-lost"
	// FlushWithoutMemory leaves what is only in memory out of a flush: a flush covers everything live at F.
	FlushWithoutMemory Bug = "flush-without-memory"
	// RaisedLost forgets at a flush for which messages a receipt was raised: one delivered receipt, by the first device that acks.
	RaisedLost Bug = "raised-lost"
	// StaleReads has a leader that believes to be one answer what must not be stale, without asking its followers whether it still is: that
	// is answered after a commit or a verified leadership.
	StaleReads Bug = "stale-reads"
	// UnknownIsFailure tells a sender that a message is refused for good when its outcome is unknown: it may be committed all the same, so
	// that an unknown outcome is reported as neither.
	UnknownIsFailure Bug = "unknown-is-failure"
	// NoIDRule has a client show what its home has seen: exactly once after the client's own check of ids.
	NoIDRule Bug = "no-id-rule"
)

// All returns every bug, in the order above.
func All() []Bug {
	return []Bug{
		AckBeforeSync, NoSync, NoDedup, PushPastCursor, TruncateBeforeFlush, LastIDsAhead, OldAck, AttachmentLost, LaterIDFirst, OutOfTurn,
		HeadsAhead, WriteAheadLost, FlushWithoutMemory, RaisedLost, StaleReads, UnknownIsFailure, NoIDRule,
	}
}
