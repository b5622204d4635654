package stanza

// Reason says why a session was closed, a message refused or something dropped: wire code, log field and metric label in one.
// Numbers are those of reasons.txt; 0 is none. A reason of a newer list is legal on the wire.
type Reason uint16

// Retry is what a client does by itself after a reason.
type Retry uint8

// The ways to go on.
const (
	RetryNever   Retry = iota // not by itself
	RetryNow                  // at once
	RetryLater                // after retry-after x uniform(0.5, 1.5)
	RetryBackoff              // as after a network loss: once immediately, then full jitter 1 s x 2^n up to 5 min
)

// where says what may carry a reason.
type where uint8

const (
	inClose where = 1 << iota
	inRefusal
	inDrop
)

type reasonInfo struct {
	name  string
	where where
	retry Retry
}

// info returns the table's entry; a number outside the list is treated as a network loss, which loses nothing.
func (r Reason) info() reasonInfo {
	if int(r) < len(reasonTable) && reasonTable[r].name != "" {
		return reasonTable[r]
	}
	return reasonInfo{name: unknownToken, retry: RetryBackoff}
}

// String returns the reason's snake_case name, "unknown" outside the list.
func (r Reason) String() string { return r.info().name }

// Retry returns what a client does by itself; RetryBackoff for reasons outside the list and those that only servers see.
func (r Reason) Retry() Retry { return r.info().retry }

// Final reports whether a refusal with this reason kills the message's id. Any other refusal leaves the message unacked: it keeps
// its id and goes again before anything later of its stream.
func (r Reason) Final() bool {
	i := r.info()
	return i.where&inRefusal != 0 && i.retry == RetryNever
}

// Closes reports whether the reason may stand in a close stanza or end a session on the server's side.
func (r Reason) Closes() bool { return r.info().where&inClose != 0 }

// Refuses reports whether the reason may stand in a refused or error stanza.
func (r Reason) Refuses() bool { return r.info().where&inRefusal != 0 }

// Drops reports whether the reason names something dropped and counted.
func (r Reason) Drops() bool { return r.info().where&inDrop != 0 }
