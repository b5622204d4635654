package offline

import (
	"fmt"
	"slices"

	"linecard.example/internal/stanza"
)

// model is the queues as plain maps and slices: what the fold must be equal to.
type model struct {
	queues  map[queueKey]*modelQueue
	streams map[streamKey]streamState
	pending map[receiptKey][]receiptBatch
}

type modelQueue struct {
	entries []*modelEntry
	tomb    int64
}

type modelEntry struct {
	kind  recordKind
	from  stanza.Account
	dev   stanza.Device
	id    uint64
	stamp int64
	body  string
	msg   *modelMessage
	why   stanza.Reason
}

type modelMessage struct{ raised bool }

func newModel() *model {
	return &model{queues: map[queueKey]*modelQueue{}, streams: map[streamKey]streamState{}, pending: map[receiptKey][]receiptBatch{}}
}

func (m *model) queue(k queueKey) *modelQueue {
	if m.queues[k] == nil {
		m.queues[k] = &modelQueue{}
	}
	return m.queues[k]
}

func (q *modelQueue) bytes() (n int64) {
	for _, e := range q.entries {
		n += int64(len(e.body)) + entryCharge
	}
	return n
}

func (q *modelQueue) room(c *command, body int) bool {
	return len(q.entries) < int(c.maxEntries) && q.bytes()+int64(body)+entryCharge <= int64(c.maxBytes)
}

// apply returns the result in words, as show does.
func (m *model) apply(c *command, stamp int64) string {
	switch c.op {
	case opMessage, opRead, opForward, opForwardRead, opOut:
		return m.store(c, stamp)
	case opAck, opSent:
		return m.ack(c, int(c.upTo), stamp)
	case opReceipt:
		return m.receipt(c, stamp)
	case opConfirm:
		m.confirm(c)
	case opDrop:
		q := m.queue(keyOf(c.account, c.device))
		if q.tomb == 0 {
			q.entries, q.tomb = nil, stamp
		}
	case opExpireQueues:
		m.expire(c)
	case opExpireStreams:
		for k, v := range m.streams {
			if v.stamp <= c.cut {
				delete(m.streams, k)
			}
		}
	case opExpireReceipts:
		for k, batches := range m.pending {
			m.setPending(k, slices.DeleteFunc(batches, func(b receiptBatch) bool { return b.stamp <= c.cut }))
		}
	}
	return "done"
}

func (m *model) store(c *command, stamp int64) string {
	k := streamKey{to: c.account, from: keyOf(c.from, c.fromDevice)}
	last, known := m.streams[k]
	if known && c.id <= last.last {
		return "duplicate"
	}
	strict := c.op == opForward || c.op == opForwardRead
	if (known || strict) && c.after > last.last {
		return fmt.Sprintf("gap %d", last.last)
	}
	if c.op == opOut {
		q := m.queue(keyOf(c.account, 0))
		if !q.room(c, len(c.body)) {
			return "queue_full []"
		}
		q.entries = append(q.entries, &modelEntry{kind: recordOut, from: c.from, dev: c.fromDevice, id: c.id, stamp: stamp, body: string(c.body)})
		m.streams[k] = streamState{c.id, stamp}
		return "admitted"
	}
	if c.op == opRead || c.op == opForwardRead {
		m.streams[k] = streamState{c.id, stamp}
		q := m.queue(keyOf(c.account, c.device))
		switch {
		case q.tomb != 0:
			return "admitted, unlinked"
		case !q.room(c, len(c.body)):
			return "admitted, receipt_full"
		}
		q.entries = append(q.entries, &modelEntry{kind: recordRead, from: c.from, stamp: stamp, body: string(c.body)})
		return "admitted"
	}
	var full []stanza.Device
	stale := false
	msg := &modelMessage{}
	add := map[*modelQueue]*modelEntry{}
	for b := c.body; len(b) > 0; {
		d, cipher, rest, _ := stanza.NextCipher(b)
		b = rest
		if c.account == c.from && d == c.fromDevice {
			return "forbidden"
		}
		q := m.queue(keyOf(c.account, d))
		if q.tomb != 0 {
			stale = true
			if strict {
				continue
			}
		}
		if !q.room(c, len(cipher)) {
			full = append(full, d)
		}
		add[q] = &modelEntry{kind: recordMessage, from: c.from, dev: c.fromDevice, id: c.id, stamp: stamp, body: string(cipher), msg: msg}
	}
	if stale && (!strict || len(add) == 0) {
		return "stale_devices"
	}
	if full != nil {
		return fmt.Sprintf("queue_full %v", full)
	}
	for q, e := range add {
		q.entries = append(q.entries, e)
	}
	m.streams[k] = streamState{c.id, stamp}
	return "admitted"
}

// ack removes the first n entries.
func (m *model) ack(c *command, n int, stamp int64) string {
	q := m.queue(keyOf(c.account, c.device))
	failed := map[int]stanza.Reason{}
	for b := c.body; len(b) > 0; {
		distance, why, rest, _ := nextFailure(b)
		failed[n-1-int(distance)] = why
		b = rest
	}
	n = min(n, len(q.entries))
	for i, e := range q.entries[:n] {
		k := receiptKey{to: keyOf(e.from, e.dev), from: c.account, why: failed[i]}
		switch {
		case e.kind == recordMessage && !e.msg.raised:
			e.msg.raised = true
		case e.kind == recordOut && k.why != 0 && stanza.Tag(e.body[0]) == stanza.TagMessage:
		default:
			continue
		}
		batches := m.pending[k]
		if l := len(batches); l == 0 || len(batches[l-1].ids) >= stanza.MaxPacked {
			batches = append(batches, receiptBatch{stamp: stamp})
		}
		b := &batches[len(batches)-1]
		if !slices.Contains(b.ids, e.id) {
			b.ids = append(b.ids, e.id)
			slices.Sort(b.ids)
		}
		m.pending[k] = batches
	}
	q.entries = q.entries[n:]
	return "done"
}

func packedIDs(b []byte) (ids []uint64) {
	for it := stanza.Packed(b); ; {
		id, ok := it.Next()
		if !ok {
			return ids
		}
		ids = append(ids, id)
	}
}

func (m *model) receipt(c *command, stamp int64) string {
	q := m.queue(keyOf(c.account, c.device))
	ids := packedIDs(c.body)
	if c.again {
		for _, e := range q.entries {
			if e.kind == receiptKind(c) && e.from == c.from && e.why == c.reason {
				queued := packedIDs([]byte(e.body))
				ids = slices.DeleteFunc(ids, func(id uint64) bool { return slices.Contains(queued, id) })
			}
		}
	}
	body := string(stanza.AppendPacked(nil, ids))
	switch {
	case q.tomb != 0:
	case len(ids) == 0:
		return "duplicate"
	case q.room(c, len(body)):
		q.entries = append(q.entries, &modelEntry{kind: receiptKind(c), from: c.from, why: c.reason, stamp: stamp, body: body})
	}
	return "done"
}

func (m *model) confirm(c *command) {
	k := receiptKey{to: keyOf(c.account, c.device), from: c.from, why: c.reason}
	batches := m.pending[k]
	for _, id := range packedIDs(c.body) {
		for i := range batches {
			if at := slices.Index(batches[i].ids, id); at >= 0 {
				batches[i].ids = slices.Delete(batches[i].ids, at, at+1)
				break
			}
		}
	}
	m.setPending(k, slices.DeleteFunc(batches, func(b receiptBatch) bool { return len(b.ids) == 0 }))
}

func (m *model) setPending(k receiptKey, batches []receiptBatch) {
	m.pending[k] = batches
	if len(batches) == 0 {
		delete(m.pending, k)
	}
}

func (m *model) expire(c *command) {
	for k, q := range m.queues {
		if uint64(k) < c.lo[0] || (c.hi[0] != 0 && uint64(k) >= c.hi[0]) {
			continue
		}
		if q.tomb != 0 && q.tomb <= c.cutTombs {
			q.tomb = 0
		}
		n := 0
		for n < len(q.entries) && n < perQueue && q.entries[n].stamp <= c.cut {
			n++
		}
		q.entries = q.entries[n:]
	}
}

// compare returns the first difference between the model and the fold, "" if there is none.
func (m *model) compare(s *state) string {
	entries, bytes := 0, int64(0)
	for k, want := range m.queues {
		entries += len(want.entries)
		bytes += want.bytes()
		q := s.find(k)
		if q == nil {
			q = newQueue(k)
		}
		if q.tomb != want.tomb || int(q.entries()) != len(want.entries) || q.bytes != want.bytes() {
			return fmt.Sprintf("queue %d/%d: %d entries, %d bytes, tomb %d; want %d, %d, %d", k.account(), k.device(),
				q.entries(), q.bytes, q.tomb, len(want.entries), want.bytes(), want.tomb)
		}
		for i, e := range want.entries {
			var r record
			seq := q.head + uint64(i)
			if !s.read(q, seq, &r) || r.kind != e.kind || r.from != e.from || r.fromDevice != e.dev || r.id != e.id || r.stamp != e.stamp || r.why != e.why || string(r.body) != e.body {
				return fmt.Sprintf("queue %d/%d entry %d: %+v, want %+v", k.account(), k.device(), i, r, *e)
			}
			if e.kind == recordMessage && e.msg.raised != q.wasRaised(seq) {
				return fmt.Sprintf("queue %d/%d entry %d: raised %v", k.account(), k.device(), i, !e.msg.raised)
			}
		}
	}
	if int64(entries) != s.entries || bytes != s.bytes {
		return fmt.Sprintf("totals %d, %d; want %d, %d", s.entries, s.bytes, entries, bytes)
	}
	for k, v := range m.streams {
		if got, ok := s.stream(k); !ok || got != v {
			return fmt.Sprintf("stream %+v: %v, want %v", k, got, v)
		}
	}
	if len(m.pending) != len(s.pending) {
		return fmt.Sprintf("%d pending, want %d", len(s.pending), len(m.pending))
	}
	for k, want := range m.pending {
		if p := s.pending[k]; p == nil || fmt.Sprint(p.batches) != fmt.Sprint(want) {
			return fmt.Sprintf("pending %+v: %v, want %v", k, p, want)
		}
	}
	return ""
}
