package testkit

import (
	"strings"
	"testing"
)

// TestHistoryCatches shows that the judge finds each kind of broken promise; a judge that cannot fail proves nothing.
func TestHistoryCatches(t *testing.T) {
	s := Stream{From: "a", To: "b"}
	all := map[string][]string{"b": {"b/1"}}
	for _, c := range []struct {
		name string
		run  func(h *History)
		want string
	}{
		{"all well", func(h *History) { h.Sent(s, 1); h.Acked(s, 1); h.Received(s, "b/1", 1) }, ""},
		{"unacked may be lost", func(h *History) { h.Sent(s, 1) }, ""},
		{"lost", func(h *History) { h.Sent(s, 1); h.Acked(s, 1) }, "lost 1 acked"},
		{"lost by one device", func(h *History) { h.Sent(s, 1); h.Acked(s, 1); h.Received(s, "b/2", 1) }, "lost 1 acked"},
		{"twice", func(h *History) { h.Sent(s, 1); h.Received(s, "b/1", 1); h.Received(s, "b/1", 1) }, "twice"},
		{"order", func(h *History) { h.Sent(s, 1); h.Sent(s, 2); h.Received(s, "b/1", 2); h.Received(s, "b/1", 1) }, "after 2"},
		{"from nowhere", func(h *History) { h.Received(s, "b/1", 9) }, "nobody sent"},
		{"id reused", func(h *History) { h.Sent(s, 1); h.Sent(s, 1) }, "given out twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := NewHistory()
			c.run(h)
			faults := strings.Join(h.Faults(all), "\n")
			if (c.want == "") != (faults == "") || !strings.Contains(faults, c.want) {
				t.Fatalf("faults %q, want %q", faults, c.want)
			}
		})
	}
}
