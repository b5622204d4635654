package shard

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/vfs"
	"linecard.example/internal/stanza"
)

// toy is a machine whose state is an order-sensitive hash of everything it applied, with stamps, and how often each command came.
type toy struct {
	o       *Overlay
	chain   uint64
	count   uint64
	stamp   int64
	loadedF uint64
	loadLed bool // it led when it was loaded
	replays int  // entries applied
	term    uint64
	ticks   int
	onTurn  func()
	onLead  func()
	onDone  func(ctx int, o Outcome)
	noDone  bool // keep no record of outcomes
	led     chan uint64
	follows int

	mu   sync.Mutex
	done []result
}

type result struct {
	ctx int
	out Outcome
	r   uint64
}

func newToy() *toy { return &toy{led: make(chan uint64, 64)} }

var chainKey = []byte("\x00chain")

func (m *toy) Load(t Tables, applied uint64) error {
	m.o = NewOverlay(t, 1<<16)
	m.loadedF, m.loadLed = applied, m.term != 0
	m.chain, m.count, m.stamp = 0, 0, 0
	v, ok, err := m.o.Get(chainKey)
	if ok {
		m.chain, m.count = binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:])
		m.stamp = int64(binary.BigEndian.Uint64(v[16:]))
	}
	return err
}

func (m *toy) Apply(e Entry) uint64 {
	if e.Stamp < m.stamp {
		panic(fmt.Sprintf("stamp fell from %d to %d", m.stamp, e.Stamp))
	}
	m.replays++
	m.stamp = e.Stamp
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], m.chain)
	binary.BigEndian.PutUint64(b[8:], uint64(e.Stamp))
	d := xxhash.New()
	d.Write(b[:])
	d.Write(e.Cmd)
	m.chain = d.Sum64()
	m.count++
	v, _, err := m.o.Get(e.Cmd)
	if err != nil {
		panic(err)
	}
	n, _ := binary.Uvarint(v)
	m.o.Set(e.Cmd, binary.AppendUvarint(nil, n+1))
	return m.count
}

func (m *toy) Done(ctx int, o Outcome, r uint64) {
	if !m.noDone {
		m.mu.Lock()
		m.done = append(m.done, result{ctx, o, r})
		m.mu.Unlock()
	}
	if m.onDone != nil {
		m.onDone(ctx, o)
	}
}

func (m *toy) Flush(b *Batch) error {
	v := binary.BigEndian.AppendUint64(nil, m.chain)
	v = binary.BigEndian.AppendUint64(v, m.count)
	m.o.Set(chainKey, binary.BigEndian.AppendUint64(v, uint64(m.stamp)))
	m.o.FlushTo(b)
	return nil
}

func (m *toy) Dirty() int { return m.o.Size() }
func (m *toy) Lead(term uint64) {
	m.term = term
	if m.onLead != nil {
		m.onLead()
	}
	m.led <- term
}
func (m *toy) Follow()        { m.term = 0; m.follows++ }
func (m *toy) Tick(time.Time) { m.ticks++ }
func (m *toy) EndTurn()       {}
func (m *toy) Turn() {
	if m.onTurn != nil {
		m.onTurn()
	}
}

func (m *toy) Hash() uint64 {
	d := xxhash.New()
	fmt.Fprint(d, m.chain, m.count, m.stamp)
	if err := m.o.Scan([]byte{1}, nil, func(k, v []byte) bool { fmt.Fprintf(d, "%q=%q", k, v); return true }); err != nil {
		panic(err)
	}
	return d.Sum64()
}

func (m *toy) results() []result {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]result(nil), m.done...)
}

// committed returns how many proposals are known to be committed, failing on any other outcome.
func (m *toy) committed(t testing.TB) int {
	t.Helper()
	for i, r := range m.results() {
		if r.out != Committed || r.ctx != i {
			t.Fatalf("outcome %d: %+v", i, r)
		}
	}
	return len(m.results())
}

type toyGroup = Group[int, uint64]

func testConfig(fs vfs.FS) HostConfig {
	return HostConfig{Dir: "d", FS: fs, NodeID: "n1", Heartbeat: 10 * time.Millisecond, Cache: 1 << 20,
		LogMemTable: 256 << 10, StateMemTable: 256 << 10, Bootstrap: true}
}

func openHost(t testing.TB, cfg HostConfig) *Host {
	t.Helper()
	if testing.Verbose() && cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	h, err := OpenHost(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// openToy opens a group and waits until it leads.
func openToy(t testing.TB, h *Host, g stanza.Group, m *toy) *toyGroup {
	t.Helper()
	x, err := Open[int, uint64](h, g, m)
	if err != nil {
		t.Fatal(err)
	}
	awaitLead(t, m)
	return x
}

func awaitLead(t testing.TB, m *toy) {
	t.Helper()
	select {
	case <-m.led:
	case <-time.After(10 * time.Second):
		t.Fatal("no leader")
	}
}

func onShard(t testing.TB, g *toyGroup, f func()) {
	t.Helper()
	if err := g.Call(context.Background(), f); err != nil {
		t.Fatal(err)
	}
}

// propose proposes commands from..to-1 and waits until all are answered; a command is the text of its number modulo 100.
func propose(t testing.TB, g *toyGroup, m *toy, from, to int) {
	t.Helper()
	done := make(chan struct{})
	left := to - from
	onShard(t, g, func() {
		m.onDone = func(int, Outcome) {
			if left--; left == 0 {
				close(done)
			}
		}
		next := from
		m.onTurn = func() {
			for next < to && g.Propose([]byte(fmt.Sprint("k", next%100)), next) {
				next++
			}
		}
	})
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("proposals not answered")
	}
	onShard(t, g, func() { m.onTurn, m.onDone = nil, nil })
}

func hashOf(t testing.TB, g *toyGroup, m *toy) (h uint64) {
	t.Helper()
	onShard(t, g, func() { h = m.Hash() })
	return h
}

// toggle is a switch that tests throw from another goroutine.
type toggle struct{ v atomic.Bool }

func (s *toggle) set()     { s.v.Store(true) }
func (s *toggle) on() bool { return s.v.Load() }
