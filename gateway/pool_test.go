package gateway

import (
	"slices"
	"testing"
)

// TestPoolOrder: resumes go before everything else, and what has begun before what begins, whatever came first.
func TestPoolOrder(t *testing.T) {
	p := newPool(8)
	var want []*job
	byStep := map[step][]*job{}
	for _, s := range []step{stepBegin, stepFinish, stepResume, stepBegin, stepResume, stepFinish, stepResume, stepBegin} {
		j := &job{step: s}
		byStep[s] = append(byStep[s], j)
		if !p.submit(j) {
			t.Fatal("a queue is full")
		}
	}
	for _, s := range []step{stepResume, stepFinish, stepBegin} {
		want = append(want, byStep[s]...)
	}
	got := []*job{p.next()}
	late := &job{step: stepResume} // comes while others wait
	if !p.submit(late) {
		t.Fatal("a queue is full")
	}
	want = slices.Insert(want, len(byStep[stepResume]), late)
	for len(got) < len(want) {
		got = append(got, p.next())
	}
	if !slices.Equal(got, want) || p.more() != nil {
		t.Errorf("served %v, want %v", stepsOf(got), stepsOf(want))
	}
}

func stepsOf(jobs []*job) (all []string) {
	for _, j := range jobs {
		all = append(all, j.step.String())
	}
	return all
}

// TestResumeBesideOverload: when XX has no room left, who has a ticket still gets in.
func TestResumeBesideOverload(t *testing.T) {
	p := newPool(2)
	for range 2 {
		if !p.submit(&job{step: stepBegin}) {
			t.Fatal("no room")
		}
	}
	if p.submit(&job{step: stepBegin}) || p.full() {
		t.Error("a full queue of XX takes more, or counts as everything")
	}
	for range 2 {
		if !p.submit(&job{step: stepResume}) {
			t.Fatal("no room for resumes")
		}
	}
	if !p.full() {
		t.Error("not full")
	}
}
