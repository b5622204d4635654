package link

import "sync/atomic"

// window counts, per group, what the peer has sent against what it was granted.
type window struct {
	size  int64
	group []account
}

// account of one group: taken = received and not granted again; owed = the part of it that is handled.
type account struct{ taken, owed atomic.Int64 }

func (w *window) init(groups, size int) {
	w.size = int64(size)
	w.group = make([]account, groups)
}

func (w *window) groups() int { return len(w.group) }

// take books n received bytes; false when the peer had not so much credit.
func (w *window) take(i int, n int64) bool {
	return w.group[i].taken.Add(n) <= w.size
}

// done books n handled bytes and returns what is to be granted now, 0 as long as less than half of the window has come together.
func (w *window) done(i int, n int64) int64 {
	a := &w.group[i]
	if a.owed.Add(n) < (w.size+1)/2 {
		return 0
	}
	n = a.owed.Swap(0)
	// More done than was received is a fault of the daemon; granting it would end the stream at the peer.
	for {
		t := a.taken.Load()
		n = min(n, t)
		if a.taken.CompareAndSwap(t, t-n) {
			return n
		}
	}
}
