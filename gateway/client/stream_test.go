package client

import (
	"testing"
	"time"
)

// TestProofAges: time that the machine slept through counts for how long the server remembers a stream.
func TestProofAges(t *testing.T) {
	o := newOutbox(func() float64 { return 0.5 })
	o.add(&outMessage{rec: &sendRecord{id: 1, to: bobAccount}})
	now := time.Now()
	if o.acked(1, now) == nil {
		t.Fatal("unknown")
	}
	slept := now.Round(0).Add(memoryAge + time.Hour) // the monotonic clock stood still
	s := o.streams[bobAccount]
	if s.proved != s.proved.Round(0) || !s.probing(slept) {
		t.Fatal("the proof of a month ago still counts")
	}
}
