package node

import (
	"testing"

	"linecard.example/mediad"
)

// TestTidier: a tidying comes behind each burst of allocations, once, and none without.
func TestTidier(t *testing.T) {
	const living = 64 << 20
	held := uint64(living)
	var d tidier
	var allocated uint64
	// seconds lets so many seconds pass with so many bytes each, and returns the number of those that were due.
	seconds := func(n int, bytes uint64) (due []int) {
		for i := range n {
			allocated += bytes
			if d.due(allocated, living, held) {
				due = append(due, i)
			}
		}
		return due
	}
	want := func(what string, due []int, second ...int) {
		t.Helper()
		if len(due) != len(second) || len(due) == 1 && due[0] != second[0] {
			t.Errorf("%s: tidied up in seconds %v, want %v", what, due, second)
		}
	}
	want("a process that just started", seconds(10, 0))
	want("a burst", seconds(30, 20<<20))
	want("the quiet behind it", seconds(100, 0), calmSeconds-1)
	want("pings and a scrape: little, and not worth it", seconds(7, 1<<20))
	want("until it has come together", seconds(1, 1<<20), 0)
	want("a short burst", seconds(2, 20<<20))
	want("a pause in it", seconds(calmSeconds-1, 0))
	want("more of it", seconds(1, 20<<20))
	want("its end", seconds(60, 0), calmSeconds-1)
	held = 20 * living
	want("a burst, of which much is still held", seconds(5, 200<<20))
	want("some traffic for ever behind it: little beside what is held", seconds(calmSeconds, 10<<20), calmSeconds-1)
	held = living
	want("the same when nothing more is to be had", seconds(60, 10<<20))
}

// TestTrimmerOfNone: a process whose daemon has nothing to trim must not have a nil one trimmed every few seconds.
func TestTrimmerOfNone(t *testing.T) {
	if d := (&Node{}).trimmer(); d != nil {
		t.Errorf("%T", d)
	}
	if d := (&Node{media: &mediad.Server{}}).trimmer(); d == nil {
		t.Error("a mediad has buffers")
	}
}
