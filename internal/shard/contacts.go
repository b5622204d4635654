package shard

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// contact is what the last answer of a peer said.
type contact struct {
	round uint64        // newest round of verification that had begun when the request was sent
	last  uint64        // index of the last entry in its log
	heard time.Duration // monotonic time of the answer
}

// contacts is what the leader of a group knows of its peers from their answers to its heartbeats, which raft does not tell. Answers to
// pipelined appends are not looked at: heartbeats go beside them at all times, and cost nothing more. Safe for concurrent use.
type contacts struct {
	mono  func() time.Duration
	round atomic.Uint64 // of verification: an answer counts for the rounds that had begun when its request was sent
	wants atomic.Uint64 // the round that someone waits for; 0: none
	came  atomic.Bool   // an answer that counts for it, since this was last looked at
	wake  func()        // called then

	mu    sync.Mutex
	term  uint64 // of the answers; those of earlier terms say nothing
	peers map[raft.ServerID]contact
}

func newContacts(mono func() time.Duration, wake func()) *contacts {
	return &contacts{mono: mono, wake: wake, peers: map[raft.ServerID]contact{}}
}

// note keeps an answer to a request of args' term that was sent when round was the newest.
func (k *contacts) note(id raft.ServerID, term, last, round uint64) {
	k.mu.Lock()
	if term < k.term {
		k.mu.Unlock()
		return
	}
	if term > k.term {
		k.term = term
		clear(k.peers)
	}
	// The replicator and the heartbeat ask the same peer side by side: their answers may pass each other.
	round = max(round, k.peers[id].round)
	k.peers[id] = contact{round: round, last: last, heard: k.mono()}
	k.mu.Unlock()
	if w := k.wants.Load(); w != 0 && round >= w {
		k.came.Store(true)
		k.wake()
	}
}

// of returns the last answer of a peer in a term.
func (k *contacts) of(id raft.ServerID, term uint64) (contact, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.term != term {
		return contact{}, false
	}
	x, ok := k.peers[id]
	return x, ok
}
