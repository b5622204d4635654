package shard

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func buildPack(p pack, cmds ...[]byte) []byte {
	b := make([]byte, packHeader)
	for _, c := range cmds {
		b = appendCommand(b, c)
	}
	p.count = len(cmds)
	p.putHeader(b)
	return b
}

func TestPackRoundTrip(t *testing.T) {
	cmds := [][]byte{{}, []byte("a"), bytes.Repeat([]byte("x"), 300)}
	p, err := decodePack(buildPack(pack{nonce: 1 << 63, seq: 7, stamp: 1 << 41}, cmds...))
	if err != nil || p.nonce != 1<<63 || p.seq != 7 || p.stamp != 1<<41 || p.lead || p.count != 3 {
		t.Fatalf("%+v %v", p, err)
	}
	rest := p.body
	for _, want := range cmds {
		var got []byte
		if got, rest, _ = nextCommand(rest); !bytes.Equal(got, want) {
			t.Fatalf("%q", got)
		}
	}
	if p, err := decodePack(buildPack(pack{lead: true, seq: 1})); err != nil || !p.lead || p.count != 0 {
		t.Fatalf("%+v %v", p, err)
	}
}

func TestPackRefuses(t *testing.T) {
	good := buildPack(pack{seq: 1}, []byte("abc"))
	change := func(f func(b []byte) []byte) []byte { return f(append([]byte(nil), good...)) }
	for name, b := range map[string][]byte{
		"empty":          nil,
		"short":          good[:packHeader-1],
		"version":        change(func(b []byte) []byte { b[0] = 2; return b }),
		"flags":          change(func(b []byte) []byte { b[1] = 2; return b }),
		"lead with load": change(func(b []byte) []byte { b[1] = packLead; return b }),
		"negative stamp": change(func(b []byte) []byte { b[18] = 0x80; return b }),
		"count high":     change(func(b []byte) []byte { b[27] = 2; return b }),
		"count huge":     change(func(b []byte) []byte { b[26] = 0xff; return b }),
		"cut":            good[:len(good)-1],
		"trailing":       append(append([]byte(nil), good...), 0),
		"long varint":    append(append([]byte(nil), good[:packHeader]...), 0x83, 0x00, 'a', 'b', 'c'),
	} {
		if _, err := decodePack(b); !errors.Is(err, ErrPack) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzPack(f *testing.F) {
	f.Add(buildPack(pack{nonce: 3, seq: 1, stamp: 9}, []byte("abc"), nil))
	f.Add(buildPack(pack{lead: true}))
	f.Add([]byte{1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePack(b)
		if err != nil {
			return
		}
		var cmds [][]byte
		rest := p.body
		for range p.count {
			var c []byte
			var ok bool
			if c, rest, ok = nextCommand(rest); !ok {
				t.Fatal("checked, but not readable")
			}
			cmds = append(cmds, c)
		}
		if !bytes.Equal(buildPack(p, cmds...), b) {
			t.Fatal("not canonical")
		}
	})
}

// FuzzLogRecord: what decodes as a record of the raft log has exactly one encoding.
func FuzzLogRecord(f *testing.F) {
	for _, l := range []*raft.Log{
		{Index: 7, Term: 3, Type: raft.LogCommand, Data: buildPack(pack{nonce: 3, seq: 1, stamp: 9}, []byte("abc")), AppendedAt: time.Unix(1, 0)},
		{Index: 7, Term: 1 << 63, Type: raft.LogConfiguration, Extensions: []byte("ext"), Data: []byte("data")},
		{Index: 7},
	} {
		b := make([]byte, logValueHeader+len(l.Extensions)+len(l.Data))
		putLogValue(b, l)
		f.Add(b)
		f.Add(b[:len(b)-1])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var l raft.Log
		if err := getLogValue(b, 7, &l); err != nil {
			if !errors.Is(err, errLogRecord) {
				t.Fatal(err)
			}
			return
		}
		again := make([]byte, logValueHeader+len(l.Extensions)+len(l.Data))
		putLogValue(again, &l)
		if !bytes.Equal(again, b) {
			t.Fatalf("% x is encoded as % x", b, again)
		}
	})
}
