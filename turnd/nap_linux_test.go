package turnd

import (
	"syscall"
	"testing"
	"time"
)

// TestNaps: there is a nap in a full load alone, not before a millisecond has shown it, and none for a while behind one that lasted.
func TestNaps(t *testing.T) {
	const us, ms = int64(time.Microsecond), int64(time.Millisecond)
	for _, c := range []struct {
		name          string
		packets, runs int
		every         int64
		want          bool
	}{
		{"a packet each 100 us", 1, 1, 100 * us, false},
		{"below a full load", 4, 1, 50 * us, false},
		{"a full load", 4, 2, 30 * us, true},
		{"a full load that nothing can be put together of", 4, 3, 30 * us, false},
		{"much at once, seldom", 90, 3, ms, false},
		{"much at once, always", 32, 8, 20 * us, true},
	} {
		var n naps
		got := false
		now := int64(0)
		for ; now < 10*ms; now += c.every {
			if got = n.note(c.packets, c.runs, now); got && now < ms {
				t.Errorf("%s: a nap after %v", c.name, time.Duration(now))
			}
		}
		if got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
		if n.note(1, 1, now+time.Second.Nanoseconds()) {
			t.Errorf("%s: the first packet after a pause has to wait", c.name)
		}
	}
	n := naps{wanted: true}
	n.took(napLimit, 0)
	if !n.note(1, 1, 0) {
		t.Error("a short nap ends naps")
	}
	n.took(napLimit+1, 0)
	if n.note(1, 1, napPause-1) {
		t.Error("a nap behind one that lasted")
	}
}

// TestNap: the kernel takes what nap passes, and nothing is allocated for it.
func TestNap(t *testing.T) {
	for _, alone := range []bool{false, true} {
		if n := testing.AllocsPerRun(10, func() {
			if err := nap(alone); err != 0 && err != syscall.EINTR {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("alone %v: %v allocations", alone, n)
		}
	}
}
