package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

var errOptions = errors.New("relay bench")

// Options say what is measured. The zero value is not valid.
type Options struct {
	// Server is the relay's UDP address, IPv4.
	Server netip.AddrPort
	// Direct has packets go from a session's client to its peer and back with no relay between: what all else costs. Server is not looked at.
	Direct bool
	// User and Password are long-term credentials that the server knows.
	User, Password string
	// PIDs are the server's processes; none: nothing is said about CPU and memory.
	PIDs []int
	// Sessions is how many allocations there are, 1 to 10000.
	Sessions int
	// Size is a packet's payload in bytes, 16 to 1200: it carries when it was sent.
	Size int
	// Rate is how many packets per second the server is to relay, both directions together; 0: flat out.
	Rate int
	// Window is how many packets each session keeps under way, flat out.
	Window int
	// Warm is how long the load is on before it is measured, Time for how long it is measured then.
	Warm, Time time.Duration
}

func (o Options) validate() error {
	switch {
	case !o.Direct && !o.Server.Addr().Is4():
		return fmt.Errorf("%w: server %s: want an IPv4 address", errOptions, o.Server)
	case o.Sessions < 1 || o.Sessions > 10000:
		return fmt.Errorf("%w: sessions %d: want 1 to 10000", errOptions, o.Sessions)
	case o.Size < 16 || o.Size > 1200:
		return fmt.Errorf("%w: size %d: want 16 to 1200", errOptions, o.Size)
	case o.Rate < 0 || o.Rate > 1e6:
		return fmt.Errorf("%w: rate %d: want 0 to 1000000", errOptions, o.Rate)
	case o.Rate == 0 && (o.Window < 1 || o.Window > 1024):
		return fmt.Errorf("%w: window %d: want 1 to 1024", errOptions, o.Window)
	case o.Time <= 0 || o.Time > time.Hour || o.Warm < 0 || o.Warm > time.Hour:
		return fmt.Errorf("%w: time %s, warm %s: want up to an hour", errOptions, o.Time, o.Warm)
	}
	return nil
}
