package shard

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/vfs"
)

// A group whose engine does not end is neither opened nor dropped beside it, and the databases stay open for it.
func TestStuckGroupIsNotDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ms := grown(t, 3, nil)
		lead := leading(ms)
		lead.slow.gate.close()
		within(t, time.Minute, "calls that do not end", func() bool { return lead.slow.gate.held.Load() > 1 })
		if err := lead.g.Close(); err == nil {
			t.Fatal("closed: nothing is tested")
		}
		if err := lead.h.Drop(testGroup); err == nil {
			t.Error("dropped")
		}
		if _, err := Open[int, uint64](lead.h, testGroup, newToy()); err == nil {
			t.Error("opened")
		}
		if err := lead.h.Close(); err == nil {
			t.Error("the databases were closed")
		}
		lead.slow.gate.open()
		noErr(t, lead.g.raft.Shutdown().Error(), lead.h.state.Close(), lead.h.log.Close())
	})
}

// A group that was stopped with packs on their way to raft closes at once: raft does not answer what waits in its channel when it ends.
func TestStoppedGroupCloses(t *testing.T) {
	for i := range 20 {
		h := openHost(t, testConfig(vfs.NewMem()))
		m := newToy()
		g := openToy(t, h, testGroup, m)
		onShard(t, g, func() {
			for n := range 200 {
				g.Propose(fmt.Append(nil, "k", n), n)
			}
			g.send()
			h.StopGroup(testGroup, ErrPack)
		})
		begun := time.Now()
		if err := h.Close(); err != nil {
			t.Fatalf("round %d, after %v: %v", i, time.Since(begun), err)
		}
	}
}
