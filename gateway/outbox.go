package gateway

import (
	"math"
	"slices"

	"linecard.example/internal/stanza"
)

const (
	maxNonce = math.MaxUint32 // a session ends before this nonce would be used
	maxBoxes = math.MaxUint16 // outboxes of one turn; then it writes in between

	// turnFactor times the outbound cap may come in one turn: a whole window and the answers beside it are no sign of a slow client.
	turnFactor = 2

	// frameFill ends a frame of several stanzas. A client can open a frame, and acknowledge what is in it, only when it has all of it: with
	// full frames of 64 KiB, one that gets less than 1.5 KB/s would be unresponsive after 45 s each time, and never get further.
	frameFill = 16 << 10

	keepBox   = 256 << 10 // an outbox's buffer above this is not kept for the next turn
	keepBoxes = 8 << 20   // nor are buffers beyond this sum
	keepOut   = 1 << 20
)

// outbox is what one session gets in one turn: plaintext, whole stanzas, cut into frames. It is sealed only when it is written:
// a frame dropped after sealing would break the stream. Outboxes belong to the loop and are used again.
type outbox struct {
	slot, gen uint32
	live      bool
	last      bool // the close stanza is in it: nothing may follow
	overflow  bool // too much for one turn
	plain     []byte
	cuts      []int    // where frames end in plain, but for the last
	count     int      // stanzas of the last frame
	acks      []uint64 // message ids to acknowledge, in the order of the answers
}

// box returns the session's outbox of this turn.
func (l *loop) box(s *session) *outbox {
	slot := s.slot()
	at := &l.side[slot/peerChunk].boxes[slot%peerChunk]
	if *at != 0 {
		return &l.boxes[*at-1]
	}
	if l.dirty == maxBoxes {
		l.flush()
	}
	if l.dirty == len(l.boxes) {
		l.boxes = append(l.boxes, outbox{})
	}
	b := &l.boxes[l.dirty]
	l.dirty++
	*at = uint16(l.dirty)
	b.slot, b.gen, b.live, b.last, b.overflow, b.count = slot, l.slots.Gen(slot), true, false, false, 0
	b.plain, b.cuts, b.acks = b.plain[:0], b.cuts[:0], b.acks[:0]
	return b
}

// push appends one encoded stanza (at most stanza.MaxStanza bytes) to what s gets in this turn. Borrows raw.
func (l *loop) push(s *session, raw []byte) {
	b := l.box(s)
	if b.last || b.overflow {
		return
	}
	if len(b.plain)+len(raw) > turnFactor*l.g.outboundCap {
		b.overflow = true
		return
	}
	b.add(raw)
	l.g.metrics.down[raw[0]&tagMask].Inc()
}

// add appends a stanza to the last frame, or to a new one when that is full. A frame starts with its flags byte.
func (b *outbox) add(raw []byte) {
	start := 0
	if n := len(b.cuts); n > 0 {
		start = b.cuts[n-1]
	}
	if b.count > 0 && (len(b.plain)-start+len(raw) > frameFill || b.count == stanza.MaxStanzas) {
		b.cuts = append(b.cuts, len(b.plain))
		b.count = 0
	}
	if b.count == 0 {
		b.plain = append(b.plain, 0)
	}
	b.plain = append(b.plain, raw...)
	b.count++
}

// pushAck tells s in this turn that message id is stored.
func (l *loop) pushAck(s *session, id uint64) {
	b := l.box(s)
	b.acks = append(b.acks, id)
}

// packAcks turns the ids of this turn into ack stanzas: ascending, each once, at most stanza.MaxPacked in one.
func (l *loop) packAcks(b *outbox) {
	slices.Sort(b.acks)
	ids := slices.Compact(b.acks)
	for len(ids) > 0 {
		n := min(len(ids), stanza.MaxPacked)
		l.packed = stanza.AppendPacked(l.packed[:0], ids[:n])
		ack := stanza.Ack{IDs: l.packed}
		l.ack = ack.Append(l.ack[:0]) // not in scratch: whoever pushes it may have to flush first
		b.add(l.ack)
		l.g.metrics.down[stanza.TagAck].Inc()
		ids = ids[n:]
	}
}

// answer writes what a connection's own bytes have brought about, or has it written by the next turn. One outbox is the session's own, for
// a pong or a refusal: a turn would do the same one write, and its task costs a write and a read of the loop's event descriptor
// and a round of the poller, which is half of what a ping takes. When a turn comes anyhow, or there is more to write, one task does all.
func (l *loop) answer() {
	if l.dirty == 1 && !l.scheduled.Load() {
		l.flush()
		return
	}
	l.wake()
}

// flush seals and writes every outbox of the turn: one write for each session.
func (l *loop) flush() {
	if l.dirty == 0 {
		return
	}
	kept := 0
	for i := 0; i < l.dirty; i++ {
		b := &l.boxes[i]
		if b.live {
			l.side[b.slot/peerChunk].boxes[b.slot%peerChunk] = 0
			b.live = false
			l.writeBox(b)
		}
		if kept += cap(b.plain); cap(b.plain) > keepBox || kept > keepBoxes {
			kept -= cap(b.plain)
			b.plain = nil
		}
	}
	l.dirty = 0
	if cap(l.out) > keepOut {
		l.out = nil
	}
}

// writeBox writes one outbox. A session that cannot take it is ended here.
func (l *loop) writeBox(b *outbox) {
	s := l.slots.Get(b.slot, b.gen)
	if s == nil {
		return
	}
	if len(b.acks) > 0 && !b.last {
		l.packAcks(b)
	}
	if len(b.plain) == 0 {
		return
	}
	conn := l.conn(b.slot)
	if b.overflow || conn.OutboundBuffered() > l.g.outboundCap {
		l.abort(s, stanza.ReasonSlowConsumer)
		return
	}
	if !l.sealBox(s, b) {
		l.abort(s, stanza.ReasonNonceExhausted)
		return
	}
	l.g.metrics.writes.Inc()
	l.g.metrics.bytesDown.Add(float64(len(l.out)))
	_, err := conn.Write(l.out) // copies what the socket does not take; an error has closed the connection already
	if err == nil && l.slots.Get(b.slot, b.gen) != nil {
		l.written(s, conn)
	}
}

// sealBox leaves the sealed frames of b in l.out; false when the session has no nonces left.
func (l *loop) sealBox(s *session, b *outbox) bool {
	l.out = l.out[:0]
	start := 0
	for i := 0; i <= len(b.cuts); i++ {
		end := len(b.plain)
		if i < len(b.cuts) {
			end = b.cuts[i]
		}
		if s.txNonce == maxNonce {
			return false
		}
		l.out = l.sealer.AppendSealedFrame(l.out, &s.tx, uint64(s.txNonce), b.plain[start:end])
		s.txNonce++
		l.g.metrics.framesDown.Inc()
		start = end
	}
	return true
}
