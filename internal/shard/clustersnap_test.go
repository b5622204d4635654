package shard

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"linecard.example/internal/disktest"
	"linecard.example/internal/stanza"
)

// One of three is cut off for so long that the others' logs do not reach it any more: it is sent the state when it is back.
func TestLaggardIsSentTheState(t *testing.T) {
	ms := openClusterWith(t, func(c *HostConfig) { c.NoTrailing = true })
	cut(ms, 2)
	lead := leader(t, ms, 0, 1)
	propose(t, lead.g, lead.m, len(lead.m.results()), len(lead.m.results())+2000)
	noErr(t, lead.g.Snapshot(t.Context()))
	propose(t, lead.g, lead.m, len(lead.m.results()), len(lead.m.results())+50)
	if first, _ := lead.g.store.FirstIndex(); first <= 10 {
		t.Fatalf("the log begins at %d: nobody needs a state", first)
	}
	connect(ms, 0, 1, 2)
	settle(t, ms)
	if ms[2].m.replays > 1000 {
		t.Errorf("%d commands were applied on the one that was away", ms[2].m.replays)
	}
	for _, x := range ms {
		noErr(t, x.h.Close())
	}
}

// A scrub with several voters: each replica's files are clean a day later, one that was cut off meanwhile too, once it is back.
func TestScrubOfSeveralVoters(t *testing.T) {
	clock := newHandClock()
	var ks []*keeper
	var gs []*Group[int, struct{}]
	var disks []vfs.FS
	var ms []*member
	for i := range 3 {
		addr, trans := raft.NewInmemTransportWithTimeout(raft.ServerAddress(fmt.Sprint("n", i)), 100*time.Millisecond)
		fs := vfs.NewMem()
		cfg := testConfig(fs)
		cfg.NodeID, cfg.Heartbeat, cfg.Join = string(addr), time.Second, i > 0
		cfg.Clock, cfg.Tick = clock.now, time.Millisecond
		cfg.Transport = func(stanza.Group) (raft.Transport, raft.ServerAddress) { return trans, addr }
		ms, disks = append(ms, &member{h: openHost(t, cfg), trans: trans}), append(disks, fs)
	}
	connect(ms, 0, 1, 2)
	for i, x := range ms {
		k := newKeeper()
		g, err := Open[int, struct{}](x.h, testGroup, k)
		noErr(t, err)
		ks, gs = append(ks, k), append(gs, g)
		if i == 0 {
			<-k.led
			continue
		}
		noErr(t, gs[0].raft.AddVoter(raft.ServerID(x.h.cfg.NodeID), x.trans.LocalAddr(), 0, 5*time.Second).Error())
	}
	a := &archive{t: t, h: ms[0].h, groups: gs[:1], ms: ks[:1]}
	all := texts(rand.New(rand.NewPCG(5, 6)), 200)
	gone, kept := all[:100], all[100:]
	for _, x := range all {
		a.do(0, append(bytes.Clone(x.key), x.val...))
	}
	reach := func(i int) {
		t.Helper()
		limit := time.Now().Add(20 * time.Second)
		for gs[i].appliedAt.Load() < gs[0].appliedAt.Load() {
			if time.Now().After(limit) {
				t.Fatalf("replica %d is at %d", i, gs[i].appliedAt.Load())
			}
			time.Sleep(time.Millisecond) // a follower tells nobody
		}
	}
	reach(2)
	cut(ms, 2)
	for _, x := range gone {
		a.do(0, x.key)
	}
	reach(1)
	scrubbed := func(which ...int) {
		t.Helper()
		due, limit := clock.now().Add(time.Millisecond), time.Now().Add(60*time.Second)
		clock.advance(scrubEvery)
		for _, i := range which {
			for ms[i].h.Status()[0].Scrubbed.Before(due) {
				clock.advance(scrubGrace / 100)
				if time.Now().After(limit) {
					t.Fatalf("replica %d was not scrubbed", i)
				}
				time.Sleep(2 * time.Millisecond) // the scrubber tells nobody
			}
		}
	}
	scrubbed(0, 1)
	clean := func(i int) {
		t.Helper()
		found, err := disktest.Search(disks[i], "d", markers(gone))
		if err != nil || len(found) > 0 {
			t.Errorf("replica %d: %d deleted texts are still there, such as %v (%v)", i, len(found), found[:min(1, len(found))], err)
		}
	}
	clean(0)
	clean(1)
	if found, err := disktest.Search(disks[2], "d", markers(gone)); err != nil || len(found) == 0 {
		t.Fatalf("the one that was cut off knows of the deletions: %v", err)
	}
	connect(ms, 0, 1, 2)
	reach(2)
	scrubbed(2)
	clean(2)
	for _, x := range kept {
		if err := gs[2].Call(t.Context(), func() {
			if v, _, _ := ks[2].o.Get(x.key); !bytes.Equal(v, x.val) {
				t.Errorf("%s was lost", x.key)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range ms {
		noErr(t, x.h.Close())
	}
}

// What was deleted while a state is being sent would survive the compactions of a scrub. So the scrub is put off until that is done.
func TestScrubWaitsForStreams(t *testing.T) {
	clock, fs := newHandClock(), vfs.NewMem()
	cfg := testConfig(fs)
	cfg.Clock, cfg.Tick = clock.now, time.Millisecond
	a := openArchive(t, cfg, 2)
	gone := texts(rand.New(rand.NewPCG(7, 8)), 50)
	for _, x := range gone {
		a.do(0, append(bytes.Clone(x.key), x.val...))
	}
	a.do(1, []byte("00000000of another group"))
	noErr(t, a.groups[0].Snapshot(t.Context()), a.groups[1].Snapshot(t.Context()))
	_, stream, err := a.groups[1].snaps.Open("")
	noErr(t, err)
	for _, x := range gone {
		a.do(0, x.key)
	}
	due := clock.now().Add(time.Millisecond)
	clock.advance(scrubEvery)
	limit := time.Now().Add(20 * time.Second)
	for testutil.ToFloat64(a.groups[0].metrics.scrubFailed.(prometheus.Collector)) == 0 {
		if time.Now().After(limit) {
			t.Fatal("the scrub was not put off")
		}
		time.Sleep(time.Millisecond) // the scrubber tells nobody
	}
	if a.h.Status()[0].Scrubbed.After(due) {
		t.Error("it counts as scrubbed")
	}
	noErr(t, stream.Close())
	clock.advance(scrubAgain + time.Second)
	awaitScrubs(t, a.h, due)
	if found := search(t, fs, "d", gone); len(found) > 0 {
		t.Errorf("%d deleted texts are still there, such as %s", len(found), found[0])
	}
}
