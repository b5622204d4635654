package shard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"linecard.example/internal/stanza"
)

// twinProof is for how long a peer has to say that another process is at work under this node's id. What it read late from the connections of
// one that has just died looks like life once; then their ends are read, too.
const twinProof = 2*rivalWindow + rivalWindow/2

// twins is what peers have said of another process under this node's id. A copy that was started while the node itself was cut off is not
// found at its start, so that it has to be looked for all the time.
type twins struct {
	mu    sync.Mutex
	since map[string]time.Duration // by peer: when it said so first, not having taken a connection after it
	proof error
	found chan error // gets proof, once
}

// heard takes down how an attempt to connect to a peer ended.
func (t *twins) heard(node string, err error, now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	since, told := t.since[node]
	switch {
	case errors.Is(err, errEarlier): // it has not decided
	case !errors.Is(err, ErrDuplicate):
		delete(t.since, node)
	case !told:
		t.since[node] = now
	case now-since >= twinProof && t.proof == nil:
		t.proof = fmt.Errorf("%w: node %s is connected to it; one of the two has a copy of the other's data directory and must leave the cluster", ErrDuplicate, node)
		t.found <- t.proof
	}
}

func (t *twins) proven() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.proof
}

// Failed delivers ErrDuplicate, once, when another process turns out to be at work under this node's id: votes and acknowledgements of the two
// would be counted as one's, so this one has to end.
func (n *Network) Failed() <-chan error { return n.twins.found }

// CheckUnique asks the nodes listed whether another process is at work under the node id of this one, and returns ErrDuplicate if one of
// them has proof; for a start, before groups are opened. Nodes that do not answer do not count: that no other process can be seen is no
// proof that there is none. It takes some seconds at most, and ends with ctx.
func (n *Network) CheckUnique(ctx context.Context, nodes []string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*rivalWindow)
	defer cancel()
	found := make(chan error, len(nodes))
	asked := 0
	for _, node := range nodes {
		if node == n.cfg.Node {
			continue
		}
		asked++
		go func() { found <- n.uniqueAt(ctx, node) }()
	}
	for ; asked > 0; asked-- {
		if err := <-found; err != nil {
			return err
		}
	}
	return nil
}

// uniqueAt asks one node until it has decided.
func (n *Network) uniqueAt(ctx context.Context, node string) error {
	for {
		_, err := n.Status(ctx, node, stanza.DirGroup(0))
		if proof := n.twins.proven(); proof != nil {
			return proof
		}
		if !errors.Is(err, errEarlier) && !errors.Is(err, ErrDuplicate) {
			return nil
		}
		select {
		case <-time.After(rivalWindow / 4):
		case <-ctx.Done():
			return nil
		}
	}
}
