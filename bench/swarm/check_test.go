package swarm

import (
	"math"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"linecard.example/internal/stanza"
)

// TestSlotSize pins what an idle session takes: its slot, what the slab keeps beside it, one entry of the wheel, one of the table
// from descriptors to sessions.
func TestSlotSize(t *testing.T) {
	const slot, slab, wheel, owner = 120, 8, 16, 4
	if size := unsafe.Sizeof(session{}); size > slot {
		t.Errorf("a slot has %d bytes, at most %d", size, slot)
	}
	if sum := slot + slab + wheel + owner; sum > 150 {
		t.Errorf("an idle session takes %d bytes of mapped memory", sum)
	}
}

// bare returns a loop without a server: two sessions that are a pair of an order for traffic.
func bare(t *testing.T, p Pairs) (*loop, *traffic) {
	t.Helper()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	l, err := newLoop(Config{Sessions: 4, Prefix: "x", Root: "linecard-root example d3bocLkzVPKgskwj8qNsxOgOIjIYwbl5Jv3QGDlqK5s=", Ping: time.Minute}.withDefaults(), pipe[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, fd := range pipe {
			unix.Close(fd)
		}
		_ = l.poll.close()
		_ = l.slots.Close()
		_ = l.wheel.Close()
	})
	for n := range uint64(2) {
		_, _, s, _ := l.slots.Alloc()
		s.account, s.device, s.phase, s.gen, s.fd = n+1, 1, bound, 1, -1
	}
	p.Range, p.Size, p.Messages = Range{Count: 2}, 40, 100
	tr, err := l.beginPairs(p, func() {})
	if err != nil {
		t.Fatal(err)
	}
	return l, tr
}

// arrive hands the recipient one message of the pair.
func arrive(t *testing.T, l *loop, number uint64, change func(*stanza.MessageDown)) {
	t.Helper()
	p := payload{kind: kindPairs, run: l.traffic.run, number: number, time: l.shared()}
	m := stanza.MessageDown{ID: 3000 + number, From: 1, FromDevice: 1, SentAt: 1, Body: appendPayload(nil, &p, 40)}
	if change != nil {
		change(&m)
	}
	v, _, err := stanza.Decode(m.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.onDelivery(1, l.slots.At(1), v); err != nil {
		t.Fatal(err)
	}
}

// TestFaultsAreSeen: each way in which a message can fare badly is counted as what it is.
func TestFaultsAreSeen(t *testing.T) {
	for _, test := range []struct {
		name    string
		numbers []uint64
		regen   int // the connection changes before this arrival; 0: never
		change  func(*stanza.MessageDown)
		want    Traffic
	}{
		{name: "in order", numbers: []uint64{0, 1, 2}, want: Traffic{Delivered: 3}},
		{name: "doubled", numbers: []uint64{0, 1, 1, 0}, want: Traffic{Delivered: 2, Doubled: 2}},
		{name: "one is missing", numbers: []uint64{0, 2}, want: Traffic{Delivered: 2, Disordered: 1}},
		{name: "swapped", numbers: []uint64{1, 0}, want: Traffic{Delivered: 1, Disordered: 1, Doubled: 1}},
		{name: "again after a reconnect", numbers: []uint64{0, 1, 1, 2}, regen: 2, want: Traffic{Delivered: 3, Redelivered: 1}},
		{name: "other bytes", numbers: []uint64{0}, change: func(m *stanza.MessageDown) { m.Body[35]++ }, want: Traffic{Corrupt: 1}},
		{name: "another sender", numbers: []uint64{0}, change: func(m *stanza.MessageDown) { m.From = 2 }, want: Traffic{Corrupt: 1}},
		{name: "another size", numbers: []uint64{0}, change: func(m *stanza.MessageDown) { m.Body = m.Body[:39] }, want: Traffic{Corrupt: 1}},
		{name: "another pair", numbers: []uint64{1 << 32}, want: Traffic{Corrupt: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, tr := bare(t, Pairs{})
			for k, number := range test.numbers {
				if test.regen > 0 && k == test.regen {
					l.slots.At(1).gen++
				}
				arrive(t, l, number, test.change)
			}
			tr.result.Acked = uint64(len(test.numbers))
			got := tr.report()
			test.want.Lost = uint64(len(test.numbers)) - test.want.Delivered
			if got.Delivered != test.want.Delivered || got.Doubled != test.want.Doubled || got.Disordered != test.want.Disordered ||
				got.Corrupt != test.want.Corrupt || got.Redelivered != test.want.Redelivered || got.Lost != test.want.Lost {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

// TestLettersAreSeen: letters by number, on one engine and over two.
func TestLettersAreSeen(t *testing.T) {
	l, _ := bare(t, Pairs{})
	if err := l.expect(5, 10); err != nil {
		t.Fatal(err)
	}
	for _, number := range []uint64{0, 9, 9, 16, math.MaxUint64} {
		l.letterArrived(&payload{kind: kindLetters, run: 5, number: number}, nil, true)
	}
	l.letterArrived(&payload{kind: kindLetters, run: 4, number: 3}, nil, true)
	if a := l.arrivals; a.Count != 2 || a.Doubled != 1 || a.Corrupt != 2 {
		t.Errorf("%+v", a)
	}
	var sum Arrivals
	sum.Merge(l.arrivals)
	sum.Merge(Arrivals{Set: []byte{0b110, 0b10}, Count: 3})
	if sum.Count != 4 || sum.Doubled != 2 || sum.Set[0] != 0b111 {
		t.Errorf("two engines: %+v", sum)
	}
}

// say returns the messages that the sender's flow would say now: their ids and what they come after.
func say(t *testing.T, l *loop) (ids, after []uint64) {
	t.Helper()
	plain := l.appendMessages(0, l.slots.At(0), []byte{0})
	if len(plain) == 1 {
		return nil, nil
	}
	if err := stanza.DecodeFrame(plain, func(v stanza.View) error {
		m, err := stanza.ParseMessageUp(v)
		ids, after = append(ids, m.ID), append(after, m.After)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return ids, after
}

func answerAck(t *testing.T, l *loop, ids ...uint64) {
	t.Helper()
	a := stanza.Ack{IDs: stanza.AppendPacked(nil, ids)}
	v, _, err := stanza.Decode(a.Append(nil))
	if err == nil {
		err = l.onAck(0, l.slots.At(0), v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func answerRefused(t *testing.T, l *loop, r stanza.Refused) {
	t.Helper()
	v, _, err := stanza.Decode(r.Append(nil))
	if err == nil {
		err = l.onRefused(0, l.slots.At(0), v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestStream walks one stream through the rules of docs/protocol.md, section 12.
func TestStream(t *testing.T) {
	l, tr := bare(t, Pairs{InFlight: 4})
	want := func(what string, ids, after, wantIDs, wantAfter []uint64) {
		t.Helper()
		if !reflect.DeepEqual(ids, wantIDs) || !reflect.DeepEqual(after, wantAfter) {
			t.Fatalf("%s: says %v after %v, want %v after %v", what, ids, after, wantIDs, wantAfter)
		}
	}
	ids, after := say(t, l)
	want("the first goes alone", ids, after, []uint64{1}, []uint64{0})
	ids, after = say(t, l)
	want("and is waited for", ids, after, nil, nil)
	answerAck(t, l, 1)
	ids, after = say(t, l)
	want("then the window", ids, after, []uint64{2, 3, 4, 5}, []uint64{0, 2, 3, 4})
	answerRefused(t, l, stanza.Refused{ID: 2, Reason: stanza.ReasonRetry})
	ids, after = say(t, l)
	want("a refusal holds the stream", ids, after, nil, nil)
	for id := uint64(3); id <= 5; id++ {
		answerRefused(t, l, stanza.Refused{ID: id, Reason: stanza.ReasonGap, HasLast: true, Last: 1})
	}
	tr.flows[0].hold = 1 // the wait is over
	ids, after = say(t, l)
	want("all go again in their order", ids, after, []uint64{2, 3, 4, 5}, []uint64{0, 2, 3, 4})
	answerAck(t, l, 2, 4)
	ids, after = say(t, l)
	want("acks out of order make room", ids, after, []uint64{6, 7}, []uint64{5, 6})
	answerRefused(t, l, stanza.Refused{ID: 3, Reason: stanza.ReasonTooLarge})
	if tr.unacked != 3 || tr.result.Rejected != 1 || tr.result.Resent != 4 || tr.result.Refused["too_large"] != 1 || tr.result.Refused["gap"] != 3 {
		t.Errorf("%d unacked, %+v", tr.unacked, tr.result)
	}
	l.flowUp(0, l.slots.At(0)) // a new connection
	ids, after = say(t, l)
	want("a new connection", ids, after, []uint64{5, 6, 7, 8}, []uint64{0, 5, 6, 7})
	tr.flows[0].overdue(l.now() + int64(time.Minute))
	ids, _ = say(t, l)
	want("no answer for long", ids, nil, []uint64{5, 6, 7, 8}, nil)
}

// TestOpenLoopSchedule: messages of an open loop are measured from when they should have gone, whatever held them up.
func TestOpenLoopSchedule(t *testing.T) {
	l, tr := bare(t, Pairs{Rate: 10})
	tr.start -= int64(time.Second) // ten were due before anybody looked
	tr.warm = tr.start
	l.pace()
	if f := tr.flows[0]; f.released < 10 || f.released > 12 {
		t.Fatalf("%d messages released after a second of 10 a second", f.released)
	}
	if ids, _ := say(t, l); len(ids) != 1 {
		t.Fatalf("says %v", ids)
	}
	answerAck(t, l, 1)
	if ids, _ := say(t, l); len(ids) == 0 {
		t.Fatal("nothing further goes")
	}
	if max := tr.result.Ack.Max(); max < time.Second-10*time.Millisecond {
		t.Errorf("the first ack took %v: not counted from its intended time", max)
	}
	if got := tr.meant(7) - tr.start; got != int64(700*time.Millisecond) {
		t.Errorf("message 7 is due after %v", time.Duration(got))
	}
}

// TestSenderGone: an order whose sender never comes back ends, and says what it has not sent; one that merely has a quiet time does not.
func TestSenderGone(t *testing.T) {
	for _, p := range []Pairs{{}, {Rate: 10}} {
		l, tr := bare(t, p)
		l.slots.At(0).phase = stopped
		tr.start -= int64(time.Minute)
		l.pace()
		l.flush()
		l.watchTraffic(tr.moved + int64(tr.p.Drain))
		if got := tr.report(); !tr.over || got.Unsent != 100 || got.Sent != 0 {
			t.Errorf("rate %v: over %v, %+v", p.Rate, tr.over, got)
		}
	}
	l, tr := bare(t, Pairs{Rate: 1e-3})
	tr.moved, tr.held = -int64(time.Hour), -int64(time.Hour)
	l.pace()
	say(t, l)
	l.watchTraffic(l.now())
	if tr.result.Sent != 1 || tr.over {
		t.Errorf("a message that was said just now: over %v, %+v", tr.over, tr.result)
	}
	answerAck(t, l, 1)
	arrive(t, l, 0, nil)
	tr.moved, tr.held = -int64(time.Hour), -int64(time.Hour)
	l.watchTraffic(l.now())
	if tr.over {
		t.Error("over while the next message is not due")
	}
}

// TestRefusedFor: a message that waits as it was asked to has not been forgotten; one that is refused for ever is given up at last.
func TestRefusedFor(t *testing.T) {
	l, tr := bare(t, Pairs{})
	say(t, l)
	answerRefused(t, l, stanza.Refused{ID: 1, Reason: stanza.ReasonBusy, RetryAfter: 200_000})
	f, now := tr.flows[0], l.now()
	if f.hold < now+int64(time.Minute) {
		t.Fatalf("the stream waits for %v", time.Duration(f.hold-now))
	}
	l.watchTraffic(f.hold - 1)
	l.watchTraffic(f.hold + int64(tr.p.Drain)/2)
	if tr.over {
		t.Fatal("given up while the message waited")
	}
	l.watchTraffic(now + int64(refusalsFor) + int64(time.Second))
	if got := tr.report(); !tr.over || got.Unacked != 1 {
		t.Errorf("over %v, %+v", tr.over, got)
	}
}

// TestPingsBesideSchedule: a session whose ping by schedule is under way is asked as well, and the pong of that one is not its answer.
func TestPingsBesideSchedule(t *testing.T) {
	l, _ := bare(t, Pairs{})
	first, second := l.slots.At(0), l.slots.At(1)
	first.set(pingDue)
	l.markDirty(0, first)
	l.flush()
	p, err := l.beginPing(Ping{Range: Range{Count: 2}}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	l.feedPings()
	l.flush()
	if l.onPong(0, first); p.result.Pongs != 0 {
		t.Error("the pong of another ping was taken for the answer")
	}
	l.onPong(1, second)
	l.onPong(0, first)
	l.feedPings()
	if !p.finished || p.result.Asked != 2 || p.result.Pongs != 2 || p.result.RTT.Count() != 2 || l.count.Pings != 3 {
		t.Errorf("%d pings said, %+v, finished %v", l.count.Pings, p.result, p.finished)
	}
}

// TestOrderGivenUp: sessions that come back after their order was given up do not count for the next one.
func TestOrderGivenUp(t *testing.T) {
	l, _ := bare(t, Pairs{})
	w, err := l.newWatch(func() {})
	if err != nil {
		t.Fatal(err)
	}
	w.result.Asked = 2
	l.slots.At(0).set(watched)
	l.slots.At(1).set(watched)
	l.boundOfWatch(l.slots.At(0), l.now())
	if _, err := l.newWatch(nil); err == nil {
		t.Error("two orders at a time")
	}
	l.endWatch(w)
	if w.result.Bound != 1 || w.result.Elapsed == 0 {
		t.Errorf("%+v", w.result)
	}
	next, err := l.newWatch(func() { t.Error("ended") })
	if err != nil {
		t.Fatal(err)
	}
	next.result.Asked = 1
	if l.boundOfWatch(l.slots.At(1), l.now()); next.result.Bound != 0 {
		t.Error("a session of the order before counts")
	}
}

func TestHistogramJSON(t *testing.T) {
	var h, back Histogram
	for k := range 1000 {
		h.Record(time.Duration(k) * time.Millisecond)
	}
	h.Record(time.Hour) // beyond the range: counts as the longest
	b, err := h.MarshalJSON()
	if err == nil {
		err = back.UnmarshalJSON(b)
	}
	if err != nil || back.Count() != 1001 || back.At(50) != h.At(50) || back.Max() != h.Max() {
		t.Errorf("%v: %d, %v %v", err, back.Count(), back.At(50), h.At(50))
	}
	var empty Histogram
	if b, err := empty.MarshalJSON(); err != nil || string(b) != `""` || back.UnmarshalJSON(b) != nil || back.Count() != 0 {
		t.Errorf("empty: %s, %v, %d", b, err, back.Count())
	}
	if back.UnmarshalJSON([]byte(`"AAAA"`)) == nil {
		t.Error("three zero bytes are a histogram")
	}
}
