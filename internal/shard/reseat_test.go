package shard

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	"linecard.example/internal/stanza"
)

// A copy of a node from which groups moved away becomes a new one all the same; of one that had begun to come back, what is there counts.
func TestReseatAfterDrops(t *testing.T) {
	p, fs := rehearse(t), vfs.NewMem()
	s := seatFor(t, fs, func(*HostConfig) {})
	away, err := Open[int, uint64](s.h, testGroup+1, newToy())
	noErr(t, err, away.Close(), s.h.Drop(testGroup+1))
	noErr(t, s.mustAppend(1, 50), s.g.Close(), s.h.Drop(testGroup), s.h.Close())
	s = seatFor(t, fs, func(c *HostConfig) { c.Bootstrap = false })
	noErr(t, s.mustAppend(1, 40))
	s.mustBe(t, p, 40)
	if !s.g.store.forgetful() {
		t.Fatal("it has what it had: nothing is tested")
	}
	noErr(t, s.h.Close(), Reseat(fs, "d", "n2", time.Now()))
	cfg := testConfig(fs)
	cfg.NodeID, cfg.Bootstrap = "n2", false
	h, m := openHost(t, cfg), newToy()
	g := openToy(t, h, testGroup, m)
	propose(t, g, m, 0, 10)
	if held, err := h.Held(); err != nil || len(held) != 1 || held[0] != testGroup {
		t.Errorf("groups %v, %v", held, err)
	}
	for _, g := range []stanza.Group{testGroup, testGroup + 1} {
		if v, err := getCopy(h.log, groupStart(keyJoin, g)); err != nil || v != nil {
			t.Errorf("%s joins: %v %v", g, v, err)
		}
	}
	noErr(t, h.Close())
	i, err := Inspect(fs, "d")
	noErr(t, err)
	if len(i.Faults) > 0 || len(i.Groups) != 1 {
		t.Errorf("%+v %q", i.Groups, i.Faults)
	}
	noErr(t, i.Close())
}
