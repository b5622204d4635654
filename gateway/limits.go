package gateway

import "time"

// tickLength is the unit of a loop's coarse clock.
const tickLength = 100 * time.Millisecond

const ticksPerSecond = uint64(time.Second / tickLength)

// calmTick is how often a gateway has its loops turn when all of them are calm: often enough for wheels that count seconds.
const calmTick = 5 * tickLength

// refill gives s the tokens of the time since its last refill. The sums are floors of rate x absolute time, so that no fraction
// is lost however often it is called.
func (l *loop) refill(s *session) {
	elapsed := uint16(l.tick) - s.tokenTime
	if elapsed == 0 {
		return
	}
	s.tokenTime = uint16(l.tick)
	from := l.tick - uint64(elapsed)
	cfg := &l.g.cfg
	s.send = uint16(min(uint64(cfg.SendBurst), uint64(s.send)+gained(cfg.SendRate, from, l.tick)))
	s.lookups = uint8(min(uint64(cfg.LookupBurst), uint64(s.lookups)+gained(cfg.LookupRate, from, l.tick)))
}

// gained returns the whole tokens that come between two ticks at rate tokens per second.
func gained(rate int, from, to uint64) uint64 {
	r := uint64(rate)
	return r*to/ticksPerSecond - r*from/ticksPerSecond
}

// takeSend takes the token for one message; false when the session is over its rate.
func (l *loop) takeSend(s *session) bool {
	l.refill(s)
	if s.send == 0 {
		return false
	}
	s.send--
	return true
}

// takeLookup takes the token for one query.
func (l *loop) takeLookup(s *session) bool {
	l.refill(s)
	if s.lookups == 0 {
		return false
	}
	s.lookups--
	return true
}
