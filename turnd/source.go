package turnd

import (
	"net/netip"
	"sync"
	"time"
)

// maxSources bounds what is remembered of sources, in each of two generations: about 6 MB together.
const maxSources = 1 << 15

// sources limits what strangers can have from here: requests by source, so that nobody tries passwords at full speed, and bytes by
// source, so that nobody has this server send more to somebody else than he could send himself.
//
// A source's bytes are an account: what it sends is paid in, what it is answered is paid out, and an answer that is not covered is not
// sent. The first request of a TURN client has 28 bytes and its answer 56, so each source begins with a greeting, which is renewed slowly;
// greetings of all sources together have a limit too. Beyond them a client is answered at its second try, which covers the answer: a flood
// with forged sources gets less out than it put in, and honest clients lose half a second. Safe for concurrent use.
type sources struct {
	rate, burst float64 // requests of one source
	greeting    float64 // bytes
	greetings   float64 // bytes per second, of all sources
	now         func() int64

	mu         sync.Mutex
	young, old map[netip.Prefix]*source // a source that is used moves to young; old is forgotten when young is full
	left       float64                  // of greetings
	at         int64
}

// source is one of them.
type source struct {
	claimed  float64 // requests that it may still do, from an address that anybody can write into a packet
	proven   float64 // the same, from one that was shown to be its own: nobody else can use these up
	bytes    float64 // that it may still be answered, the greeting not counted
	greeting float64 // left
	at       int64
}

// greetingTime is how long it takes until a source that used its greeting has another one.
const greetingTime = 10 * time.Second

// maxPaid bounds what a source can save up.
const maxPaid = 4096

func newSources(cfg Config, now func() int64) *sources {
	return &sources{
		rate: cfg.SourceRate, burst: float64(cfg.SourceBurst), greeting: float64(cfg.Greeting), greetings: float64(cfg.Greetings), now: now,
		young: map[netip.Prefix]*source{}, left: float64(cfg.Greetings), at: now(),
	}
}

// sourceOf is whom a client counts for: an IPv4 address, or the IPv6 /56 that one customer has, as gateways see it.
func sourceOf(a netip.Addr) netip.Prefix { return prefixOf(a, 32, 56) }

// networkOf is the network around it, as gateways see it, too.
func networkOf(a netip.Addr) netip.Prefix { return prefixOf(a, 24, 48) }

func prefixOf(a netip.Addr, four, six int) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := four
	if a.Is6() {
		bits = six
	}
	p, _ := a.Prefix(bits) // fails for no length that an address can have
	return p
}

// request counts a request of in bytes that will be answered with out bytes without its sender being known; OK, or why it must not be
// answered. proven says that the address was shown to be the sender's, by a handshake: then bytes do not count.
func (s *sources) request(from netip.Addr, in, out int, proven bool) Reason {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.get(sourceOf(from), now)
	left := &x.claimed
	if proven {
		left = &x.proven
	}
	if *left < 1 {
		return TooFast
	}
	*left--
	if proven {
		return OK
	}
	x.bytes = min(x.bytes+float64(in), maxPaid)
	if x.bytes >= float64(out) {
		x.bytes -= float64(out)
		return OK
	}
	debt := float64(out) - x.bytes
	s.left = min(s.left+s.greetings*seconds(now-s.at), s.greetings)
	s.at = now
	if x.greeting < debt || s.left < debt {
		return Unpaid
	}
	x.bytes = 0
	x.greeting -= debt
	s.left -= debt
	return OK
}

// get returns a source, brought up to now.
func (s *sources) get(key netip.Prefix, now int64) *source {
	x := s.young[key]
	if x == nil {
		if x = s.old[key]; x == nil {
			x = &source{claimed: s.burst, proven: s.burst, greeting: s.greeting, at: now}
		}
		if len(s.young) >= maxSources {
			s.old, s.young = s.young, make(map[netip.Prefix]*source, maxSources/4)
		}
		s.young[key] = x
	}
	t := seconds(now - x.at)
	x.at = now
	x.claimed = min(x.claimed+t*s.rate, s.burst)
	x.proven = min(x.proven+t*s.rate, s.burst)
	x.greeting = min(x.greeting+t*s.greeting/greetingTime.Seconds(), s.greeting)
	return x
}

func seconds(nanos int64) float64 { return max(0, float64(nanos)/1e9) }
