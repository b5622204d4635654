package offline

import (
	"fmt"
	"slices"
	"testing"

	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// folder drives a fold without raft: it numbers entries and keeps tables.
type folder struct {
	t     *testing.T
	s     *state
	tab   *memTables
	index uint64
	stamp int64
}

func newFolder(t *testing.T) *folder {
	f := &folder{t: t, tab: newMemTables(), stamp: 1_000_000}
	f.load()
	return f
}

func (f *folder) load() {
	f.s = newState(mustNotFail, 64)
	if err := f.s.load(f.tab); err != nil {
		f.t.Fatal(err)
	}
}

func (f *folder) apply(c command) result {
	f.index++
	return f.s.apply(shard.Entry{Index: f.index, Stamp: f.stamp, Cmd: appendCommand(nil, &c)})
}

func (f *folder) flush() {
	b := &memBatch{t: f.tab}
	f.s.flush(b)
	b.Commit()
	if d := f.s.dirty(); d != 0 {
		f.t.Errorf("dirty after a flush: %d", d)
	}
}

func body(devices ...stanza.Device) []byte {
	var b []byte
	for _, d := range devices {
		b = stanza.AppendCipher(b, d, fmt.Appendf(nil, "for %d", d))
	}
	return b
}

func message(from stanza.Account, dev stanza.Device, id, after uint64, to stanza.Account, devices ...stanza.Device) command {
	return command{
		op: opMessage, from: from, fromDevice: dev, id: id, after: after, account: to, body: body(devices...),
		maxEntries: 4, maxBytes: 1 << 20,
	}
}

func ackTo(a stanza.Account, d stanza.Device, seq uint64) command {
	return command{op: opAck, account: a, device: d, upTo: seq}
}

// show describes a result in a word.
func show(r result) string {
	switch {
	case r.verdict == refused && r.reason == stanza.ReasonGap:
		return fmt.Sprintf("gap %d", r.last)
	case r.verdict == refused && r.reason == stanza.ReasonQueueFull:
		return fmt.Sprintf("queue_full %v", r.full)
	case r.verdict == refused:
		return r.reason.String()
	case r.verdict == admitted && r.reason != 0:
		return "admitted, " + r.reason.String()
	}
	return []string{"done", "admitted", "duplicate"}[r.verdict]
}

func TestAdmission(t *testing.T) {
	const a, b = 7, 9
	read := func(id, after uint64, dev stanza.Device) command {
		return command{
			op: opRead, from: a, fromDevice: 1, id: id, after: after, account: b, device: dev,
			body: stanza.AppendPacked(nil, []uint64{3, 5}), maxEntries: 4, maxBytes: 1 << 20,
		}
	}
	tiny := message(a, 1, 20, 0, b, 1)
	tiny.maxBytes = 10
	steps := []struct {
		name string
		c    command
		want string
	}{
		{"no memory: after is ignored", message(a, 1, 10, 9, b, 1), "admitted"},
		{"the same again", message(a, 1, 10, 0, b, 1), "duplicate"},
		{"an older id", message(a, 1, 9, 0, b, 1), "duplicate"},
		{"after is what was admitted", message(a, 1, 11, 10, b, 1), "admitted"},
		{"after is above", message(a, 1, 14, 13, b, 1), "gap 11"},
		{"a refusal changed nothing", message(a, 1, 13, 0, b, 1), "admitted"},
		{"now it goes", message(a, 1, 14, 13, b, 1), "admitted"},
		{"full", message(a, 1, 15, 14, b, 1), "queue_full [1]"},
		{"full for one: refused whole", message(a, 1, 15, 14, b, 1, 2), "queue_full [1]"},
		{"behind the refused one", message(a, 1, 16, 15, b, 2), "gap 14"},
		{"another stream of the same sender", message(a, 2, 16, 15, b, 2), "admitted"},
		{"a duplicate while full", message(a, 1, 14, 13, b, 1), "duplicate"},
		{"a read receipt while full is admitted and dropped", read(17, 14, 1), "admitted, receipt_full"},
		{"and took its id", message(a, 1, 17, 14, b, 2), "duplicate"},
		{"a read receipt behind a gap", read(19, 18, 2), "gap 17"},
		{"too few bytes", tiny, "queue_full [1]"},
		{"to the own account", message(a, 1, 30, 0, a, 2), "admitted"},
		{"to itself", message(a, 1, 31, 30, a, 1, 2), "forbidden"},
		{"the stream went on", message(a, 1, 31, 30, a, 2), "admitted"},
		{"drop", command{op: opDrop, account: b, device: 1}, "done"},
		{"an unlinked device", message(a, 1, 40, 17, b, 1, 2), "stale_devices"},
		{"a duplicate for it", message(a, 1, 14, 13, b, 1), "duplicate"},
		{"a read receipt for it", read(41, 0, 1), "admitted, unlinked"},
	}
	for _, flushed := range []bool{false, true} {
		f := newFolder(t)
		for _, s := range steps {
			if got := show(f.apply(s.c)); got != s.want {
				t.Errorf("flushed %v, %s: %s, want %s", flushed, s.name, got, s.want)
			}
			if flushed {
				f.flush()
				f.load()
			}
		}
	}
}

func (f *folder) pendingOf(a stanza.Account, d stanza.Device, from stanza.Account) []uint64 {
	p := f.s.pending[receiptKey{to: keyOf(a, d), from: from}]
	if p == nil {
		return nil
	}
	var ids []uint64
	for _, b := range p.batches {
		ids = append(ids, b.ids...)
	}
	return ids
}

func TestFirstDeviceRaises(t *testing.T) {
	const a, b = 7, 9
	for _, restart := range []bool{false, true} {
		f := newFolder(t)
		again := func() {
			if restart {
				f.flush()
				f.load()
			}
		}
		for id := uint64(1); id <= 3; id++ {
			f.apply(message(a, 1, id, 0, b, 1, 2, 3))
			again()
		}
		one, two := f.s.queue(keyOf(b, 1)), f.s.queue(keyOf(b, 2))
		f.apply(ackTo(b, 1, one.head+1))
		if ids := f.pendingOf(a, 1, b); !slices.Equal(ids, []uint64{1, 2}) {
			t.Fatalf("pending %v", ids)
		}
		again()
		f.apply(command{op: opConfirm, account: a, device: 1, from: b, tag: stanza.TagDelivered, body: stanza.AppendPacked(nil, []uint64{1, 2})})
		again()
		f.apply(ackTo(b, 2, two.head+100)) // beyond the end is the end
		if ids := f.pendingOf(a, 1, b); !slices.Equal(ids, []uint64{3}) {
			t.Fatalf("restart %v: pending %v, want what no sibling had raised", restart, ids)
		}
		again()
		f.apply(command{op: opDrop, account: b, device: 3})
		f.apply(ackTo(b, 1, one.head+9))
		if ids := f.pendingOf(a, 1, b); !slices.Equal(ids, []uint64{3}) {
			t.Fatalf("pending %v", ids)
		}
		if q := f.s.queue(keyOf(b, 2)); q.head != q.next || q.bytes != 0 || len(q.raised) != 0 {
			t.Errorf("queue after all acks: %+v", q)
		}
	}
}

func TestReceiptsStored(t *testing.T) {
	f := newFolder(t)
	receipt := func(again bool, ids ...uint64) command {
		return command{
			op: opReceipt, account: 7, device: 1, from: 9, tag: stanza.TagDelivered, again: again,
			body: stanza.AppendPacked(nil, ids), maxEntries: 3, maxBytes: 1 << 20,
		}
	}
	if r := f.apply(receipt(false, 1, 2)); r.count != 1 {
		t.Fatal(r)
	}
	if r := f.apply(receipt(true, 1, 2)); r.verdict != duplicate {
		t.Fatal("a repeat of what is queued", r)
	}
	f.flush()
	f.load()
	if r := f.apply(receipt(true, 2, 3)); r.count != 1 {
		t.Fatal("a repeat with more", r)
	}
	q := f.s.queue(keyOf(7, 1))
	var r record
	f.s.read(q, q.head+1, &r)
	if it := stanza.Packed(r.body); r.kind != recordDelivered {
		t.Error(r.kind)
	} else if id, _ := it.Next(); id != 3 || len(r.body) != 1 {
		t.Error("stored", r.body)
	}
	f.apply(receipt(false, 9))
	if r := f.apply(receipt(false, 10)); r.reason != stanza.ReasonReceiptFull {
		t.Error("full", r)
	}
	f.apply(ackTo(7, 1, q.next-1))
	if len(f.s.pending) != 0 {
		t.Error("a receipt raised a receipt")
	}
	if r := f.apply(receipt(true, 1, 2)); r.count != 1 {
		t.Error("a repeat of what the device has is stored again", r)
	}
	f.apply(command{op: opDrop, account: 7, device: 1})
	if r := f.apply(receipt(true, 1, 2)); r.reason != stanza.ReasonUnlinked {
		t.Error("unlinked", r)
	}
}

func TestExpiry(t *testing.T) {
	f := newFolder(t)
	for i := range 5 {
		f.stamp = int64(100 * (i + 1))
		f.apply(message(7, 1, uint64(i+1), 0, 9, 1+stanza.Device(i%2)))
	}
	f.flush()
	f.load()
	f.stamp = 1000
	f.apply(command{op: opDrop, account: 9, device: 2})
	sweep := func(op operation, cut, tombs int64) result {
		return f.apply(command{op: op, cut: cut, cutTombs: tombs})
	}
	if r := sweep(opExpireQueues, 300, 999); r.count != 2 || r.reason != stanza.ReasonExpired {
		t.Fatal(r)
	}
	if q := f.s.find(keyOf(9, 1)); q.entries() != 1 {
		t.Fatal(q)
	}
	if len(f.s.pending) != 0 {
		t.Error("expiry raised a receipt")
	}
	if r := f.apply(message(7, 1, 6, 0, 9, 2)); r.reason != stanza.ReasonStaleDevices {
		t.Error("tombstone", r)
	}
	sweep(opExpireQueues, 300, 1000)
	if q := f.s.find(keyOf(9, 2)); q.exists() {
		t.Error("tombstone stays")
	}
	if sweep(opExpireStreams, 499, 0).count != 0 || sweep(opExpireStreams, 500, 0).count != 1 {
		t.Error("stream")
	}
	if r := f.apply(message(7, 1, 1, 0, 9, 2)); r.verdict != admitted {
		t.Error("a forgotten stream", r)
	}
	f.flush()
	if n := f.tab.count(tableStream); n != 1 {
		t.Error("streams in tables:", n)
	}
}

// TestAckedNeverReachTables stores and acks between flushes, and looks for the ciphertext.
func TestAckedNeverReachTables(t *testing.T) {
	f := newFolder(t)
	f.flush()
	for id := uint64(1); id <= 50; id++ {
		f.apply(message(7, 1, id, 0, 9, 1))
		f.apply(ackTo(9, 1, f.s.queue(keyOf(9, 1)).next-1))
		f.apply(command{op: opConfirm, account: 7, device: 1, from: 9, tag: stanza.TagDelivered, body: stanza.AppendPacked(nil, []uint64{id})})
	}
	f.flush()
	if f.tab.contains([]byte("for 1")) || f.tab.count(tableMessage) != 0 || f.tab.count(tableReceipt) != 0 {
		t.Error("acked entries are in tables")
	}
	for _, b := range f.tab.journal {
		for _, c := range b.changes {
			if c.key[0] == tableMessage || c.key[0] == tableReceipt {
				t.Errorf("change %c %x", c.op, c.key)
			}
		}
	}
}

// TestWrittenAhead writes records ahead, loses the fold, and finds the tables clean after the replay.
func TestWrittenAhead(t *testing.T) {
	f := newFolder(t)
	f.apply(message(7, 1, 1, 0, 9, 1))
	f.flush()
	log := []command{message(7, 1, 2, 0, 9, 1), message(7, 1, 3, 0, 9, 1)}
	for _, c := range log {
		f.apply(c)
	}
	f.s.turn = 20_000
	if n := f.s.writeAged(0, 1<<20); n != 0 {
		t.Error("wrote what is young:", n)
	}
	if n := f.s.writeAged(20_000, 1<<20); n == 0 {
		t.Fatal("nothing written ahead")
	}
	if f.tab.count(tableMessage) != 3 {
		t.Fatal("records:", f.tab.count(tableMessage))
	}
	if n := f.s.dirty(); n > queueBytes+streamBytes {
		t.Error("written records count as dirty:", n)
	}
	f.load() // a crash: the tables stand at index 1
	if f.tab.count(tableMessage) != 1 {
		t.Error("records above F after the load:", f.tab.count(tableMessage))
	}
	f.index = 1
	for _, c := range log {
		if got := show(f.apply(c)); got != "admitted" {
			t.Errorf("message %d applied again after the crash: %s", c.id, got)
		}
	}
	if n := f.s.queue(keyOf(9, 1)).entries(); n != 3 {
		t.Errorf("%d messages after the crash, want 3", n)
	}
	f.apply(ackTo(9, 1, f.s.queue(keyOf(9, 1)).next-1))
	f.flush()
	if f.tab.count(tableMessage) != 0 || f.tab.count(tableAhead) != 0 {
		t.Error("rest in tables:", f.tab.rows)
	}
}

func TestPressure(t *testing.T) {
	f := newFolder(t)
	big := func(d stanza.Device, id uint64) command {
		c := message(7, 1, id, 0, 9, d)
		c.body = stanza.AppendCipher(nil, d, make([]byte, 1000))
		c.maxEntries = 1000
		return c
	}
	id := uint64(0)
	for range 100 {
		id++
		f.apply(big(1, id))
	}
	for range 5 {
		id++
		f.apply(big(2, id))
	}
	f.s.relieve(40_000)
	heavy, light := f.s.find(keyOf(9, 1)), f.s.find(keyOf(9, 2))
	if f.s.resident > 40_000 || heavy.resident+light.resident != f.s.resident {
		t.Errorf("resident %d, %d and %d", f.s.resident, heavy.resident, light.resident)
	}
	if light.tabHi != 0 || light.memLo != light.head {
		t.Error("the light queue was touched")
	}
	var r record
	for seq := heavy.head; seq < heavy.next; seq++ {
		if !f.s.read(heavy, seq, &r) || r.id != seq-heavy.head+1 {
			t.Fatalf("entry %d: %+v", seq-heavy.head, r)
		}
	}
	if f.s.misses == 0 || f.s.misses > 3 {
		t.Error("readings from tables:", f.s.misses)
	}
}

func TestRaisedSpans(t *testing.T) {
	q := &queue{head: 10, next: 30}
	for _, seq := range []uint64{12, 14, 13, 20, 10, 11, 20, 22, 21} {
		q.raise(seq)
	}
	if fmt.Sprint(q.raised) != "[{10 15} {20 23}]" {
		t.Error(q.raised)
	}
	if !q.wasRaised(14) || q.wasRaised(15) || q.wasRaised(19) || !q.wasRaised(22) || q.wasRaised(23) {
		t.Error("wasRaised")
	}
	var back queue
	if !decodeQueue(appendQueue(nil, q), &back) || fmt.Sprint(back.raised) != fmt.Sprint(q.raised) {
		t.Error(back.raised)
	}
	q.head = 21
	q.trimRaised()
	if fmt.Sprint(q.raised) != "[{21 23}]" {
		t.Error(q.raised)
	}
}

// TestExpiryIsBounded: one entry of the log takes only so much from one queue, and says that there is more.
func TestExpiryIsBounded(t *testing.T) {
	f := newFolder(t)
	for id := uint64(1); id <= perQueue+40; id++ {
		c := message(7, 1, id, 0, 9, 1)
		c.maxEntries = 1000
		f.apply(c)
	}
	f.flush()
	f.load()
	sweep := command{op: opExpireQueues, cut: f.stamp}
	if r := f.apply(sweep); r.count != perQueue || !r.more {
		t.Errorf("first: %+v", r)
	}
	if r := f.apply(sweep); r.count != 40 || r.more {
		t.Errorf("second: %+v", r)
	}
	f.flush()
	if n := f.tab.count(tableMessage); n != 0 {
		t.Errorf("%d records stay", n)
	}
}
