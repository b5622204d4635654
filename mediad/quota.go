package mediad

import (
	"sync"

	"linecard.example/internal/stanza"
)

// limits bounds what accounts have. 0 means no limit.
type limits struct {
	Quota          int64 // bytes of an account: blobs with a reference of its, and what its unfinished uploads may become
	Uploads        int   // unfinished ones, of all accounts
	AccountUploads int   // of one account
}

// ledger counts what accounts have, in memory: it is read from the names of references at start. Safe for concurrent use.
type ledger struct {
	limits limits
	room   func() int64 // bytes that the disk has above its floor; nil: not asked

	mu       sync.Mutex
	ready    bool // all references have been counted
	accounts map[stanza.Account]*holding
	uploads  int
	pending  int64 // bytes that uploads have reserved and not written

	stored, reserved int64 // of all accounts
}

// holding is one account's. It goes when there is nothing in it.
type holding struct {
	stored, reserved int64
	uploads          int
}

func newLedger(l limits, room func() int64) *ledger {
	return &ledger{limits: l, room: room, accounts: map[stanza.Account]*holding{}}
}

// begin reserves size bytes for a new upload. errStarting, errTooMany, errQuota, errFull.
func (l *ledger) begin(a stanza.Account, size int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.accounts[a]
	if h == nil {
		h = &holding{}
	}
	switch {
	case !l.ready:
		return errStarting
	case l.limits.Uploads > 0 && l.uploads >= l.limits.Uploads,
		l.limits.AccountUploads > 0 && h.uploads >= l.limits.AccountUploads:
		return errTooMany
	}
	if err := l.fits(h, size); err != nil {
		return err
	}
	l.accounts[a] = h
	h.uploads++
	l.uploads++
	h.reserved += size
	l.reserved += size
	l.pending += size
	return nil
}

// again counts an upload that was there before the start.
func (l *ledger) again(a stanza.Account, size, written int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.of(a)
	h.uploads++
	l.uploads++
	h.reserved += size
	l.reserved += size
	l.pending += size - written
}

// more reserves n bytes more for an upload that did not say how long it gets.
func (l *ledger) more(a stanza.Account, n int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.of(a)
	if err := l.fits(h, n); err != nil {
		return err
	}
	h.reserved += n
	l.reserved += n
	l.pending += n
	return nil
}

// fits says whether n bytes more are within quota and room. Under mu.
func (l *ledger) fits(h *holding, n int64) error {
	if q := l.limits.Quota; q > 0 && n > q-h.stored-h.reserved {
		return errQuota
	}
	if l.room != nil && n > l.room()-l.pending {
		return errFull
	}
	return nil
}

// low says that the disk is below what is to stay free.
func (l *ledger) low() bool { return l.room != nil && l.room() < 0 }

// wrote moves n bytes of a reservation from what the disk must still hold to what it holds; less than 0 for what was cut off.
func (l *ledger) wrote(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending -= n
}

// over ends an upload that had reserved size bytes and written some of them.
func (l *ledger) over(a stanza.Account, size, written int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.of(a)
	h.uploads--
	l.uploads--
	h.reserved -= size
	l.reserved -= size
	l.pending -= size - written
	l.tidy(a, h)
}

// add counts a reference that was made, and drop one that ended.
func (l *ledger) add(a stanza.Account, size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.of(a)
	h.stored += size
	l.stored += size
	l.tidy(a, h) // a sweep may have ended it before it was counted
}

func (l *ledger) drop(a stanza.Account, size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.of(a)
	h.stored -= size
	l.stored -= size
	l.tidy(a, h)
}

// open lets uploads begin: all references are counted.
func (l *ledger) open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ready = true
}

// isReady says whether all references are counted.
func (l *ledger) isReady() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ready
}

// sums is what all accounts have together.
type sums struct {
	accounts         int
	stored, reserved int64
}

func (l *ledger) sum() sums {
	l.mu.Lock()
	defer l.mu.Unlock()
	return sums{len(l.accounts), l.stored, l.reserved}
}

func (l *ledger) of(a stanza.Account) *holding {
	h := l.accounts[a]
	if h == nil {
		h = &holding{}
		l.accounts[a] = h
	}
	return h
}

func (l *ledger) tidy(a stanza.Account, h *holding) {
	if *h == (holding{}) {
		delete(l.accounts, a)
	}
}
