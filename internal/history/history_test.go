package history

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
		{"confirmed and reported", func(h *History) { h.Sent(s, 1); h.Received(s, "b/1", 1); h.Confirmed(s, "b/1", 1); h.Delivered(s, 1) }, ""},
		{"reported too early", func(h *History) { h.Sent(s, 1); h.Received(s, "b/1", 1); h.Delivered(s, 1) }, "no device has confirmed"},
		{"confirmed what it never had", func(h *History) { h.Sent(s, 1); h.Confirmed(s, "b/1", 1) }, "never had"},
		{"expired", func(h *History) { h.Sent(s, 1); h.Acked(s, 1); h.Expired(s, 1) }, ""},
		{"expired, then got", func(h *History) { h.Sent(s, 1); h.Acked(s, 1); h.Expired(s, 1); h.Received(s, "b/1", 1) }, "which had expired"},
		{"one of two expired", func(h *History) { h.Sent(s, 1); h.Acked(s, 1); h.Sent(s, 2); h.Acked(s, 2); h.Expired(s, 1) }, "lost 1 acked messages, first id 2"},
		{"expired, and reported", func(h *History) { h.Sent(s, 1); h.Acked(s, 1); h.Expired(s, 1); h.Delivered(s, 1) }, "no device has confirmed"},
		{"refused for good and never seen", func(h *History) { h.Sent(s, 1); h.Failed(s, 1) }, ""},
		{"refused for good, then got", func(h *History) { h.Sent(s, 1); h.Failed(s, 1); h.Received(s, "b/1", 1) }, "refused for good"},
		{"got, then refused for good", func(h *History) { h.Sent(s, 1); h.Received(s, "b/1", 1); h.Failed(s, 1) }, "b/1 has it"},
		{"acked, then refused for good", func(h *History) { h.Sent(s, 1); h.Acked(s, 1); h.Received(s, "b/2", 2); h.Failed(s, 1) }, "after it had been acked"},
		{"id reused", func(h *History) { h.Sent(s, 1); h.Sent(s, 1) }, "given out twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := New()
			c.run(h)
			faults := strings.Join(h.Faults(all), "\n")
			if (c.want == "") != (faults == "") || !strings.Contains(faults, c.want) {
				t.Fatalf("faults %q, want %q", faults, c.want)
			}
		})
	}
}
