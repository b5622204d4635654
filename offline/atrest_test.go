package offline

import (
	"errors"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"linecard.example/internal/shard"
)

// resting loads a copy of the fold's tables, as a checkpoint at this moment has them.
func resting(t *testing.T, f *fold) (*atRest, *memTables) {
	t.Helper()
	tab := newMemTables()
	tab.rows = maps.Clone(f.tab.rows)
	a := &atRest{s: newState(func(error) {}, restingStreams)}
	if err := a.s.load(tab); err != nil {
		t.Fatal(err)
	}
	return a, tab
}

// TestAtRest: whatever was flushed, written ahead and deleted when, a copy of the tables is found whole, and the log behind them brings it
// to the state of the original. What is taken out of it, changed or left behind is found.
func TestAtRest(t *testing.T) {
	copies, spoiled := 0, map[byte]int{}
	for seed := range uint64(8) {
		g := &operations{rng: rand.New(rand.NewPCG(seed, 9)), stamp: 100, ids: map[streamKey]uint64{}}
		m, f := newModel(), newFold(t, seed, 300)
		var log []shard.Entry
		for step := range 150 {
			c := g.next(m, f.s)
			log = append(log, shard.Entry{Index: uint64(len(log) + 1), Stamp: g.stamp, Cmd: appendCommand(nil, &c)})
			modelStep(m, f.s, c, g.stamp)
			f.catchUp(log)
			f.disturb()
			f.catchUp(log)
			if step%5 != 0 {
				continue
			}
			copies++
			a, _ := resting(t, f)
			if err := a.Check(); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
			for _, e := range log[f.flushedTo():] {
				if err := a.Fold(e); err != nil {
					t.Fatal(err)
				}
			}
			if h, err := a.Hash(); err != nil || h != f.s.hash() {
				t.Fatalf("seed %d step %d: hash %x, want %x: %v", seed, step, h, f.s.hash(), err)
			}
			for key := range f.tab.rows {
				spoil(t, f, key, spoiled)
			}
		}
	}
	t.Logf("%d copies; found of each kind: %v", copies, spoiled)
	if spoiled[tableMessage] == 0 || spoiled[tableQueue] == 0 || spoiled[tableTotals] == 0 || spoiled[tableStream] == 0 {
		t.Errorf("found %v", spoiled)
	}
}

// flushedTo is F.
func (f *fold) flushedTo() uint64 {
	g := &fold{t: f.t, tab: &memTables{rows: maps.Clone(f.tab.rows)}}
	g.open()
	return g.next - 1
}

// spoil takes one row away, or makes it too short, which must be found.
func spoil(t *testing.T, f *fold, key string, found map[byte]int) {
	t.Helper()
	a, tab := resting(t, f)
	val, there := tab.rows[key]
	if !there || key == appliedKey {
		return // a run that was written ahead: loading deletes it
	}
	delete(tab.rows, key)
	if key[0] == tableTotals { // read by the load
		a = &atRest{s: newState(func(error) {}, restingStreams)}
		if err := a.s.load(tab); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Check(); err != nil {
		found[key[0]]++
		if !errors.Is(err, errTables) && !strings.Contains(err.Error(), "record") {
			t.Errorf("%q: %v", key, err)
		}
	} else if key[0] == tableMessage {
		t.Errorf("a missing %s was not found", describe([]byte(key)))
	}
	a, tab = resting(t, f)
	tab.rows[key] = val[:len(val)-1]
	if key[0] == tableReceipt || key[0] == tableTotals {
		err := newState(func(error) {}, 1).load(tab)
		if err == nil {
			t.Errorf("a shortened %s was not found", describe([]byte(key)))
		}
		return
	}
	if err := a.Check(); err != nil {
		found[key[0]]++
	} else if key[0] == tableMessage || key[0] == tableStream {
		t.Errorf("a shortened %s was not found", describe([]byte(key)))
	}
}

// TestAtRestOrphans: a record of no queue is content that nobody will get, and that is not deleted.
func TestAtRestOrphans(t *testing.T) {
	f := newFold(t, 1, 300)
	rec := appendRecord(nil, &record{kind: recordMessage, index: 1, from: 2, fromDevice: 1, id: 1, stamp: 1, body: []byte("x")})
	f.tab.rows[string(appendKey(nil, tableMessage, uint64(keyOf(7, 1)), 3))] = string(rec)
	a, _ := resting(t, f)
	if err := a.Check(); err == nil || !strings.Contains(err.Error(), "account 7 device 1 sequence 3 is in no queue") {
		t.Errorf("%v", err)
	}
}
