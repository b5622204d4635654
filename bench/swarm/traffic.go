package swarm

import (
	"fmt"
	"math"
	"time"

	"linecard.example/internal/stanza"
)

const (
	defaultInFlight = 8
	maxInFlight     = 32
	defaultDrain    = 30 * time.Second
	receiptWait     = 3 * time.Second  // at the end of a run for receipts, which nobody promises
	refusalsFor     = 10 * time.Minute // of refusals and nothing else, until an order is given up
)

// traffic is an order for messages, Pairs or Letters. It stays after its end, so that what arrives late is still known, until the next one
// begins.
type traffic struct {
	p        Pairs
	kind     byte
	run      uint64
	flows    []*flow
	ended    func()
	over     bool
	inFlight int
	quota    uint64   // messages in all; MaxUint64: until stop
	queued   []uint32 // flows of the letters that are still to be released, in their order

	start, warm, stop int64
	moved             int64  // when something last happened
	advanced          int64  // when something last got on: a message was begun, acked or arrived
	held              int64  // until when refused messages wait, as they were asked to
	paced             uint64 // messages released by the schedule of an open loop
	unacked           uint64
	cpu               time.Duration
	result            Traffic
}

// beginPairs starts the traffic of an order.
func (l *loop) beginPairs(p Pairs, ended func()) (*traffic, error) {
	if err := l.checkPairs(&p); err != nil {
		return nil, err
	}
	flows := make([]*flow, 0, p.Count/2)
	for n := p.From; n+1 < p.From+p.Count; n += 2 {
		to := l.slots.At(uint32(n + 1))
		flows = append(flows, &flow{
			from: uint32(n), to: uint32(n + 1), account: to.account, device: to.device, version: 1, ackEvery: uint16(max(1, p.AckEvery)),
		})
	}
	t, err := l.newTraffic(p, kindPairs, newRun(), flows, ended)
	if err != nil {
		return nil, err
	}
	t.quota = math.MaxUint64
	if p.Messages > 0 {
		t.quota = uint64(p.Messages) * uint64(len(flows))
	}
	if p.Duration > 0 {
		t.stop = t.start + int64(p.Duration)
	}
	for _, f := range flows {
		f.quota = math.MaxUint64
		if p.Messages > 0 {
			f.quota = uint64(p.Messages)
		}
		to := l.slots.At(f.to)
		to.flow = l.slots.At(f.from).flow
		f.toGen = to.gen
		if p.Rate <= 0 {
			f.released = f.quota
			l.markDirty(f.from, l.slots.At(f.from))
		}
	}
	return t, nil
}

func (l *loop) checkPairs(p *Pairs) error {
	if err := l.check(p.Range); err != nil {
		return err
	}
	if p.Step > 1 || p.Count < 2 || p.From+p.Count > l.slots.Len() {
		return fmt.Errorf("swarm: pairs of sessions %d to %d with step %d: %d are open", p.From, p.From+p.Count-1, p.Step, l.slots.Len())
	}
	if p.InFlight == 0 {
		p.InFlight = defaultInFlight
	}
	if p.Size < MinSize || p.Size > stanza.MaxStanza-256 || p.InFlight < 0 || p.InFlight > maxInFlight || p.Rate < 0 || p.AckEvery > maxInFlight {
		return fmt.Errorf("swarm: pairs: size %d, in flight %d, rate %v, acks of %d: out of bounds", p.Size, p.InFlight, p.Rate, p.AckEvery)
	}
	if p.Messages <= 0 && p.Duration <= 0 {
		return fmt.Errorf("swarm: pairs without end: neither messages nor duration")
	}
	for n := p.From; n < p.From+p.Count; n++ {
		if l.slots.At(uint32(n)).account == 0 {
			return fmt.Errorf("swarm: session %d has no account yet", n)
		}
	}
	return nil
}

// newTraffic takes the place of the last order's traffic.
func (l *loop) newTraffic(p Pairs, kind byte, run uint64, flows []*flow, ended func()) (*traffic, error) {
	if l.traffic != nil {
		if !l.traffic.over {
			return nil, errBusy
		}
		for _, f := range l.traffic.flows {
			l.slots.At(f.from).flow, l.slots.At(f.to).flow = 0, 0
		}
	}
	if p.Drain == 0 {
		p.Drain = defaultDrain
	}
	if p.AckWait == 0 {
		p.AckWait = lightWait
	}
	now := l.now()
	t := &traffic{
		p: p, kind: kind, run: run, flows: flows, ended: ended, start: now, warm: now + int64(p.Warmup), stop: math.MaxInt64, moved: now, advanced: now,
		cpu: cpuTime(), result: Traffic{Refused: map[string]uint64{}},
	}
	window := 256 << 10 / (p.Size + 64) // the default window in bytes; what goes beyond would be refused
	t.inFlight = max(1, min(p.InFlight, window))
	l.traffic = t
	for k, f := range flows {
		l.slots.At(f.from).flow = uint32(k + 1)
	}
	return t, nil
}

// pace releases the messages of an open loop that are due.
func (l *loop) pace() {
	t := l.traffic
	if t == nil || t.over || t.p.Rate <= 0 {
		return
	}
	for now := l.now(); t.paced < t.quota; t.paced++ {
		at := t.meant(t.paced)
		if at > now || at >= t.stop {
			return
		}
		f := t.flows[t.paced%uint64(len(t.flows))]
		f.released++
		l.markDirty(f.from, l.slots.At(f.from))
	}
}

// meant is when message g of an open loop, over all pairs, is to be sent.
func (t *traffic) meant(g uint64) int64 { return t.start + int64(float64(g)/t.p.Rate*1e9) }

func (l *loop) nextPace(int64) int64 {
	t := l.traffic
	if t == nil || t.over || t.p.Rate <= 0 || t.paced >= t.quota {
		return math.MaxInt64
	}
	if at := t.meant(t.paced); at < t.stop {
		return at
	}
	return math.MaxInt64
}

// sent says that no further message will be begun.
func (t *traffic) sent(now int64) bool {
	switch {
	case t.result.Sent >= t.quota:
		return true
	case t.p.Rate > 0:
		return t.meant(t.paced) >= t.stop && t.result.Sent >= t.paced
	}
	return now >= t.stop
}

// behind counts messages that are due and not begun: of an order without an end but its number, all of the rest.
func (t *traffic) behind() uint64 {
	switch {
	case t.p.Rate > 0:
		return t.paced - t.result.Sent
	case t.quota != math.MaxUint64 && t.stop == math.MaxInt64:
		return t.quota - t.result.Sent
	}
	return 0
}

// step ends the order when all is answered and has arrived, or nothing moves any more: a sender that never comes back ends it as well.
func (l *loop) step(t *traffic, now int64) {
	sent := t.sent(now)
	if t.over || !sent && t.unacked == 0 && t.behind() == 0 {
		return
	}
	idle := time.Duration(now - max(t.moved, t.held))
	done := sent && t.unacked == 0
	if done && !t.p.Blind && t.kind == kindPairs {
		done = t.result.Delivered >= t.result.Acked && (t.result.Receipts >= t.result.Delivered || idle >= receiptWait)
	}
	if done || idle >= t.p.Drain || now-t.advanced >= int64(max(refusalsFor, t.p.Drain)) {
		t.over = true
		t.result.CPU = cpuTime() - t.cpu
		t.ended()
	}
}

// watchTraffic looks, at each tick, for messages whose time to go again has come.
func (l *loop) watchTraffic(now int64) {
	t := l.traffic
	if t == nil || t.over {
		return
	}
	for _, f := range t.flows {
		f.overdue(now)
		if f.hold != 0 && f.hold <= now || f.flying < len(f.ring) {
			l.markDirty(f.from, l.slots.At(f.from))
		}
		if t.p.Reads && f.readsDue(now) {
			l.markDirty(f.to, l.slots.At(f.to))
		}
	}
	l.step(t, now)
}

// report is what is known of an order's messages by now.
func (t *traffic) report() Traffic {
	r := t.result
	r.Refused = cloneCounts(r.Refused)
	r.Unacked, r.Unsent = t.unacked, t.behind()
	if r.Acked > r.Delivered && !t.p.Blind && t.kind == kindPairs {
		r.Lost = r.Acked - r.Delivered
	}
	r.Elapsed = time.Duration(max(0, t.moved-t.start))
	r.Ack, r.Deliver = r.Ack.clone(), r.Deliver.clone()
	return r
}

// finishTraffic has the order under way begin no further messages.
func (l *loop) finishTraffic() {
	if t := l.traffic; t != nil && !t.over {
		t.stop = min(t.stop, l.now())
	}
}

// endTraffic gives an order up, or does nothing when it is over.
func (l *loop) endTraffic(t *traffic) {
	if !t.over {
		t.over = true
		t.result.CPU = cpuTime() - t.cpu
	}
}
