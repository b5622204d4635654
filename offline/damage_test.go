package offline

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"

	"linecard.example/internal/link"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// kept returns a folder whose tables hold two messages for 9/1 with a sibling in 9/2, a stream and a pending receipt, all flushed and
// nothing in memory; what stops it goes to the error.
func kept(t *testing.T) (*folder, *error) {
	f := newFolder(t)
	f.apply(message(7, 1, 1, 0, 9, 1, 2))
	f.apply(message(7, 1, 2, 1, 9, 1, 2))
	f.apply(message(7, 1, 3, 1, 9, 3))
	f.apply(ackTo(9, 3, f.s.queue(keyOf(9, 3)).next-1))
	f.flush()
	f.load()
	failure := new(error)
	f.s.fail = func(err error) {
		if *failure != nil {
			t.Errorf("reported twice: %v", err)
		}
		*failure = err
	}
	return f, failure
}

// TestDamageStops removes, spoils or hides a record that a command needs: the host is stopped once, with an error that names the record
// and says what to do, and nothing is folded, written or flushed any more.
func TestDamageStops(t *testing.T) {
	f0, _ := kept(t)
	head := f0.s.find(keyOf(9, 1)).head
	first := string(appendKey(nil, tableMessage, uint64(keyOf(9, 1)), head))
	second := string(appendKey(nil, tableMessage, uint64(keyOf(9, 1)), head+1))
	queue := string(appendKey(nil, tableQueue, uint64(keyOf(9, 1))))
	stream := string(appendKey(nil, tableStream, 9, uint64(keyOf(7, 1))))
	receipt := command{
		op: opReceipt, account: 9, device: 1, from: 7, tag: stanza.TagDelivered, again: true, body: []byte{1}, maxEntries: 9, maxBytes: 1 << 20,
	}
	sweep := command{op: opExpireQueues, cut: 1 << 40}
	disk := errors.New("the disk is gone")
	tests := []struct {
		name  string
		spoil func(*memTables)
		c     command
		want  string
	}{
		{"ack, record missing", func(m *memTables) { delete(m.rows, first) }, ackTo(9, 1, head), "message record of account 9 device 1 sequence"},
		{"ack, second missing", func(m *memTables) { delete(m.rows, second) }, ackTo(9, 1, head+1), "is missing"},
		{"ack, record spoilt", func(m *memTables) { m.rows[second] = "\x09garbage--" }, ackTo(9, 1, head+1), "is malformed"},
		{"ack, queue spoilt", func(m *memTables) { m.rows[queue] = "\x07" }, ackTo(9, 1, head), "queue record of account 9 device 1 is malformed"},
		{"store, queue spoilt", func(m *memTables) { m.rows[queue] = "\x01\x05\x03\x00\x00\x00" }, message(7, 1, 4, 0, 9, 1), "queue record"},
		{"store, stream spoilt", func(m *memTables) { m.rows[stream] = "\x01" }, message(7, 1, 4, 0, 9, 1), "stream record to account 9 from account 7 device 1"},
		{"receipt, record missing", func(m *memTables) { delete(m.rows, first) }, receipt, "message record"},
		{"drop, queue spoilt", func(m *memTables) { m.rows[queue] = "" }, command{op: opDrop, account: 9, device: 1}, "queue record"},
		{"expiry, record missing", func(m *memTables) { delete(m.rows, second) }, sweep, "message record"},
		{"expiry, queue spoilt", func(m *memTables) { m.rows[queue] = "x" }, sweep, "queue record"},
		{"expiry, stream spoilt", func(m *memTables) { m.rows[stream] = "x" }, command{op: opExpireStreams, cut: 1}, "stream record"},
		{"disk", func(m *memTables) { m.err = disk }, ackTo(9, 1, head), "the disk is gone"},
		{"disk, expiry", func(m *memTables) { m.err = disk }, sweep, "the disk is gone"},
		{"disk, streams", func(m *memTables) { m.err = disk }, command{op: opExpireStreams, cut: 1}, "the disk is gone"},
	}
	for _, tt := range tests {
		f, failure := kept(t)
		tt.spoil(f.tab)
		before := maps.Clone(f.tab.rows)
		if r := f.apply(tt.c); r.verdict == admitted || r.count != 0 {
			t.Errorf("%s: %+v", tt.name, r)
		}
		if *failure == nil || !strings.Contains((*failure).Error(), tt.want) {
			t.Fatalf("%s: %v, want %q", tt.name, *failure, tt.want)
		}
		entries := f.s.entries
		f.tab.err = nil
		if r := f.apply(message(7, 1, 50, 0, 20, 1)); r.verdict != refused || f.s.entries != entries {
			t.Errorf("%s: a later entry was folded: %+v", tt.name, r)
		}
		if !maps.Equal(before, f.tab.rows) {
			t.Errorf("%s: tables changed", tt.name)
		}
	}
}

// TestBadEntryStops folds what is no command.
func TestBadEntryStops(t *testing.T) {
	for _, b := range [][]byte{nil, {1}, {1, 99}, {2, 1}, {1, 1, 0}, make([]byte, maxCommand+1)} {
		f, failure := kept(t)
		before := f.s.hash()
		f.s.apply(shard.Entry{Index: 77, Seq: 3, Stamp: 1, Cmd: b})
		if *failure == nil || !errors.Is(*failure, errCommand) || !strings.Contains((*failure).Error(), "log entry 77, command 3") {
			t.Errorf("%x: %v", b, *failure)
		}
		if f.s.hash() != before {
			t.Errorf("%x changed the state", b)
		}
	}
}

// TestDamageRefusesLoad opens tables that are damaged where Load reads.
func TestDamageRefusesLoad(t *testing.T) {
	run := string(appendKey(nil, tableAhead, uint64(keyOf(9, 1)), 5))
	pend := string(appendKey(nil, tableReceipt, uint64(keyOf(7, 1)), 9))
	for want, spoil := range map[string]func(*memTables){
		"record of totals":                         func(m *memTables) { m.rows[string(rune(tableTotals))] = "\x80" },
		"receipt record for account 7 device 1":    func(m *memTables) { m.rows[pend] = "\x01\x02\x05\x00" },
		"is malformed":                             func(m *memTables) { m.rows[pend] = "" },
		"run written ahead for account 9 device 1": func(m *memTables) { m.rows[run] = "?" },
		"the disk": func(m *memTables) { m.err = errors.New("the disk is gone") },
	} {
		f, _ := kept(t)
		spoil(f.tab)
		err := newState(mustNotFail, 4).load(f.tab)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestDamageSilencesGroup spoils a record that only a push reads: the group is stopped, and says only that it does not lead.
func TestDamageSilencesGroup(t *testing.T) {
	h := newHarness(t, 1, nil)
	h.mayFail = true
	gw := h.peer(link.RoleGateway, 1, 0)
	for id := uint64(1); id <= 3; id++ {
		gw.store(7, 1, id, id-1, 9, 1)
		gw.take(link.KindAck)
	}
	m := h.m()
	b := m.t.ahead()
	m.flush(b)
	b.Commit()
	m.evict(m.find(keyOf(9, 1)), 0)
	tab := m.t.(*memTables)
	q := m.find(keyOf(9, 1))
	delete(tab.rows, string(appendKey(nil, tableMessage, uint64(q.key), q.head+1)))
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	h.until("the failure", func() bool { return h.failure != nil })
	if want := "offline: queue/0: damaged tables: message record of account 9 device 1"; !strings.HasPrefix(h.failure.Error(), want) {
		t.Errorf("%v", h.failure)
	}
	if err := m.Flush(nil); err == nil {
		t.Error("flushed")
	}
	m.Follow() // as the stopped raft group does
	h.rafts[0].hold = true
	gw.store(7, 1, 4, 3, 9, 1)
	h.tick(time.Second)
	if q.entries() != 3 || len(h.rafts[0].queue) != 0 {
		t.Error("took the message")
	}
	if e := gw.take(link.KindNotLeader); e.ID != 4 {
		t.Errorf("answered %+v", e)
	}
}

// TestDamageStopsGroup spoils a record in a real daemon's database: the acked message is neither skipped nor taken as delivered.
func TestDamageStopsGroup(t *testing.T) {
	fs := vfs.NewMem()
	s := openStage(t, fs, true, 1<<20)
	s.commit(message(7, 1, 1, 0, 9, 1))
	s.commit(message(7, 1, 2, 1, 9, 1))
	if err := s.g.Snapshot(context.Background()); err != nil {
		t.Fatal(err)
	}
	var upTo uint64
	s.on(func() {
		q := s.m.find(keyOf(9, 1))
		s.m.evict(q, 0)
		b := s.g.Tables().Ahead()
		b.Delete(appendKey(nil, tableMessage, uint64(q.key), q.head))
		if err := b.Commit(); err != nil {
			t.Error(err)
		}
		s.m.state.fail = func(err error) { s.host.StopGroup(s.g.ID(), err) }
		upTo = q.head
	})
	if r := s.commit(ackTo(9, 1, upTo)); r.reason != stanza.ReasonRetry {
		t.Errorf("answered %+v", r)
	}
	if st := s.host.Status(); len(st) != 1 || !strings.Contains(st[0].Stopped, errTables.Error()) || !strings.Contains(st[0].Stopped, "message record") {
		t.Errorf("%+v", st)
	}
	if err := s.host.Close(); err != nil {
		t.Error(err)
	}
}
