package turnd

import (
	"sync"
	"sync/atomic"
	"time"
)

// account is what one owner of credentials has here. It is in accounts for as long as somebody holds it.
type account struct {
	name string
	held int // guarded by accounts.mu: allocations, and requests that may make one

	requests bucket
	bytes    bucket
}

// accounts limits what each owner of credentials may have. Safe for concurrent use.
type accounts struct {
	all, each int     // allocations
	rate      float64 // bytes per second; 0: no limit
	requests  float64 // per second
	now       func() int64

	emptied chan struct{} // has room for one: total has come to 0

	mu    sync.Mutex
	total int
	list  map[string]*account
	idle  int64 // when those without an allocation were last forgotten
}

func newAccounts(cfg Config, now func() int64) *accounts {
	return &accounts{
		all: cfg.Allocations, each: cfg.AccountAllocations, rate: float64(cfg.AccountRate), requests: float64(cfg.AccountRequests),
		now: now, list: map[string]*account{}, emptied: make(chan struct{}, 1),
	}
}

// maxIdleAccounts is from how many accounts on those without an allocation are forgotten.
const maxIdleAccounts = 1 << 14

// request counts a request of an owner; false: too many.
func (s *accounts) request(owner string) bool {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.list[owner]
	if a == nil {
		if len(s.list) >= maxIdleAccounts+s.all && now-s.idle > int64(time.Second) {
			s.forget(now)
		}
		a = &account{name: owner}
		a.requests.init(s.requests, now)
		a.bytes.init(s.rate, now)
		s.list[owner] = a
	}
	return a.requests.take(1, s.requests, now)
}

func (s *accounts) forget(now int64) {
	s.idle = now
	for name, a := range s.list {
		if a.held == 0 {
			delete(s.list, name)
		}
	}
}

// take takes a place for an allocation; OK, or which limit there is.
func (s *accounts) take(owner string) (*account, Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.list[owner]
	if a == nil { // forgotten since its request was counted
		a = &account{name: owner}
		a.requests.init(s.requests, s.now())
		a.bytes.init(s.rate, s.now())
		s.list[owner] = a
	}
	if a.held >= s.each {
		return nil, Quota
	}
	if s.total >= s.all {
		return nil, NoPorts
	}
	a.held++
	s.total++
	return a, OK
}

// give gives a place back.
func (s *accounts) give(a *account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.held--
	if s.total--; s.total == 0 {
		select {
		case s.emptied <- struct{}{}:
		default: // it is known already
		}
	}
}

// none waits until no place is taken, and reports whether that was within limit. One goroutine at a time may wait.
func (s *accounts) none(limit time.Duration) bool {
	end := time.NewTimer(limit)
	defer end.Stop()
	for s.count() > 0 {
		select {
		case <-s.emptied:
		case <-end.C:
			return s.count() == 0
		}
	}
	return true
}

// count returns how many places are taken.
func (s *accounts) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// bucket is a token bucket of one second's worth. Safe for concurrent use, without a lock: packets of an account pass here on many threads.
type bucket struct {
	empty atomic.Int64 // when it was, or will be, empty: taking moves it on
}

func (b *bucket) init(rate float64, now int64) { b.empty.Store(now - int64(time.Second)) }

// take takes n of rate per second; false: there is not as much. A rate of 0 is none.
func (b *bucket) take(n int, rate float64, now int64) bool {
	if rate <= 0 {
		return true
	}
	cost := int64(float64(n) / rate * 1e9)
	for {
		was := b.empty.Load()
		next := max(was, now-int64(time.Second)) + cost
		if next > now {
			return false
		}
		if b.empty.CompareAndSwap(was, next) {
			return true
		}
	}
}
