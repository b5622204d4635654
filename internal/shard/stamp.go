package shard

import "time"

// slewPerElapsed bounds how fast stamps approach the wall clock: 1 s per minute.
const slewPerElapsed = 60

// stamper makes a leader's stamps: they start at max(previous stamp, wall clock), advance with the monotonic clock, and are
// slewed towards the wall clock, so that a stepped clock neither turns stamps back nor tears them forward. Shard goroutine only.
type stamper struct {
	wall func() time.Time
	mono func() time.Duration
	cur  int64         // ns since the Unix epoch
	at   time.Duration // monotonic time of cur
}

// lead starts a leadership; prev is the last stamp in the log, in ms.
func (s *stamper) lead(prev int64) {
	s.at = s.mono()
	s.cur = max(prev*int64(time.Millisecond), s.wall().UnixNano())
}

// now returns the stamp of this moment in ms. It never falls within a leadership.
func (s *stamper) now() int64 {
	at := s.mono()
	elapsed := int64(at - s.at)
	if elapsed > 0 {
		s.at = at
		s.cur += elapsed
		limit := elapsed / slewPerElapsed
		s.cur += min(max(s.wall().UnixNano()-s.cur, -limit), limit)
	}
	return s.cur / int64(time.Millisecond)
}
