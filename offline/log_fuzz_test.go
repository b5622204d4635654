package offline

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"linecard.example/internal/shard"
)

// mostEntries bounds a fuzzed log, so that the fuzzer does not spend its time on one.
const mostEntries = 64

// FuzzLog folds a log of any bytes twice, in peace and with flushes, crashes and evictions in between, and holds both against the model
// of the metamorphic test. The first entry that is no command must stop the host with an error that says so, and change nothing.
//
// An entry is a byte of what happens around it, two bytes of length, the command. Of the first byte the low four bits are what disturbs
// the second fold, the next two how much time passes, and the highest aims an ack at what its queue holds, which no mutation would hit.
func FuzzLog(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(randomLog(seed, 24))
	}
	for _, c := range commands() {
		f.Add(appendEntry(nil, 0, appendCommand(nil, &c)))
	}
	f.Add(appendEntry(randomLog(9, 5), 3, []byte("\x01\x63nonsense")))
	f.Fuzz(func(t *testing.T, script []byte) {
		m, calm, other := newModel(), newFold(t, 1, 1<<30), newFold(t, 2, 300)
		var log []shard.Entry
		for stamp := int64(100); len(script) >= 3 && len(log) < mostEntries; {
			around, n := script[0], min(int(binary.BigEndian.Uint16(script[1:])), len(script)-3)
			cmd := script[3 : 3+n : 3+n]
			script = script[3+n:]
			stamp += int64(around >> 4 & 3)
			var c command
			if err := decodeCommand(cmd, &c); err != nil {
				wantDamage(t, calm, shard.Entry{Index: uint64(len(log) + 1), Stamp: stamp, Cmd: cmd})
				break
			}
			if q := calm.s.find(keyOf(c.account, c.device)); c.op == opAck && around&0x80 != 0 && q != nil && q.exists() {
				c.upTo = q.head + c.upTo%(q.entries()+2) - 1 // none of it, up to more than there is
				cmd = appendCommand(nil, &c)
			}
			log = append(log, shard.Entry{Index: uint64(len(log) + 1), Stamp: stamp, Cmd: cmd})
			want := modelStep(m, calm.s, c, stamp)
			other.rng = rand.New(rand.NewPCG(uint64(around&15), uint64(len(log))))
			for _, f := range []*fold{calm, other} {
				if got := show(f.catchUp(log)); got != want {
					t.Fatalf("entry %d: %s, want %s: %+v", len(log), got, want, c)
				}
			}
			other.disturb()
			other.catchUp(log)
		}
		if diff := differ(m, calm, other); diff != "" {
			t.Fatal(diff)
		}
	})
}

// wantDamage folds an entry that is no command, and one behind it.
func wantDamage(t *testing.T, f *fold, e shard.Entry) {
	t.Helper()
	before := f.s.hash()
	var failure error
	f.s.fail = func(err error) { failure = err }
	r := f.s.apply(e)
	good := command{op: opDrop, account: 9, device: 2}
	after := f.s.apply(shard.Entry{Index: e.Index + 1, Stamp: e.Stamp, Cmd: appendCommand(nil, &good)})
	if r.verdict != refused || after.verdict != refused || !errors.Is(failure, errCommand) || f.s.broken == nil || f.s.hash() != before {
		t.Fatalf("%+v, %+v, failed with %v", r, after, failure)
	}
}

// appendEntry appends an entry as FuzzLog reads it.
func appendEntry(script []byte, around byte, cmd []byte) []byte {
	return append(binary.BigEndian.AppendUint16(append(script, around), uint16(len(cmd))), cmd...)
}

// randomLog is a script of commands over few names, so that they meet.
func randomLog(seed uint64, entries int) (script []byte) {
	g := &operations{rng: rand.New(rand.NewPCG(seed, 3)), stamp: 100, ids: map[streamKey]uint64{}}
	m, s := newModel(), newState(mustNotFail, 4)
	if err := s.load(newMemTables()); err != nil {
		panic(err)
	}
	for i := range entries {
		c := g.next(m, s)
		script = appendEntry(script, byte(g.rng.IntN(256)), appendCommand(nil, &c))
		modelStep(m, s, c, g.stamp)
		s.apply(shard.Entry{Index: uint64(i + 1), Stamp: g.stamp, Cmd: appendCommand(nil, &c)})
	}
	return script
}
