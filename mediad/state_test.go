package mediad

import (
	"bytes"
	"reflect"
	"testing"
)

// stateOf is a whole state file: the head and the slot in its place, beside an empty one.
func stateOf(r *record) []byte {
	b := append(r.appendHead(nil), make([]byte, 2*slotSize)...)
	copy(b[r.slotAt():], r.appendSlot(nil))
	return b
}

func testRecord() record {
	r := record{
		account: 1<<64 - 1, length: 5000, created: 1_700_000_000, meta: bytes.Repeat([]byte{'m'}, maxMeta),
		seq: 7, phase: phaseComplete, offset: 5000, expires: 1_700_086_400, hash: blobHash{1, 2, 3}, sum: bytes.Repeat([]byte{9}, maxSum),
	}
	return r
}

func TestRecord(t *testing.T) {
	r := testRecord()
	b := stateOf(&r)
	if len(b) != stateSize {
		t.Fatalf("%d bytes", len(b))
	}
	if got, err := parseRecord(b); err != nil || !reflect.DeepEqual(got, r) {
		t.Fatalf("%+v, %v", got, err)
	}
	older := r
	older.seq, older.phase, older.offset, older.hash = 6, phaseOpen, 4000, blobHash{}
	copy(b[older.slotAt():], older.appendSlot(nil))
	if got, err := parseRecord(b); err != nil || got.seq != 7 {
		t.Fatalf("the slot with sequence %d counts, %v", got.seq, err)
	}
	for at := range b { // whatever bit is wrong, what is read is one of the two that were written
		b[at] ^= 0x10
		got, err := parseRecord(b)
		if err == nil && !reflect.DeepEqual(got, r) && !reflect.DeepEqual(got, older) {
			t.Fatalf("with byte %d wrong it is %+v", at, got)
		}
		if err == nil && at < headSize {
			t.Fatalf("a head with byte %d wrong was read", at)
		}
		b[at] ^= 0x10
	}
	for n := range b {
		if _, err := parseRecord(b[:n]); err == nil {
			t.Fatalf("%d bytes were read", n)
		}
	}
	for name, change := range map[string]func(*record){
		"behind its length":     func(r *record) { r.phase, r.offset = phaseOpen, r.length+1 },
		"less than nothing":     func(r *record) { r.phase, r.offset = phaseOpen, -1 },
		"complete too early":    func(r *record) { r.offset-- },
		"no phase":              func(r *record) { r.phase = 0 },
		"a phase of the future": func(r *record) { r.phase = phaseFinished + 1 },
		"no length":             func(r *record) { r.phase, r.offset, r.length = phaseOpen, -1, -1 },
	} {
		bad := testRecord()
		change(&bad)
		if got, err := parseRecord(stateOf(&bad)); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// FuzzRecord: what can be read is written the same; checksums are put right first, so that the fuzzer comes behind them.
func FuzzRecord(f *testing.F) {
	r := testRecord()
	f.Add(stateOf(&r))
	small := record{length: 3, phase: phaseOpen, offset: 2, sum: []byte{1}, meta: []byte{}}
	f.Add(stateOf(&small))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == stateSize {
			b = bytes.Clone(b)
			for _, part := range [][2]int{{0, headSize}, {headSize, slotSize}, {headSize + slotSize, slotSize}} {
				body := b[part[0] : part[0]+part[1]-crcSize]
				copy(b[part[0]:], sealPart(bytes.Clone(body), 0, part[1]))
			}
		}
		r, err := parseRecord(b)
		if err != nil {
			return
		}
		again, err := parseRecord(stateOf(&r))
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Fatalf("%+v, then %+v, %v", r, again, err)
		}
	})
}

// FuzzReference: a name that is taken is the one that is written.
func FuzzReference(f *testing.F) {
	f.Add(reference{blobHash{0xab}, 7, 5000}.name())
	f.Add("..")
	f.Fuzz(func(t *testing.T, name string) {
		if r, ok := parseReference(name); ok && r.name() != name {
			t.Fatalf("%q is read as %q", name, r.name())
		}
	})
}
