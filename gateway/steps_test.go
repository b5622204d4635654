package gateway

import (
	"slices"
	"testing"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// TestStepOrder: resumes go before everything else, and what has begun before what begins, whatever came first; who has gone is passed over.
func TestStepOrder(t *testing.T) {
	s := handshakeSteps{limit: 8}
	byStep := map[step][]*handshake{}
	add := func(st stage) *handshake {
		h := &handshake{stage: st}
		if !s.add(h) {
			t.Fatal("a queue is full")
		}
		byStep[stepOf(st)] = append(byStep[stepOf(st)], h)
		return h
	}
	for _, st := range []stage{
		stageHelloStep, stageFinishStep, stageResumeStep, stageHelloStep, stageResumeStep, stageFinishStep,
		stageResumeStep, stageHelloStep,
	} {
		add(st)
	}
	add(stageFinishStep).gone = true
	got := []*handshake{s.next()}
	add(stageResumeStep) // comes while others wait
	for h := s.next(); h != nil; h = s.next() {
		got = append(got, h)
	}
	want := slices.Concat(byStep[stepResume], byStep[stepFinish][:2], byStep[stepBegin])
	if !slices.Equal(got, want) || !s.empty() {
		t.Errorf("served %v, want %v", stagesOf(got), stagesOf(want))
	}
	for i := range s.queues {
		if n := s.queues[i].count.Load(); n != 0 {
			t.Errorf("%d count as waiting for %v", n, step(i))
		}
	}
}

func stagesOf(all []*handshake) (stages []stage) {
	for _, h := range all {
		stages = append(stages, h.stage)
	}
	return stages
}

// TestResumeBesideOverload: when XX has no room left, who has a ticket still gets in.
func TestResumeBesideOverload(t *testing.T) {
	s := handshakeSteps{limit: 2}
	for range 2 {
		if !s.add(&handshake{stage: stageHelloStep}) {
			t.Fatal("no room")
		}
	}
	if s.add(&handshake{stage: stageHelloStep}) || s.full() {
		t.Error("a full queue of XX takes more, or counts as everything")
	}
	for range 2 {
		if !s.add(&handshake{stage: stageResumeStep}) {
			t.Fatal("no room for resumes")
		}
	}
	if !s.full() {
		t.Error("not full")
	}
}

// answeredConn is a stranger's connection that notes how many frames of a session were read when it is answered.
type answeredConn struct {
	stubConn
	read func()
}

func (c *answeredConn) Write(b []byte) (int, error) {
	c.read()
	return len(b), nil
}

// TestStepsLetSessionsIn: between the steps of many strangers a loop looks at its sockets.
func TestStepsLetSessionsIn(t *testing.T) {
	h := start(t, func(c *Config) { c.Loops = 1 })
	c := h.bind(5)
	l := h.g.loops[0]
	const strangers = 20 * turnSteps
	hello, err := wire.NewInitiator(h.g.deps.Static, nil).AppendHello(nil, wire.Preamble[:])
	if err != nil {
		t.Fatal(err)
	}
	var seen []uint32
	done := make(chan struct{})
	h.onLoopWait(l, func() {
		c.send(stanza.Ping{}.Append(nil)) // lies in the socket from here on
		conn := &answeredConn{read: func() {
			if seen = append(seen, l.slots.At(0).rxNonce); len(seen) == strangers {
				close(done)
			}
		}}
		for range strangers {
			s := &handshake{conn: conn, stage: stageHelloStep, transcript: wire.Preamble[:], frame: hello[wire.LenSize:]}
			s.responder = wire.NewResponder(h.g.deps.Static, h.g.deps.Cert, nil)
			if !l.steps.add(s) {
				t.Error("a queue is full")
			}
		}
		l.steps.left = turnSteps // the first ones at once
		l.doSteps()
	})
	<-done
	if first, last := seen[0], seen[strangers-1]; first != 0 || last != 1 {
		t.Errorf("%d frames of the session were read before the first step, %d before the last", first, last)
	}
	c.wantTag(stanza.TagPong)
}

// TestNobodyStarves: however many tickets there are, others get their part.
func TestNobodyStarves(t *testing.T) {
	s := handshakeSteps{limit: 100}
	for _, st := range []stage{stageHelloStep, stageHelloStep, stageFinishStep} {
		s.add(&handshake{stage: st})
	}
	others := 0
	for range 3 * fairStep {
		s.add(&handshake{stage: stageResumeStep})
		if s.next().stage != stageResumeStep {
			others++
		}
	}
	if others != 3 {
		t.Errorf("%d of 3 others in %d steps", others, 3*fairStep)
	}
}
