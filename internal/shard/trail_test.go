package shard

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/vfs"
)

func TestTrail(t *testing.T) {
	const limit = 1600
	var tr trail
	sizes := []int{0}
	for i := uint64(1); i <= 1000; i++ {
		size := int(i*37%300) * int(i/500*3+1)
		sizes = append(sizes, size)
		tr.note(i, size, limit)
		at, left := tr.cut(limit), 0
		for _, s := range sizes[at+1:] {
			left += s
		}
		if at > 0 && left < limit {
			t.Fatalf("at %d: %d bytes are left behind %d", i, left, at)
		}
		if biggest := 300 * int(i/500*3+1); left > limit+limit/trailMarks+2*biggest {
			t.Fatalf("at %d: %d bytes are kept behind %d", i, left, at)
		}
		if len(tr.marks) > trailMarks+3 {
			t.Fatalf("%d marks", len(tr.marks))
		}
	}
}

// Large packs are not kept by their number alone.
func TestTrailingBytes(t *testing.T) {
	cfg := testConfig(vfs.NewMem())
	cfg.SnapshotBytes, cfg.TrailingBytes, cfg.PackCommands = 1<<20, 256<<10, 1
	h := openHost(t, cfg)
	m := newToy()
	g := openToy(t, h, testGroup, m)
	big := strings.Repeat("x", 32<<10)
	var done int
	reached := make(chan struct{})
	onShard(t, g, func() {
		m.onDone = func(int, Outcome) {
			if done++; done == 100 {
				close(reached)
			}
		}
		next := 0
		m.onTurn = func() {
			for next < 100 && g.Propose(fmt.Appendf(nil, "%d%s", next%10, big), next) {
				next++
			}
		}
	})
	<-reached
	waitFor(t, g, func() bool {
		first, _ := g.store.FirstIndex()
		last, _ := g.store.LastIndex()
		return !g.snapping && first > 60 && last-first < 50
	})
	if first, _ := g.store.FirstIndex(); first > g.snaps.index.Load()+1 {
		t.Errorf("the log begins at %d, behind the snapshot at %d", first, g.snaps.index.Load())
	}
}
