package gateway

import (
	"slices"
	"testing"
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
