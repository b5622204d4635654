package swarm

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"linecard.example/internal/wire"
)

// Config describes the sessions of an Engine, or of a Fleet, which divides them over its engines.
type Config struct {
	// Servers are where sessions connect: session n to Servers[n mod len]. At least one.
	Servers []netip.AddrPort
	// Root is the line of the cluster's root key (root.pub): every session verifies the server's certificate with it.
	Root string
	// Sessions is how many sessions there may be at a time, numbered from 0.
	Sessions int
	// First is the number that session 0 has in names and keys. A Fleet sets it, so that its engines share one Seed without
	// meeting; engines of different machines under different controllers need different Prefixes.
	First int
	// Prefix begins every handle: Prefix plus the session's number in base 36. 1 to 20 of [a-z0-9._-].
	Prefix string
	// Seed gives the static keys: that of a session is a hash of Seed and its number, so that none need be kept, and the same Seed and
	// Prefix are the same devices again in another run. Whoever knows it is all of these devices: never use it outside of a bench.
	Seed string
	// Sources are the local addresses to connect from, session n from Sources[n mod len]; none: the kernel chooses. Ports are given
	// out at connect (IP_BIND_ADDRESS_NO_PORT), so each address has as many to each server address as
	// ip_local_port_range holds: 28,232 by default.
	Sources []netip.Addr
	// Ping is the interval of pings, announced to the server and kept. 0: 4 minutes. 1 minute to 15 minutes.
	Ping time.Duration
	// Tickets keeps each session's resume ticket (outside of the session's slot; Memory counts it apart).
	Tickets bool
	// Handshakes bounds the connections under way that are not bound yet, over all engines of a Fleet, but at least 4 of each. Above what
	// the servers do in their handshake timeout, attempts fail and are made again. 0: 512 of an Engine, 2,048 of a Fleet.
	Handshakes int
}

const (
	defaultPing       = 4 * time.Minute
	defaultHandshakes = 512
	fleetHandshakes   = 2048
	leastHandshakes   = 4
	maxPrefix         = 20
	maxSessions       = 1 << 24 // of an engine
)

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	if c.Ping == 0 {
		c.Ping = defaultPing
	}
	if c.Handshakes == 0 {
		c.Handshakes = defaultHandshakes
	}
	return c
}

// Validate reports every fault at once.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("swarm: "+format, args...)) }
	if len(c.Servers) == 0 {
		fault("no server")
	}
	for _, s := range c.Servers {
		if !s.IsValid() || s.Port() == 0 {
			fault("server %v: want ADDRESS:PORT", s)
		}
	}
	if _, _, err := wire.ParseRootLine(c.Root); err != nil {
		fault("root: %w", err)
	}
	if c.Sessions < 1 || c.Sessions > maxSessions {
		fault("sessions: %d is not 1 to %d", c.Sessions, maxSessions)
	}
	if c.First < 0 {
		fault("first: %d is below 0", c.First)
	}
	if len(c.Prefix) == 0 || len(c.Prefix) > maxPrefix {
		fault("prefix %q: want 1 to %d bytes", c.Prefix, maxPrefix)
	}
	if c.Ping != 0 && (c.Ping < time.Minute || c.Ping > 15*time.Minute) {
		fault("ping: %v is not 1m to 15m", c.Ping)
	}
	if c.Handshakes < 0 {
		fault("handshakes: %d is below 0", c.Handshakes)
	}
	for _, s := range c.Sources {
		if !s.IsValid() {
			fault("source %v: not an address", s)
		}
	}
	return errors.Join(faults...)
}
