package router

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"linecard.example/internal/stanza"
)

// mostEntries bounds a fuzzed log or session, so that the fuzzer does not spend its time on one.
const mostEntries = 64

// FuzzLog folds a log of any bytes into a directory and holds every result and the end against the map model. What decodes has exactly
// one encoding; the first entry that is no command, or that belongs to another cluster, must stop the host with an error that says so
// and change nothing.
//
// An entry is a byte of what happens before it (the low two bits: time that passes; 4: what was decoded last is another account), a byte of
// length, the command.
func FuzzLog(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(randomLog(seed, 40))
	}
	for _, c := range sampleCommands {
		f.Add(appendEntry(nil, 0, c.append(nil)))
	}
	var rotations []byte // in turn, one of them twice, one out of turn
	for _, id := range []uint64{1, 2, 2, 3, 5, 4} {
		rotations = appendEntry(rotations, 2, (&command{op: opTicketKey, id: id, key: key(byte(id))}).append(nil))
	}
	f.Add(rotations)
	f.Add(appendEntry(randomLog(9, 5), 3, []byte("\x01\x63nonsense")))
	f.Fuzz(func(t *testing.T, script []byte) {
		d, m := newTestDirectory(memRecords{}), newModel()
		var failed error
		d.fail = func(err error) { failed = err }
		stamp := int64(1000)
		for i := 0; i < mostEntries && len(script) >= 2; i++ {
			before, n := script[0], min(int(script[1]), len(script)-2)
			cmd := script[2 : 2+n]
			script = script[2+n:]
			stamp += int64(before & 3)
			if before&4 != 0 {
				d.open = accountRecord{version: 9, next: 9, handle: []byte("stale"), devices: make([]deviceRecord, 3)}
			}
			c, err := decodeCommand(cmd)
			if err == nil && !bytes.Equal(c.append(nil), cmd) {
				t.Fatalf("% x is encoded as % x", cmd, c.append(nil))
			}
			hash, _ := d.hash()
			got := d.apply(entry(stamp, cmd))
			if err != nil || c.op == opFacts && failed != nil {
				if after, _ := d.hash(); got.reason != stanza.ReasonInternal || after != hash || failed == nil || err != nil && !errors.Is(failed, errCommand) {
					t.Fatalf("% x: %+v, failed with %v, changed %v", cmd, got, failed, after != hash)
				}
				return
			}
			if want := m.apply(stamp, &c); got != want || failed != nil {
				t.Fatalf("%+v: %+v, want %+v; failed with %v", c, got, want, failed)
			}
		}
		checkDirectory(t, d)
		if lines, err := directoryLines(d); err != nil || !slices.Equal(lines, m.lines()) {
			t.Fatalf("%v\nhave %q\nwant %q", err, lines, m.lines())
		}
	})
}

// appendEntry appends an entry as FuzzLog reads it.
func appendEntry(script []byte, before byte, cmd []byte) []byte {
	return append(append(script, before, byte(len(cmd))), cmd...)
}

// randomLog is a script of commands over few names, so that they meet.
func randomLog(seed uint64, entries int) (script []byte) {
	rng := rand.New(rand.NewPCG(seed, 3))
	for i := range entries {
		c := randomCommand(rng)
		if i < entries/4 {
			c = command{op: opRegister, text: []byte{'h', byte('a' + i)}, key: key(byte(i)), create: true}
		} else if c.op == opInviteCreate {
			c.until = 1000 + int64(rng.IntN(40))
		}
		if c.op == opInviteExpire {
			c.until = 1000 + int64(rng.IntN(40))
		}
		if c.account != 0 { // among those that are there
			c.account = stanza.Account((1+rng.IntN(entries/4))*testShards + testShard)
		}
		if c.by != 0 {
			c.by = stanza.Device(1 + rng.IntN(3))
		}
		script = appendEntry(script, byte(rng.IntN(8)), c.append(nil))
	}
	return script
}
