package offline

import (
	"testing"

	"linecard.example/internal/stanza"
)

// TestWaitingReceiptsAreBounded acks without any confirmation: memory is bounded by dropping what is raised last.
func TestWaitingReceiptsAreBounded(t *testing.T) {
	f := newFolder(t)
	for i := range uint64(maxWaiting + 10) {
		f.s.raise(receiptKey{to: keyOf(stanza.Account(1+i/100), 1), from: 9}, i%100+1, 1)
	}
	if f.s.waiting != maxWaiting || f.s.lost != 10 {
		t.Fatalf("%d wait, %d lost", f.s.waiting, f.s.lost)
	}
	f.flush()
	f.load()
	if f.s.waiting != maxWaiting {
		t.Fatalf("%d wait after a restart", f.s.waiting)
	}
	f.apply(command{op: opConfirm, account: 1, device: 1, from: 9, tag: stanza.TagDelivered, body: []byte{1, 1, 1}})
	f.s.raise(receiptKey{to: keyOf(5000, 1), from: 9}, 1, 1)
	if f.s.waiting != maxWaiting-2 {
		t.Errorf("%d wait", f.s.waiting)
	}
	f.apply(command{op: opExpireReceipts, cut: 1})
	if f.s.waiting != 0 || len(f.s.pending) != 0 {
		t.Errorf("%d wait after expiry", f.s.waiting)
	}
}

// TestReadBackIsBounded reads from many queues that are in tables only.
func TestReadBackIsBounded(t *testing.T) {
	f := newFolder(t)
	const queues = 400
	for a := range stanza.Account(queues) {
		for id := uint64(1); id <= 2; id++ {
			c := message(7000, 1, id, 0, a+1, 1)
			c.body = stanza.AppendCipher(nil, 1, make([]byte, 40_000))
			f.apply(c)
		}
	}
	f.flush()
	f.load()
	var r record
	for a := range stanza.Account(queues) {
		q := f.s.find(keyOf(a+1, 1))
		for seq := q.head; seq < q.next; seq++ {
			if !f.s.read(q, seq, &r) || r.id != seq-q.head+1 {
				t.Fatalf("%+v", r)
			}
		}
		if f.s.readBack > maxReadBack {
			t.Fatalf("%d bytes read back", f.s.readBack)
		}
	}
	if diff := checkMemory(f.s); diff != "" {
		t.Error(diff)
	}
	for a := range stanza.Account(queues) { // in a drain's order: what was dropped is read again
		q := f.s.find(keyOf(a+1, 1))
		f.apply(ackTo(a+1, 1, q.next-1))
	}
	f.flush()
	if f.s.readBack != 0 || len(f.s.fronts) != 0 || f.tab.count(tableMessage) != 0 || f.s.bytes != 0 {
		t.Errorf("%d read back, %d queues, %d records, %d bytes", f.s.readBack, len(f.s.fronts), f.tab.count(tableMessage), f.s.bytes)
	}
}
