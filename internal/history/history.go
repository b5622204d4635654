package history

import (
	"fmt"
	"sync"
)

// Stream names a stream as the history sees it: who sends to whom. From is a device, To an account or a device's queue.
type Stream struct{ From, To string }

// History records what clients saw and judges it by the promises: nothing acked is lost, order holds within a stream, nothing comes
// twice after the id rule, nothing comes that was refused for good. Its methods are safe for concurrent use.
type History struct {
	mu      sync.Mutex
	streams map[Stream]*streamHistory
	faults  []string
}

type streamHistory struct {
	sent    map[uint64]bool           // id -> handed to Send
	acked   map[uint64]bool           // id -> the sender saw it acked
	failed  map[uint64]bool           // id -> the sender was told that it will never be taken
	expired map[uint64]bool           // id -> it was let go of, having waited for longer than messages are kept
	got     map[string]*deviceHistory // by receiving device
}

type deviceHistory struct {
	last  uint64
	ids   map[uint64]bool
	acked map[uint64]bool // the device has told the server that it has them
}

// maxFaults bounds the faults kept; the first ones say what happened.
const maxFaults = 50

// New returns an empty history.
func New() *History { return &History{streams: map[Stream]*streamHistory{}} }

func (h *History) stream(s Stream) *streamHistory {
	sh := h.streams[s]
	if sh == nil {
		sh = &streamHistory{sent: map[uint64]bool{}, acked: map[uint64]bool{}, failed: map[uint64]bool{}, expired: map[uint64]bool{},
			got: map[string]*deviceHistory{}}
		h.streams[s] = sh
	}
	return sh
}

func (sh *streamHistory) device(name string) *deviceHistory {
	d := sh.got[name]
	if d == nil {
		d = &deviceHistory{ids: map[uint64]bool{}, acked: map[uint64]bool{}}
		sh.got[name] = d
	}
	return d
}

func (h *History) fault(format string, args ...any) {
	if len(h.faults) < maxFaults {
		h.faults = append(h.faults, fmt.Sprintf(format, args...))
	}
}

// Fault notes a broken promise that the caller has seen itself.
func (h *History) Fault(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault(format, args...)
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
	sh := h.stream(s)
	if sh.failed[id] {
		h.fault("%v: id %d was acked after it had been refused for good", s, id)
	}
	sh.acked[id] = true
}

// Failed notes that the sender was told that the message is refused for good: nobody may ever get it.
func (h *History) Failed(s Stream, id uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sh := h.stream(s)
	if sh.acked[id] {
		h.fault("%v: id %d was refused for good after it had been acked", s, id)
	}
	sh.failed[id] = true
	for device, d := range sh.got {
		if d.ids[id] {
			h.fault("%v: id %d was refused for good, and %s has it", s, id, device)
		}
	}
}

// Expired notes that the message waited for its device for longer than the system keeps it, and that the system says to have let go of
// it: nobody may get it any more.
func (h *History) Expired(s Stream, id uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stream(s).expired[id] = true
}

// Received notes that an application on device got the message, after the client's id rule.
func (h *History) Received(s Stream, device string, id uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sh := h.stream(s)
	d := sh.device(device)
	switch {
	case d.ids[id]:
		h.fault("%v: %s got id %d twice", s, device, id)
	case id < d.last:
		h.fault("%v: %s got id %d after %d", s, device, id, d.last)
	case sh.failed[id]:
		h.fault("%v: %s got id %d, which was refused for good", s, device, id)
	case sh.expired[id]:
		h.fault("%v: %s got id %d, which had expired", s, device, id)
	}
	d.ids[id] = true
	d.last = max(d.last, id)
}

// Confirmed notes that device has told the server that it has the message. A device confirms only what it has received.
func (h *History) Confirmed(s Stream, device string, id uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.stream(s).device(device)
	if !d.ids[id] {
		h.fault("%v: %s confirmed id %d, which it never had", s, device, id)
	}
	d.acked[id] = true
}

// Delivered notes that the sender was told that the message has been delivered, which one of the receiving devices must have confirmed.
func (h *History) Delivered(s Stream, id uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.stream(s).got {
		if d.acked[id] {
			return
		}
	}
	h.fault("%v: id %d was reported as delivered, and no device has confirmed it", s, id)
}
