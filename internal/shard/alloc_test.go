package shard

import "testing"

// A pack costs its buffer; commands and their contexts cost nothing.
func TestPackAllocations(t *testing.T) {
	var p proposals[int]
	cmd := make([]byte, 200)
	fill := func() {
		for i := range MaxPackCommands {
			p.add(cmd, i, false, MaxPackCommands, 0)
		}
		t := p.waiting()
		p.submit(t, 0)
		p.resolve(t, Committed)
		p.recycle(p.pop())
	}
	fill()
	if n := testing.AllocsPerRun(100, fill); n > 1 {
		t.Errorf("%v allocations for a pack of %d commands", n, MaxPackCommands)
	}
	if p.pending != 0 || p.inFlight != 0 || !p.empty() {
		t.Errorf("%d bytes, %d packs left", p.pending, p.inFlight)
	}
}

func TestDecodeAllocatesNothing(t *testing.T) {
	var cmds [][]byte
	for range MaxPackCommands {
		cmds = append(cmds, make([]byte, 200))
	}
	b := buildPack(pack{seq: 1}, cmds...)
	n := testing.AllocsPerRun(100, func() {
		p, err := decodePack(b)
		if err != nil {
			t.Fatal(err)
		}
		for rest := p.body; len(rest) > 0; {
			_, rest, _ = nextCommand(rest)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// From Propose to Done a full pack costs what raft and Pebble allocate for one entry, however many commands it holds.
func TestSteadyStateAllocations(t *testing.T) {
	cfg := testConfig(nil)
	cfg.Dir, cfg.NoSync, cfg.LogMemTable = t.TempDir(), true, 16<<20
	h := openHost(t, cfg)
	m := openNull(t, h, 1, 64)
	m.run(t, 64*100)
	n := testing.AllocsPerRun(200, func() { m.run(t, 64) })
	t.Logf("%.0f allocations for a pack of 64 and its Call", n)
	if n > 48 {
		t.Errorf("%.0f allocations for a pack of 64 commands", n)
	}
}
