package testkit

import (
	"fmt"
	"slices"
	"sync"
)

// Stream names a stream as the history sees it: who sends to whom.
type Stream struct{ From, To string }

// History records what clients saw and judges it by the promises: nothing acked is lost, order holds within a stream, nothing comes
// twice after the id rule. Its methods are safe for concurrent use.
type History struct {
	mu      sync.Mutex
	streams map[Stream]*streamHistory
	faults  []string
}

type streamHistory struct {
	sent  map[uint64]bool           // id -> handed to Send
	acked map[uint64]bool           // id -> the sender saw it acked
	got   map[string]*deviceHistory // by receiving device
}

type deviceHistory struct {
	last uint64
	ids  map[uint64]bool
}

// maxFaults bounds the faults kept; the first ones say what happened.
const maxFaults = 50

// NewHistory returns an empty history.
func NewHistory() *History { return &History{streams: map[Stream]*streamHistory{}} }

func (h *History) stream(s Stream) *streamHistory {
	sh := h.streams[s]
	if sh == nil {
		sh = &streamHistory{sent: map[uint64]bool{}, acked: map[uint64]bool{}, got: map[string]*deviceHistory{}}
		h.streams[s] = sh
	}
	return sh
}

func (h *History) fault(format string, args ...any) {
	if len(h.faults) < maxFaults {
		h.faults = append(h.faults, fmt.Sprintf(format, args...))
	}
}

// Sent notes that a message was handed to the client. Call it before or after the other calls for the id, in any order.
func (h *History) Sent(s Stream, id uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if sh := h.stream(s); sh.sent[id] {
		h.fault("%v: id %d was given out twice", s, id)
	} else {
		sh.sent[id] = true
	}
}

// Acked notes that the sender saw the message acked.
func (h *History) Acked(s Stream, id uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stream(s).acked[id] = true
}

// Received notes that an application on device got the message, after the client's id rule.
func (h *History) Received(s Stream, device string, id uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sh := h.stream(s)
	d := sh.got[device]
	if d == nil {
		d = &deviceHistory{ids: map[uint64]bool{}}
		sh.got[device] = d
	}
	switch {
	case d.ids[id]:
		h.fault("%v: %s got id %d twice", s, device, id)
	case id < d.last:
		h.fault("%v: %s got id %d after %d", s, device, id, d.last)
	}
	d.ids[id] = true
	d.last = max(d.last, id)
}

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
			if newest > 0 && (sh.got[d] == nil || !sh.got[d].ids[newest]) {
				n++
			}
		}
	}
	return n
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

// Faults returns every broken promise that can be judged now: call it when all receivers had time to drain. devices names the
// receiving devices of each account that must have everything acked; others are judged for order and doubles only.
func (h *History) Faults(devices map[string][]string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s, sh := range h.streams {
		for _, device := range devices[s.To] {
			var lost []uint64
			for id := range sh.acked {
				if d := sh.got[device]; d == nil || !d.ids[id] {
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
	return h.faults
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
