package router

import (
	"time"

	"linecard.example/internal/config"
)

// The registration modes.
const (
	RegistrationOpen   = "open"   // whoever claims a free handle gets it
	RegistrationInvite = "invite" // a new account needs an invite code
)

// Config is the router's part of a daemon's configuration. The zero Config is not valid; start from DefaultConfig.
type Config struct {
	// Registration says who may create an account: "open" (default) or "invite".
	Registration string `toml:"registration"`
	// WindowIDs is how many unanswered messages a session may have, 1-100, default 32; told to the client in bound. The gateway
	// enforces twice this. Raising it costs offline memory per attached session.
	WindowIDs int `toml:"window_ids"`
	// WindowBytes is the same in bytes, 64KiB-504KiB, default 256KiB.
	WindowBytes config.Size `toml:"window_bytes"`
	// StrangerBurst is how many messages an account may send at once to an account that never wrote to it, 1-1e9, default 10000.
	StrangerBurst int `toml:"stranger_burst"`
	// StrangerRate is how many messages per second refill that burst, above 0 to 1e9, default 500.
	StrangerRate float64 `toml:"stranger_rate"`
	// LookupBurst is how many look-ups one account may make at once in one shard, 1-1e9, default 200. Raising it helps those who
	// enumerate handles.
	LookupBurst int `toml:"lookup_burst"`
	// LookupRate refills LookupBurst per second, above 0 to 1e9, default 20.
	LookupRate float64 `toml:"lookup_rate"`
	// LookedUpBurst is how many look-ups of one account by all others pass at once, 1-1e9, default 2000.
	LookedUpBurst int `toml:"looked_up_burst"`
	// LookedUpRate refills LookedUpBurst per second, above 0 to 1e9, default 200.
	LookedUpRate float64 `toml:"looked_up_rate"`
	// LimitEntries is the size of each table of limits per shard, 256-16777216 entries, default 16384, 16 bytes each. When a table is full the
	// oldest entry is forgotten, which refills its burst: raise it with the number of pairs that talk at once.
	LimitEntries int `toml:"limit_entries"`
	// ContactEntries is how many pairs "has written to" are remembered per shard, 256-16777216, default 32768, 8 bytes each.
	ContactEntries int `toml:"contact_entries"`
	// RecordCache is how many bytes of directory records are kept in memory per shard, 64KiB-4GiB, default 2MiB, a fifth more for
	// finding them. An account takes about 75 bytes. One that is not among them is read from tables, some microseconds.
	RecordCache config.Size `toml:"record_cache"`
	// GatewayGrace is how long the bindings of a gateway outlive its stream, 1s-10m, default 10s. Raising it saves re-binding after
	// short cuts and keeps devices of a dead gateway unreachable for longer.
	GatewayGrace config.Duration `toml:"gateway_grace"`
	// RetryAfter is what a refusal or close with busy or unavailable tells the client to wait, 100ms-10m, default 1s.
	RetryAfter config.Duration `toml:"retry_after"`
	// FullRetryAfter is what they are told to wait after storage_full, 100ms-1h, default 30s.
	FullRetryAfter config.Duration `toml:"full_retry_after"`
	// DropRetry is the distance between attempts to have the queue of an unlinked device dropped, 100ms-1h, default 1s.
	DropRetry config.Duration `toml:"drop_retry"`
	// TicketRotation is how long a key of resumption tickets seals before the next one does, 1m-30d, default 24h. It opens for seven
	// rotations more. A ticket is good for as long, and for a week at most, so that raising it lets nobody resume later: it keeps keys for
	// longer. Lowering it makes tickets short-lived, and a stolen key worth less.
	TicketRotation config.Duration `toml:"ticket_rotation"`
	// MaxPending is how many requests of a shard may wait for a commit or for verified leadership at once, 16-1048576, default 65536,
	// about 150 bytes each. Above it requests are answered busy.
	MaxPending int `toml:"max_pending"`
}

// DefaultConfig returns the configuration that `up` runs with.
func DefaultConfig() Config {
	return Config{
		Registration:   RegistrationOpen,
		WindowIDs:      32,
		WindowBytes:    256 << 10,
		StrangerBurst:  10000,
		StrangerRate:   500,
		LookupBurst:    200,
		LookupRate:     20,
		LookedUpBurst:  2000,
		LookedUpRate:   200,
		LimitEntries:   16384,
		ContactEntries: 32768,
		RecordCache:    2 << 20,
		GatewayGrace:   config.Duration(10 * time.Second),
		RetryAfter:     config.Duration(time.Second),
		FullRetryAfter: config.Duration(30 * time.Second),
		DropRetry:      config.Duration(time.Second),
		TicketRotation: config.Duration(24 * time.Hour),
		MaxPending:     65536,
	}
}

// Validate returns every fault of c, nil when there is none.
func (c Config) Validate() []error {
	f := config.NewFaults("router.")
	f.Check(c.Registration == RegistrationOpen || c.Registration == RegistrationInvite, "registration",
		"%q: want %q or %q", c.Registration, RegistrationOpen, RegistrationInvite)
	f.Count("window_ids", c.WindowIDs, 1, 100)
	f.Size("window_bytes", c.WindowBytes, 64<<10, 504<<10)
	f.Count("stranger_burst", c.StrangerBurst, 1, 1e9)
	f.Rate("stranger_rate", c.StrangerRate)
	f.Count("lookup_burst", c.LookupBurst, 1, 1e9)
	f.Rate("lookup_rate", c.LookupRate)
	f.Count("looked_up_burst", c.LookedUpBurst, 1, 1e9)
	f.Rate("looked_up_rate", c.LookedUpRate)
	f.Count("limit_entries", c.LimitEntries, 256, 1<<24)
	f.Count("contact_entries", c.ContactEntries, 256, 1<<24)
	f.Size("record_cache", c.RecordCache, 64<<10, 4<<30)
	f.Span("gateway_grace", c.GatewayGrace, time.Second, 10*time.Minute)
	f.Span("retry_after", c.RetryAfter, 100*time.Millisecond, 10*time.Minute)
	f.Span("full_retry_after", c.FullRetryAfter, 100*time.Millisecond, time.Hour)
	f.Span("drop_retry", c.DropRetry, 100*time.Millisecond, time.Hour)
	f.Span("ticket_rotation", c.TicketRotation, time.Minute, 30*24*time.Hour)
	f.Count("max_pending", c.MaxPending, 16, 1<<20)
	return f.List()
}
