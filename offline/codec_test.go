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
		{op: opReceipt, account: 9, device: 2, from: 7, tag: stanza.TagUndelivered, reason: stanza.ReasonUnknownAccount, maxEntries: 1, maxBytes: 2, body: ids},
		{op: opForwardRead, from: abroadA, fromDevice: 1, id: 3, account: 9, device: 2, maxEntries: 5, maxBytes: 6, body: ids},
		outbound(7, 10, 9, abroadA, 1, 2),
		sentTo(abroadA, 1<<50, 0, 3, 900),
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
			if err := decodeCommand(b[6:6+n], &got); err == nil && c.op != opMessage && c.op != opRead && c.op != opReceipt && c.op != opConfirm && c.op != opForwardRead && c.op != opSent {
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
		{kind: recordUndelivered, index: 5, from: abroadA, why: stanza.ReasonStaleDevices, stamp: 1, body: []byte{1, 2}},
		{kind: recordOut, index: 5, from: 7, fromDevice: 2, id: 9, stamp: 1, body: []byte("stanza")},
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

// FuzzRecord reads any bytes as each kind of table record: what is taken is within its bounds and says the same when it is written again.
func FuzzRecord(f *testing.F) {
	var sib siblings
	sib.add(3, 900)
	f.Add(appendRecord(nil, &record{kind: recordMessage, index: 5, from: 7, fromDevice: 2, id: 9, stamp: 1, body: []byte("xyz")}))
	f.Add(appendRecord(nil, &record{kind: recordMessage, index: 5, from: 7, fromDevice: 2, id: 9, stamp: 1, siblings: sib, body: []byte("xyz")}))
	f.Add(appendRecord(nil, &record{kind: recordRead, index: 5, from: 7, stamp: 1, body: []byte{1}}))
	f.Add(appendQueue(nil, &queue{head: 70, next: 90, bytes: 5000, oldest: 3, tomb: 4, raised: []span{{72, 75}, {80, 90}}}))
	f.Add(appendPending(nil, &pending{batches: []receiptBatch{{stamp: 4, ids: []uint64{3, 4, 90}}, {stamp: 5, ids: []uint64{1}}}}))
	f.Add(appendStream(nil, streamState{last: 1 << 40, stamp: 7}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again record
		if decodeRecord(b, &r) && r.siblings.n == 0 { // a list that was read runs into the body, and is not written again
			enc := appendRecord(nil, &r)
			if !decodeRecord(enc, &again) || !bytes.Equal(appendRecord(nil, &again), enc) {
				t.Fatalf("%+v written and read is %+v", r, again)
			}
		}
		if q, p := newQueue(1), uint64(0); decodeQueue(b, q) {
			for _, sp := range q.raised {
				if p = max(p, q.head); sp.lo < p || sp.hi <= sp.lo || sp.hi > q.next {
					t.Fatalf("raised %v of [%d, %d)", q.raised, q.head, q.next)
				}
				p = sp.hi
			}
			if !bytes.Equal(appendQueue(nil, q), b) {
				t.Fatalf("%x: a queue is encoded as %x", b, appendQueue(nil, q))
			}
		}
		if p := new(pending); decodePending(b, p) && !bytes.Equal(appendPending(nil, p), b) {
			t.Fatalf("%x: receipts are encoded as %x", b, appendPending(nil, p))
		}
		if s, ok := decodeStream(b); ok && !bytes.Equal(appendStream(nil, s), b) {
			t.Fatalf("%x: a stream is encoded as %x", b, appendStream(nil, s))
		}
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
