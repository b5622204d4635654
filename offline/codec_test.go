package offline

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"

	"linecard.example/internal/stanza"
)

func commands() []command {
	ids := stanza.AppendPacked(nil, []uint64{3, 4, 90})
	return []command{
		message(7, 1, 10, 9, 9, 1, 2),
		{op: opRead, from: 7, fromDevice: 1, id: 3, account: 9, device: 2, maxEntries: 5, maxBytes: 6, body: ids},
		{op: opAck, account: 9, device: 2, upTo: 1 << 50},
		{op: opReceipt, account: 9, device: 2, from: 7, tag: stanza.TagDelivered, again: true, maxEntries: 1, maxBytes: 2, body: ids},
		{op: opConfirm, account: 9, device: 2, from: 7, tag: stanza.TagDelivered, body: ids},
		{op: opExpireQueues, cut: 5, cutTombs: 6, lo: [2]uint64{7, 0}, hi: [2]uint64{8, 0}},
		{op: opDrop, account: 9, device: 2},
		{op: opExpireStreams, cut: 5, lo: [2]uint64{7, 1}, hi: [2]uint64{8, 2}},
		{op: opExpireReceipts, cut: 5},
	}
}

func TestCommands(t *testing.T) {
	for _, c := range commands() {
		b := appendCommand([]byte("before"), &c)
		var got command
		if err := decodeCommand(b[6:], &got); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		if c.body == nil {
			c.body = []byte{}
		}
		if !reflect.DeepEqual(got, c) {
			t.Errorf("%+v, want %+v", got, c)
		}
		for n := range len(b) - 6 {
			if err := decodeCommand(b[6:6+n], &got); err == nil && c.op != opMessage && c.op != opRead && c.op != opReceipt && c.op != opConfirm {
				t.Errorf("operation %d decodes from %d of %d bytes", c.op, n, len(b)-6)
			}
		}
	}
}

func FuzzCommand(f *testing.F) {
	for _, c := range commands() {
		f.Add(appendCommand(nil, &c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var c command
		if decodeCommand(b, &c) != nil {
			return
		}
		if again := appendCommand(nil, &c); !bytes.Equal(again, b) {
			t.Errorf("%x is encoded as %x", b, again)
		}
	})
}

func TestRecords(t *testing.T) {
	var sib siblings
	sib.add(3, 900)
	sib.add(4, 1<<40)
	for _, want := range []record{
		{kind: recordMessage, index: 1 << 40, from: 7, fromDevice: 2, id: 9, stamp: 1_700_000_000_000, body: []byte("x")},
		{kind: recordMessage, index: 5, from: 7, fromDevice: 2, id: 9, stamp: 1, siblings: sib, body: []byte("xyz")},
		{kind: recordRead, index: 5, from: 7, stamp: 1, body: []byte{1}},
		{kind: recordDelivered, index: 5, from: 7, stamp: 1, body: []byte{1, 2}},
	} {
		b := appendRecord(nil, &want)
		var got record
		if !decodeRecord(b, &got) || string(got.body) != string(want.body) {
			t.Fatalf("%+v", got)
		}
		d, seq, ok := got.siblings.next()
		if want.siblings.n > 0 && (d != 3 || seq != 900 || !ok) {
			t.Error("sibling", d, seq)
		}
		for n := range len(b) - len(want.body) {
			if decodeRecord(b[:n], &got) {
				t.Errorf("decodes from %d of %d bytes", n, len(b))
			}
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add(appendRecord(nil, &record{kind: recordMessage, index: 5, from: 7, fromDevice: 2, id: 9, stamp: 1, body: []byte("xyz")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r record
		if decodeRecord(b, &r) {
			for {
				if _, _, ok := r.siblings.next(); !ok {
					break
				}
			}
		}
		decodeQueue(b, newQueue(1))
		decodePending(b, &pending{})
		decodeStream(b)
	})
}

func TestConfig(t *testing.T) {
	if faults := DefaultConfig().Validate(); faults != nil {
		t.Error(faults)
	}
	faults := Config{}.Validate()
	if n := reflect.TypeFor[Config]().NumField(); len(faults) != n {
		t.Errorf("%d faults of %d fields", len(faults), n)
	}
	for _, err := range faults {
		if !strings.HasPrefix(err.Error(), "offline.") {
			t.Error(err)
		}
	}
	c := DefaultConfig()
	c.QueueBytes = math.MaxInt64
	if len(c.Validate()) != 1 {
		t.Error(c.Validate())
	}
}
