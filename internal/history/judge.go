package history

import (
	"slices"
	"testing"
	"time"
)

// Waiting counts the newest acked messages, one for each stream, that a device has not received yet. When there is none the history can
// be judged: what is missing below a message that a device has could only come out of order.
func (h *History) Waiting(to string, devices ...string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for s, sh := range h.streams {
		if s.To != to {
			continue
		}
		newest := uint64(0)
		for id := range sh.acked {
			newest = max(newest, id)
		}
		for _, d := range devices {
			if newest > 0 && !sh.expired[newest] && (sh.got[d] == nil || !sh.got[d].ids[newest]) {
				n++
			}
		}
	}
	return n
}

// Forget lets go of all messages, for who keeps a history that is judged.
func (h *History) Forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.streams)
}

// Totals counts messages: handed to Send, acked, received (each device counts).
func (h *History) Totals() (sent, acked, received int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, sh := range h.streams {
		sent += len(sh.sent)
		acked += len(sh.acked)
		for _, d := range sh.got {
			received += len(d.ids)
		}
	}
	return sent, acked, received
}

// SentBy counts the messages that a device handed to Send.
func (h *History) SentBy(device string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s, sh := range h.streams {
		if s.From == device {
			n += len(sh.sent)
		}
	}
	return n
}

// Faults returns every broken promise that can be judged now: call it when all receivers had time to drain. devices names the
// receiving devices of each account that must have everything acked; others are judged for order and doubles only.
func (h *History) Faults(devices map[string][]string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s, sh := range h.streams {
		for _, device := range devices[s.To] {
			var lost []uint64
			for id := range sh.acked {
				if d := sh.got[device]; !sh.expired[id] && (d == nil || !d.ids[id]) {
					lost = append(lost, id)
				}
			}
			if len(lost) > 0 {
				slices.Sort(lost)
				h.fault("%v: %s lost %d acked messages, first id %d", s, device, len(lost), lost[0])
			}
		}
		for device, d := range sh.got {
			for id := range d.ids {
				if !sh.sent[id] {
					h.fault("%v: %s got id %d, which nobody sent", s, device, id)
				}
			}
		}
	}
	return slices.Clone(h.faults)
}

// drainLimit is how long Judge waits for real processes: generous, since no promise is about it.
const drainLimit = 90 * time.Second

// Judge waits until every device has the newest of what was acked in each stream, and reports each broken promise.
func (h *History) Judge(t testing.TB, devices map[string][]string) {
	t.Helper()
	end := time.Now().Add(drainLimit)
	waiting := func() int {
		n := 0
		for to, list := range devices {
			n += h.Waiting(to, list...)
		}
		return n
	}
	for waiting() > 0 && time.Now().Before(end) { // what is missing is a fault below
		time.Sleep(10 * time.Millisecond) // devices note what they get, and tell nobody
	}
	for _, f := range h.Faults(devices) {
		t.Error(f)
	}
}
