package shard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/cockroachdb/pebble/vfs/errorfs"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"linecard.example/internal/disktest"
	"linecard.example/internal/stanza"
)

// keeper is a machine that keeps texts by a key of 8 bytes: a command is a key and its text, or a key alone to delete it.
type keeper struct {
	o    *Overlay
	led  chan struct{}
	done chan Outcome
}

func newKeeper() *keeper { return &keeper{led: make(chan struct{}, 8), done: make(chan Outcome, 1024)} }

func (m *keeper) Load(t Tables, _ uint64) error { m.o = NewOverlay(t, 1<<10); return nil }
func (m *keeper) Apply(e Entry) struct{} {
	if len(e.Cmd) == 8 {
		m.o.Delete(e.Cmd)
	} else {
		m.o.Set(e.Cmd[:8], e.Cmd[8:])
	}
	return struct{}{}
}
func (m *keeper) Done(_ int, o Outcome, _ struct{}) { m.done <- o }
func (m *keeper) Flush(b *Batch) error              { m.o.FlushTo(b); return nil }
func (m *keeper) Dirty() int                        { return m.o.Size() }
func (m *keeper) Lead(uint64)                       { m.led <- struct{}{} }
func (m *keeper) Follow()                           {}
func (m *keeper) EndTurn()                          {}
func (m *keeper) Turn()                             {}
func (m *keeper) Tick(time.Time)                    {}
func (m *keeper) Hash() uint64                      { return 0 }

// handClock is a clock that a test moves; raft has its own.
type handClock struct{ ns atomic.Int64 }

func newHandClock() *handClock {
	c := new(handClock)
	c.ns.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}
func (c *handClock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *handClock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// archive is a host of keepers under a clock.
type archive struct {
	t      *testing.T
	h      *Host
	groups []*Group[int, struct{}]
	ms     []*keeper
}

func openArchive(t *testing.T, cfg HostConfig, groups int) *archive {
	t.Helper()
	a := &archive{t: t, h: openHost(t, cfg)}
	for i := range groups {
		m := newKeeper()
		g, err := Open[int, struct{}](a.h, stanza.QueueGroup(i), m)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-m.led:
		case <-time.After(20 * time.Second):
			t.Fatal("no leader")
		}
		a.groups, a.ms = append(a.groups, g), append(a.ms, m)
	}
	return a
}

func (a *archive) do(group int, cmds ...[]byte) {
	a.t.Helper()
	if err := a.groups[group].Call(context.Background(), func() {
		for _, c := range cmds {
			if !a.groups[group].Propose(c, 0) {
				a.t.Error("not accepted")
			}
		}
	}); err != nil {
		a.t.Fatal(err)
	}
	for range cmds {
		if o := <-a.ms[group].done; o != Committed {
			a.t.Fatal(o)
		}
	}
}

func (a *archive) get(group int, key []byte) (v []byte) {
	a.t.Helper()
	if err := a.groups[group].Call(context.Background(), func() { v, _, _ = a.ms[group].o.Get(key) }); err != nil {
		a.t.Fatal(err)
	}
	return v
}

// awaitScrubs waits until every group was scrubbed at or after a time.
func awaitScrubs(t *testing.T, h *Host, since time.Time) {
	t.Helper()
	limit := time.Now().Add(60 * time.Second)
	for {
		late := ""
		for _, s := range h.Status() {
			if s.Scrubbed.Before(since) {
				late = s.Group.String()
			}
		}
		if late == "" {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%s was not scrubbed", late)
		}
		time.Sleep(5 * time.Millisecond) // the scrubber tells nobody
	}
}

// text is what a keeper keeps: 64 random bytes, a marker by themselves.
type text struct{ key, val []byte }

func texts(rng *rand.Rand, n int) []text {
	all := make([]text, n)
	for i := range all {
		all[i] = text{[]byte(fmt.Sprintf("%08d", i)), make([]byte, 64)}
		for j := range all[i].val {
			all[i].val[j] = byte(rng.Uint32())
		}
	}
	return all
}

func markers(all []text) (list [][]byte) {
	for _, x := range all {
		list = append(list, x.val)
	}
	return list
}

func search(t *testing.T, fs vfs.FS, dir string, all []text) []string {
	t.Helper()
	found, err := disktest.Search(fs, dir, markers(all))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// What was deleted is in no file a day later, in busy groups and in those where nothing happened since; what was not is still there.
func TestScrub(t *testing.T) {
	t.Run("memory", func(t *testing.T) { testScrub(t, vfs.NewMem(), "d") })
	t.Run("disk", func(t *testing.T) { testScrub(t, vfs.Default, t.TempDir()) })
}

func testScrub(t *testing.T, fs vfs.FS, dir string) {
	const groups, count, batch = 4, 800, 20
	clock := newHandClock()
	cfg := testConfig(fs)
	cfg.Dir, cfg.Clock, cfg.Tick = dir, clock.now, time.Millisecond
	cfg.LogMemTable = 64 << 10 // so that several WALs wait for reuse
	a := openArchive(t, cfg, groups)
	rng := rand.New(rand.NewPCG(3, 4))
	gone, kept := make([][]text, groups), make([][]text, groups)
	for i := range groups {
		all := texts(rng, count)
		gone[i], kept[i] = all[:count/2], all[count/2:]
		for j := 0; j < count; j += batch {
			var cmds [][]byte
			for _, x := range all[j : j+batch] {
				cmds = append(cmds, append(bytes.Clone(x.key), x.val...))
			}
			a.do(i, cmds...)
		}
		if i == 1 { // in tables before they are deleted
			if err := a.groups[i].Snapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for j := 0; j < count/2; j += batch {
			var cmds [][]byte
			for _, x := range gone[i][j : j+batch] {
				cmds = append(cmds, x.key)
			}
			a.do(i, cmds...)
		}
	}
	for i := range groups {
		found := search(t, fs, dir, gone[i])
		if len(found) < count/4 {
			t.Fatalf("group %d: only %d of what was deleted is found before the scrub: the search shows nothing", i, len(found))
		}
	}
	if waiting := a.h.log.Metrics().WAL.ObsoleteFiles; waiting == 0 {
		t.Fatal("no WAL waits for reuse: the test does not show that these are scrubbed")
	}

	due := clock.now().Add(time.Millisecond)
	clock.advance(scrubEvery)
	awaitScrubs(t, a.h, due)
	check := func(a *archive) {
		t.Helper()
		for i := range groups {
			if found := search(t, fs, dir, gone[i]); len(found) > 0 {
				t.Errorf("group %d: %d deleted texts are still there: %s", i, len(found), strings.Join(found[:min(5, len(found))], "; "))
			}
			for _, x := range kept[i] {
				if !bytes.Equal(a.get(i, x.key), x.val) {
					t.Fatalf("group %d: %s was lost", i, x.key)
				}
			}
		}
	}
	check(a)
	for i, g := range a.groups {
		if last, _ := g.store.LastIndex(); last != 0 {
			t.Errorf("group %d has a log up to %d", i, last)
		}
		a.do(i, []byte("99999999and on"))
	}
	if a.h.wals.fresh.Load() {
		t.Error("WALs are not reused any more")
	}
	if err := a.h.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Bootstrap = false
	a = openArchive(t, cfg, groups)
	check(a)
	for i := range groups {
		if got := a.get(i, []byte("99999999")); string(got) != "and on" {
			t.Errorf("group %d: %q after the restart", i, got)
		}
	}
}

// Each group is scrubbed at least every 11 hours and no two of a process at the same minute, also after a day without any.
func TestScrubSchedule(t *testing.T) {
	var groups []stanza.Group
	for i := range 16 {
		groups = append(groups, stanza.QueueGroup(i))
	}
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	states := make([]scrubs, len(groups))
	for i := range states {
		states[i].last = start
	}
	for _, skip := range []bool{false, true} {
		now := start
		for minute := range 4 * 24 * 60 {
			now = start.Add(time.Duration(minute) * time.Minute)
			if skip && minute > 60 && minute < 26*60 {
				continue // the process was down
			}
			done := 0
			for i, g := range groups {
				if !states[i].due(g, now) {
					continue
				}
				if gap := now.Sub(states[i].last); !skip && gap > scrubEvery+time.Minute {
					t.Fatalf("%v: scrubbed after %v", g, gap)
				}
				states[i].last = now
				done++
			}
			if want := 1; done > want && (!skip || minute != 26*60) {
				t.Fatalf("minute %d: %d groups at once", minute, done)
			} else if skip && minute == 26*60 && done != len(groups) {
				t.Fatalf("%d groups after the outage", done)
			}
		}
		start = now
	}
	// A clock that was far ahead when a group was scrubbed does not put the next one off; one set back at a failure neither.
	s := scrubs{last: start.Add(365 * 24 * time.Hour)}
	if !s.due(1, start) {
		t.Error("not due after the clock was set back")
	}
	s.retry = start.Add(365 * 24 * time.Hour)
	if !s.due(1, start) {
		t.Error("a pause of a year")
	}
	if s.retry = start.Add(time.Second); s.due(1, start) {
		t.Error("no pause")
	}
}

// The time of the last scrub outlives the process: one that is restarted too often to run for 11 hours scrubs, one that is restarted
// more often does not scrub more.
func TestScrubAcrossRestarts(t *testing.T) {
	clock := newHandClock()
	cfg := testConfig(vfs.NewMem())
	cfg.Clock, cfg.Tick = clock.now, time.Millisecond
	reg := prometheus.NewRegistry()
	cfg.Registerer = reg
	x := text{[]byte("00000001"), texts(rand.New(rand.NewPCG(1, 1)), 1)[0].val}
	var first time.Time
	for life := range 4 {
		a := openArchive(t, cfg, 1)
		cfg.Bootstrap = false
		if life == 0 {
			first = a.h.Status()[0].Scrubbed
			if !first.Equal(clock.now().Truncate(time.Millisecond)) {
				t.Fatalf("a new group counts from %v", first)
			}
			a.do(0, append(bytes.Clone(x.key), x.val...))
			a.do(0, x.key)
		}
		if life == 2 {
			awaitScrubs(t, a.h, first.Add(time.Second))
			if found := search(t, cfg.FS, "d", []text{x}); len(found) > 0 {
				t.Error(found)
			}
		}
		if err := a.h.Close(); err != nil {
			t.Fatal(err)
		}
		switch life {
		case 0:
			if len(search(t, cfg.FS, "d", []text{x})) == 0 {
				t.Error("the marker is gone before the scrub: the test shows nothing")
			}
			clock.advance(time.Millisecond)
		case 1:
			clock.advance(20 * time.Hour)
		}
	}
	if n := testutil.ToFloat64(hostMetric(t, cfg).scrubs.WithLabelValues(stanza.QueueGroup(0).String(), "ok")); n != 1 {
		t.Errorf("%v scrubs, want 1", n)
	}
}

// hostMetric returns the metrics that hosts of the same registerer share.
func hostMetric(t *testing.T, cfg HostConfig) *metricVecs {
	t.Helper()
	v, err := newMetricVecs(cfg.Registerer)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A scrub that fails is counted, leaves the group at work and the age growing, and is done again.
func TestScrubFailure(t *testing.T) {
	clock := newHandClock()
	var broken toggle
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op, _ string) error {
		if broken.on() && op == errorfs.OpList {
			return errors.New("no list")
		}
		return nil
	}))
	cfg := testConfig(fs)
	cfg.Clock, cfg.Tick, cfg.Registerer = clock.now, time.Millisecond, prometheus.NewRegistry()
	a := openArchive(t, cfg, 1)
	broken.set()
	start := a.h.Status()[0].Scrubbed
	clock.advance(scrubEvery)
	name := stanza.QueueGroup(0).String()
	v := a.h.metrics
	eventually(t, "a failed scrub", func() bool { return testutil.ToFloat64(v.scrubs.WithLabelValues(name, "failed")) == 1 })
	eventually(t, "an age of 11 hours", func() bool { return testutil.ToFloat64(v.scrubAge) == scrubEvery.Seconds() })
	a.do(0, []byte("00000001still at work"))
	broken.v.Store(false)
	clock.advance(scrubAgain + time.Second)
	awaitScrubs(t, a.h, start.Add(time.Second))
	eventually(t, "a fresh age", func() bool { return testutil.ToFloat64(v.scrubAge) < scrubEvery.Seconds() })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) { // what is looked at is other goroutines' and tells nobody
		if time.Now().After(limit) {
			t.Fatal("in vain: ", what)
		}
	}
}

// A host that closes between two scrubs, or within one, ends in order and loses nothing; the next life does the rest.
func TestCloseDuringScrubs(t *testing.T) {
	const groups = 4
	clock := newHandClock()
	cfg := testConfig(vfs.NewMem())
	cfg.Clock, cfg.Tick = clock.now, time.Millisecond
	for life := range 3 * groups {
		a := openArchive(t, cfg, groups)
		cfg.Bootstrap = false
		for i := range groups {
			if life > 0 && string(a.get(i, []byte("00000001"))) != fmt.Sprint("life ", life-1) {
				t.Fatalf("life %d: group %d has %q", life, i, a.get(i, []byte("00000001")))
			}
			a.do(i, []byte(fmt.Sprint("00000001life ", life)))
		}
		since := clock.now().Add(time.Millisecond)
		clock.advance(scrubEvery)
		eventually(t, "some scrubs", func() bool {
			done := 0
			for _, s := range a.h.Status() {
				if !s.Scrubbed.Before(since) {
					done++
				}
			}
			return done >= life%groups
		})
		if err := a.h.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Three voters cut their logs to nothing, each by its own clock, and go on: the followers that were there need no snapshot.
func TestScrubOfThreeVoters(t *testing.T) {
	clock := newHandClock()
	ms := openClusterWith(t, func(cfg *HostConfig) { cfg.Clock, cfg.Tick = clock.now, time.Millisecond })
	run := func(x *member, n int) {
		t.Helper()
		from := len(x.m.results())
		propose(t, x.g, x.m, from, from+n)
	}
	run(ms[0], 200)
	settle(t, ms) // a follower that lags would get the rest behind its cut
	start := clock.now().Add(time.Millisecond)
	clock.advance(scrubEvery)
	for _, x := range ms {
		eventually(t, "a snapshot for the scrub", func() bool { return x.h.Status()[0].Snapshot >= 200/MaxPackCommands })
		if last, _ := x.g.store.LastIndex(); last == 0 {
			t.Fatal("the log was cut before followers had time to have it")
		}
	}
	clock.advance(scrubGrace)
	for _, x := range ms {
		awaitScrubs(t, x.h, start)
		if last, _ := x.g.store.LastIndex(); last != 0 {
			t.Errorf("%s has a log up to %d", x.h.cfg.NodeID, last)
		}
	}
	run(ms[0], 100)
	if err := ms[0].g.raft.LeadershipTransferToServer("n1", "n1").Error(); err != nil {
		t.Fatal(err)
	}
	run(leader(t, ms, 1), 100)
	settle(t, ms)
	for _, x := range ms {
		if x.g.raft.Stats()["state"] == raft.Shutdown.String() {
			t.Error("a voter is down")
		}
	}
}

// The cut is that of raft with TrailingLogs 0 and safe against appends at the same time.
func TestCutLogWhileAppending(t *testing.T) {
	db := openDB(t, vfs.NewMem())
	defer db.Close()
	s := openStore(t, db, 1)
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
				last, _ := s.LastIndex()
				if err := s.DeleteRange(0, last); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	for i := uint64(1); i <= 3000; i += 3 {
		store(t, s, i, i+2, 1)
	}
	close(stop)
	<-ended
	store(t, s, 3001, 3010, 1)
	want, _ := s.FirstIndex()
	reopened := openStore(t, db, 1)
	if first, _ := reopened.FirstIndex(); first != want || want == 0 || want > 3001 {
		t.Errorf("log begins at %d, is believed to begin at %d", first, want)
	}
	if last, _ := s.LastIndex(); last != 3010 {
		t.Errorf("log ends at %d", last)
	}
}
