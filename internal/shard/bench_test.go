package shard

import (
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/vfs"
	"linecard.example/internal/stanza"
)

// null is a machine without state that proposes its share of a load as fast as the group takes it.
type null struct {
	g          *Group[int, struct{}]
	cmd        []byte
	left, out  int // to propose, to be answered
	window     int // bounds what is unanswered
	lost       int
	led, ended chan struct{}
}

func (m *null) Load(Tables, uint64) error { return nil }
func (m *null) Apply(Entry) struct{}      { return struct{}{} }
func (m *null) Flush(*Batch) error        { return nil }
func (m *null) Dirty() int                { return 0 }
func (m *null) Lead(uint64)               { close(m.led) }
func (m *null) Follow()                   {}
func (m *null) Tick(time.Time)            {}
func (m *null) Hash() uint64              { return 0 }

func (m *null) Done(_ int, o Outcome, _ struct{}) {
	if o != Committed {
		m.lost++
	}
	if m.out--; m.out == 0 && m.left == 0 {
		m.ended <- struct{}{}
	}
}

func (m *null) EndTurn() {}
func (m *null) Turn() {
	for m.left > 0 && m.out < m.window && m.g.Propose(m.cmd, m.left) {
		m.left--
		m.out++
	}
}

func openNull(b testing.TB, h *Host, id stanza.Group, window int) *null {
	b.Helper()
	m := &null{cmd: make([]byte, 200), window: window, led: make(chan struct{}), ended: make(chan struct{}, 1)}
	g, err := Open[int, struct{}](h, id, m)
	if err != nil {
		b.Fatal(err)
	}
	<-m.led
	if err := g.Call(b.Context(), func() { m.g = g }); err != nil {
		b.Fatal(err)
	}
	return m
}

// run proposes n commands and waits for their outcomes.
func (m *null) run(b testing.TB, n int) {
	if n == 0 {
		return
	}
	if err := m.g.Call(b.Context(), func() { m.left = n }); err != nil {
		b.Error(err)
	}
	<-m.ended
	if m.lost != 0 {
		b.Errorf("%d commands lost", m.lost)
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCommand measures a 200-byte command through 16 groups on a real disk, from Propose to Done, with packs of 64, 8 and 1. How
// many packs are in flight decides how many share an fsync, which is most of what a small pack costs.
func BenchmarkCommand(b *testing.B) {
	for _, c := range []struct{ size, inFlight int }{{64, 4}, {8, 4}, {8, 32}, {1, 4}, {1, 64}} {
		size := c.size
		b.Run(fmt.Sprintf("packs=%d/inflight=%d", size, c.inFlight), func(b *testing.B) {
			const groups = 16
			h := openHost(b, HostConfig{Dir: b.TempDir(), NodeID: "n", Bootstrap: true, PackCommands: size, PacksInFlight: c.inFlight,
				Heartbeat: 20 * time.Millisecond})
			var ms []*null
			for i := range groups {
				ms = append(ms, openNull(b, h, stanza.Group(i), c.inFlight*size))
			}
			packs := func() (n uint64) {
				for _, s := range h.Status() {
					n += s.Last
				}
				return n
			}
			runtime.GC()
			b.ReportAllocs()
			b.ResetTimer()
			before, first := cpuTime(), packs()
			var wg sync.WaitGroup
			for i, m := range ms {
				wg.Go(func() { m.run(b, (b.N+i)/groups) })
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(cpuTime()-before)/float64(b.N)/1000, "cpu-us/op")
			b.ReportMetric(float64(b.N)/float64(packs()-first), "cmds/pack")
		})
	}
}

// BenchmarkPackAllocs shows what a full pack allocates, raft and Pebble included, without a disk.
func BenchmarkPackAllocs(b *testing.B) {
	cfg := testConfig(vfs.NewMem())
	cfg.LogMemTable = 16 << 20
	h := openHost(b, cfg)
	m := openNull(b, h, 1, 64)
	b.ReportAllocs()
	for b.Loop() {
		m.run(b, 64)
	}
}

// BenchmarkReplay opens a group whose log holds 10,000 packs of 64 commands.
func BenchmarkReplay(b *testing.B) {
	cfg := HostConfig{Dir: b.TempDir(), NodeID: "n", Bootstrap: true, NoSync: true, SnapshotCount: 1 << 40, SnapshotBytes: 1 << 50,
		Heartbeat: 20 * time.Millisecond}
	h := openHost(b, cfg)
	m := openNull(b, h, 1, 256)
	m.run(b, 640_000)
	onNull := m.g
	b.ResetTimer()
	for b.Loop() {
		if err := onNull.Close(); err != nil {
			b.Fatal(err)
		}
		// The applied index was flushed at Close: forget it, as a crash would have.
		p := groupPrefix(keyApplied, 1)
		if err := h.state.Delete(p[:], pebble.NoSync); err != nil {
			b.Fatal(err)
		}
		onNull = openNull(b, h, 1, 256).g
	}
}
