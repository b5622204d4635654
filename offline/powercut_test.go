package offline

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/vfs"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// valve holds the syncs of write-ahead logs back when it is shut.
type valve struct {
	vfs.FS

	mu     sync.Mutex
	left   int           // syncs to let through while it is being shut
	shut   chan struct{} // closed to open it; nil: it is open
	waited func()        // told that a sync waits
}

type valveFile struct {
	vfs.File
	v *valve
}

func (v *valve) wrap(f vfs.File, name string, err error) (vfs.File, error) {
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return valveFile{f, v}, nil
}

func (v *valve) Create(name string) (vfs.File, error) {
	f, err := v.FS.Create(name)
	return v.wrap(f, name, err)
}

func (v *valve) ReuseForWrite(oldName, newName string) (vfs.File, error) {
	f, err := v.FS.ReuseForWrite(oldName, newName)
	return v.wrap(f, newName, err)
}

func (f valveFile) Sync() error {
	f.v.wait()
	return f.File.Sync()
}

func (f valveFile) SyncData() error {
	f.v.wait()
	return f.File.SyncData()
}

func (f valveFile) SyncTo(length int64) (bool, error) {
	f.v.wait()
	return f.File.SyncTo(length)
}

func (v *valve) wait() {
	v.mu.Lock()
	shut := v.shut
	if v.left > 0 {
		v.left--
		shut = nil
	}
	if shut != nil {
		v.waited()
	}
	v.mu.Unlock()
	if shut != nil {
		<-shut
	}
}

// close lets n more syncs through and holds what comes then.
func (v *valve) close(n int, waited func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.left, v.shut, v.waited = n, make(chan struct{}), waited
}

func (v *valve) open() {
	v.mu.Lock()
	defer v.mu.Unlock()
	close(v.shut)
	v.shut = nil
}

// TestPowerCutKeepsAcked cuts the power of a real daemon at sync after sync of its log, while it stores: what was acked before the
// cut is delivered after it, in order. While a sync is held back nothing may be acked that waits for it: a daemon that acks first is
// never right by chance.
func TestPowerCutKeepsAcked(t *testing.T) {
	const shards = 2
	disk := vfs.NewStrictMem()
	v := &valve{FS: disk}
	rng := rand.New(rand.NewPCG(3, 1))
	id, want := uint64(0), map[uint64]bool{}
	for cut := range 12 {
		o, end := openDaemon(t, v, cut == 0, shards)
		h := &harness{t: t, o: o, woken: make(chan struct{}, 1)}
		gw := h.peerOf(shards)
		for range shards {
			gw.take(link.KindHello)
		}
		id++
		gw.drain(shards, id, want)
		clear(want)
		first := id + 1
		acked := func() int {
			for _, e := range gw.takeAll(link.KindAck) {
				if e.ID >= first {
					want[e.ID] = true
				}
			}
			return len(want)
		}
		send := func(n int) {
			for range n {
				id++
				gw.storeIn(shards, id, 0, stanza.Account(1+rng.IntN(2)))
			}
		}
		before, during := 1+rng.IntN(20), 40
		send(before)
		h.until("the first acks", func() bool { return acked() == before })
		held := false
		v.close(cut%4, func() { held = true; h.notify() })
		send(during)
		h.until("a sync that waits, or all acks", func() bool {
			n := acked()
			v.mu.Lock()
			defer v.mu.Unlock()
			return held || n == before+during
		})
		gw.fence() // the acks before it were sent without that sync
		acked()
		disk.SetIgnoreSyncs(true)
		v.open()
		gw.stop()
		end()
		disk.ResetToSyncedState()
		disk.SetIgnoreSyncs(false)
	}
}

// takeAll removes and returns the envelopes of a kind that are here.
func (p *peer) takeAll(k link.Kind) (got []link.Envelope) {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := p.got[:0]
	for _, e := range p.got {
		if e.Kind == k {
			got = append(got, e)
		} else {
			left = append(left, e)
		}
	}
	p.got = left
	return got
}

// drain attaches the devices of accounts 1 and 2 and reads until the message last, which it stores for both: whatever is not there
// before it is lost.
func (p *peer) drain(shards int, last uint64, want map[uint64]bool) {
	t := p.h.t
	t.Helper()
	seen := map[uint64]bool{}
	for to := stanza.Account(1); to <= 2; to++ {
		p.storeIn(shards, last, 0, to)
		p.take(link.KindAck)
		p.send(link.Envelope{
			Kind: link.KindAttach, Group: stanza.QueueGroup(stanza.ShardOf(to, shards)), Gateway: p.id, Account: to, Device: 1,
			Slot: uint32(to), Gen: 1, Serial: link.Fence(last),
		})
		for id, before := uint64(0), uint64(0); id != last; before = id {
			var e link.Envelope
			if e, id = p.delivered(); id <= before || e.Account != to {
				t.Fatalf("account %d: message %d after %d", e.Account, id, before)
			}
			seen[id] = true
			p.answer(link.KindDeliveryAck, e, e.ID)
		}
	}
	var lost []uint64
	for id := range want {
		if !seen[id] {
			lost = append(lost, id)
		}
	}
	if len(lost) > 0 {
		slices.Sort(lost)
		t.Fatalf("%d messages were acked before the power was cut, and are lost: %d", len(lost), lost)
	}
}
