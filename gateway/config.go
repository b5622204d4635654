package gateway

import (
	"math"
	"net"
	"runtime"
	"strconv"
	"time"

	"linecard.example/internal/config"
	"linecard.example/internal/stanza"
)

// Config is the gateway's part of a daemon's configuration. The zero Config is not valid; start from DefaultConfig.
type Config struct {
	// Listen is where clients connect, HOST:PORT. Default 127.0.0.1:7400. An empty host listens on all addresses of both
	// families, port 0 on a free port.
	Listen string `toml:"listen"`
	// Loops is the number of event loops, 0-255, default 0: one per core. More than cores only adds switching.
	Loops int `toml:"loops"`
	// MaxSessions bounds connections, 0-16777215 per loop, default 0: 256 file descriptors under the process's limit, which is
	// also the ceiling of any other value. A connection above it is refused worker_full. Of each worker, when there are several.
	MaxSessions int `toml:"max_sessions"`

	// Workers is the number of processes that share the port under a supervisor, 0-1023; 0 and 1: this process alone, the default. More
	// hold more sessions than one process may open files. What else is configured here stays the machine's: loops, handshake
	// workers, queues, rates and budgets are divided among them, but for max_sessions and what is said of one session.
	Workers int `toml:"workers"`
	// Sessions derives workers instead: as many as hold so many sessions, with 5 % to spare because the kernel spreads connections
	// unevenly, and one more for when one dies. 0, the default: workers counts. Set one of them.
	Sessions int `toml:"sessions"`

	// HandshakeQueue is how many handshakes may wait for their loops, 1-1048576, default 4096, each loop with its part. Above it
	// connections are refused overload. Raising it lengthens the wait in a reconnect storm; keep it under handshake_timeout x
	// handshakes per second.
	HandshakeQueue int `toml:"handshake_queue"`
	// SetProcs lets Run raise GOMAXPROCS to loops + cores: a loop keeps its processor while it waits for events or computes handshakes,
	// and everything else in the process must not wait for the Go scheduler to take it away. Default true. A worker that shares the
	// machine with more workers than it has cores gets one processor instead.
	SetProcs bool `toml:"set_procs"`
	// HandshakeTimeout is how long a connection may take to be bound, 1s-1m, default 10s.
	HandshakeTimeout config.Duration `toml:"handshake_timeout"`
	// PartialTimeout is how long an unfinished frame may stay unfinished, 1s-10m, default 10s.
	PartialTimeout config.Duration `toml:"partial_timeout"`
	// PartialBytes bounds the bytes of unfinished frames per loop, those of unfinished handshakes included, 1MiB-16GiB, default 64MiB;
	// the oldest handshake is closed first, and when there is none the oldest session.
	PartialBytes config.Size `toml:"partial_bytes"`

	// HandshakeRate is how many full handshakes per second one source (IPv4 address, IPv6 /56) may start, above 0 to 1e9, default 200; its
	// network (IPv4 /24, IPv6 /48) may start four times as many. Above it a connection is refused busy.
	HandshakeRate float64 `toml:"handshake_rate"`
	// HandshakeBurst is how many at once, 1-1e6, default 4000. Raise it where many devices share an address.
	HandshakeBurst int `toml:"handshake_burst"`
	// RegisterRate and RegisterBurst are the same for registrations, default 5 and 2000. Above them a session is closed busy.
	RegisterRate  float64 `toml:"register_rate"`
	RegisterBurst int     `toml:"register_burst"`
	// ResumeRate is how many resumptions per second one account may have, above 0 to 1e9, default 1. They are exempt from the limits per
	// source; above their own they are sent back to a full handshake. Raise it only if honest accounts reach it.
	ResumeRate float64 `toml:"resume_rate"`
	// ResumeBurst is how many at once, 1-1e6, default 64: twice the devices of an account.
	ResumeBurst int `toml:"resume_burst"`
	// SourceEntries is the size of the table behind each of these limits, 256-16777216 entries of 16 bytes, default 65536.
	// When it is full the source that is nearest to its full burst is forgotten. A worker of several has its part, 4096 at least.
	SourceEntries int `toml:"source_entries"`

	// ProxySources are the addresses and networks (10.0.0.7, 10.1.0.0/16, 2001:db8::/64) of balancers that put a PROXY header of
	// version 2 before each connection, at most 64, default none. From them the header is required: a connection without one is closed
	// bad_proxy_header. The limits per source go by the address in it, so that whoever is listed can claim any address. From
	// elsewhere a header is no preamble.
	ProxySources []string `toml:"proxy_sources"`

	// SendRate is how many messages per second a session may send, 1-60000, default 5000. Above it messages are refused busy.
	SendRate int `toml:"send_rate"`
	// SendBurst is how many at once, 1-65535, default 10000.
	SendBurst int `toml:"send_burst"`
	// LookupRate is how many queries per second a session may make, 1-250, default 20. Above it they are refused busy.
	LookupRate int `toml:"lookup_rate"`
	// LookupBurst is how many at once, 1-255, default 100.
	LookupBurst int `toml:"lookup_burst"`
	// WindowIDs is how many unanswered messages a client may have, 1-100, default 32, as the routers tell it in bound; twice that
	// is enforced here.
	WindowIDs int `toml:"window_ids"`
	// WindowBytes is the same in bytes, 64KiB-504KiB and at least 4KiB for each of window_ids, default 256KiB.
	WindowBytes config.Size `toml:"window_bytes"`
	// MaxMessage is the longest message stanza, 1KiB-65518B, default 65518B: what a frame holds. A longer one is refused too_large.
	MaxMessage config.Size `toml:"max_message"`
	// AnswerTimeout is how long a session may have unanswered messages without any answer before they are given up and the
	// client is told to send them again, 1s-1m, default 10s.
	AnswerTimeout config.Duration `toml:"answer_timeout"`

	// OutboundCap bounds the bytes waiting for a client that does not read, 64KiB-64MiB, default 256KiB. Above it the session is
	// closed slow_consumer. Deliveries do not come near it: they are held back in their queue while anything waits. Twice as much may come
	// in one turn.
	OutboundCap config.Size `toml:"outbound_cap"`
	// AckTimeout closes a session that leaves deliveries unacknowledged without progress (unresponsive), 5s-3m, default 45s.
	AckTimeout config.Duration `toml:"ack_timeout"`
	// DefaultPing is the ping interval of clients that announce none, 1m-15m, default 1m.
	DefaultPing config.Duration `toml:"default_ping"`

	// MediaURL is where clients reach the mediads, https://HOST or http://HOST with a port and a path if need be, no slash at its end. Default
	// none: who asks for a grant is refused forbidden. `up` sets its own.
	MediaURL string `toml:"media_url"`
	// MediaGrantLife is how long a grant for media is valid, 1s-24h, default 15m. An upload that takes longer goes on with another grant.
	// Raising it lengthens the time for which a grant that leaked is of use. Grants end with the key that signed them in any case, after six
	// times router.ticket_rotation.
	MediaGrantLife config.Duration `toml:"media_grant_life"`
	// MediaMax is the largest blob that a grant is given for, 1KiB-16384GiB, default 100MiB. Above it clients are refused too_large. The mediads
	// have limits of their own.
	MediaMax config.Size `toml:"media_max"`

	// RelayURLs are where clients reach relays, the best first: turn:HOST:PORT?transport=udp and the like, turns: for TLS and DTLS (RFC 7065), at
	// most 16. Default none: who asks for credentials is refused forbidden. `up` sets its own.
	RelayURLs []string `toml:"relay_urls"`
	// RelayLife is how long credentials for relays are valid, 1m-24h, default 12h. Keep it below the relays' credential_life, by more than
	// clocks differ, and not above router.ticket_rotation, which is how long a secret is known after it was last used. Raising it has clients ask
	// less often, and lengthens the time for which a password that leaked is of use.
	RelayLife config.Duration `toml:"relay_life"`

	// RetryAfter is what refusals and closes with a retry-after tell, 100ms-10m, default 1s; jittered to half up to one and a half.
	RetryAfter config.Duration `toml:"retry_after"`
	// DrainRetryAfter is the same for draining, 100ms-10m, default 5s. Raise it with the number of sessions that come back at once.
	DrainRetryAfter config.Duration `toml:"drain_retry_after"`
	// DrainTimeout bounds the flush of the last bytes to clients at the end, 100ms-5m, default 5s.
	DrainTimeout config.Duration `toml:"drain_timeout"`
	// HandoverSocket is the path of the unix socket on which a newer process asks for the sessions, see --upgrade. Default DATA/gateway.sock.
	// Only processes of the same user may connect; keep it in a directory of that user.
	HandoverSocket string `toml:"handover_socket"`
	// RebindPage is how many sessions a loop looks at in one turn while it re-sends bindings, 16-65536, default 1000. Raising it
	// finishes sooner and delays messages longer.
	RebindPage int `toml:"rebind_page"`

	// crowded is of a worker among more workers than cores. With processors to spare, Go's monitor thread looks after one that waits in
	// epoll some sixty times before it lets go of it, at every wake-up of the process; with one processor it lets go at once. See
	// docs/design/0016.
	crowded bool
}

// DefaultConfig returns the configuration that `up` runs with.
func DefaultConfig() Config {
	return Config{
		Listen:         "127.0.0.1:7400",
		HandshakeQueue: 4096, SetProcs: true,
		HandshakeTimeout: config.Duration(10 * time.Second),
		PartialTimeout:   config.Duration(10 * time.Second), PartialBytes: 64 << 20,
		HandshakeRate: 200, HandshakeBurst: 4000, RegisterRate: 5, RegisterBurst: 2000, SourceEntries: 65536,
		ResumeRate: 1, ResumeBurst: 64,
		SendRate: 5000, SendBurst: 10000, LookupRate: 20, LookupBurst: 100,
		WindowIDs: 32, WindowBytes: 256 << 10, MaxMessage: stanza.MaxStanza,
		AnswerTimeout: config.Duration(10 * time.Second),
		OutboundCap:   256 << 10,
		AckTimeout:    config.Duration(45 * time.Second), DefaultPing: config.Duration(time.Minute),
		MediaGrantLife: config.Duration(15 * time.Minute), MediaMax: 100 << 20,
		RelayLife:  config.Duration(12 * time.Hour),
		RetryAfter: config.Duration(time.Second), DrainRetryAfter: config.Duration(5 * time.Second),
		DrainTimeout: config.Duration(5 * time.Second),
		RebindPage:   1000,
	}
}

// Validate returns every fault of c, nil when there is none.
func (c Config) Validate() []error {
	f := config.NewFaults("gateway.")
	_, err := splitListen(c.Listen)
	f.Check(err == nil, "listen", "%q: want HOST:PORT", c.Listen)
	f.Count("loops", c.Loops, 0, maxLoops)
	f.Count("max_sessions", c.MaxSessions, 0, math.MaxInt32)
	f.Count("workers", c.Workers, 0, maxWorkers)
	f.Count("sessions", c.Sessions, 0, math.MaxInt32)
	f.Check(c.Workers == 0 || c.Sessions == 0, "sessions", "want one of workers and sessions")
	f.Check(c.WorkerCount() <= maxWorkers, "sessions", "%d: need %d workers, want at most %d; raise the limit of open files or max_sessions",
		c.Sessions, c.WorkerCount(), maxWorkers)
	n := c.sockets(runtime.NumCPU())
	f.Check(runtime.GOOS != "freebsd" || n <= maxSharers, "workers", "%d sockets on the port, want at most %d: lower workers or loops", n, maxSharers)
	f.Count("handshake_queue", c.HandshakeQueue, 1, 1<<20)
	f.Span("handshake_timeout", c.HandshakeTimeout, time.Second, time.Minute)
	f.Span("partial_timeout", c.PartialTimeout, time.Second, 10*time.Minute)
	f.Size("partial_bytes", c.PartialBytes, 1<<20, 16<<30)
	f.Rate("handshake_rate", c.HandshakeRate)
	f.Count("handshake_burst", c.HandshakeBurst, 1, 1e6)
	f.Rate("register_rate", c.RegisterRate)
	f.Count("register_burst", c.RegisterBurst, 1, 1e6)
	f.Rate("resume_rate", c.ResumeRate)
	f.Count("resume_burst", c.ResumeBurst, 1, 1e6)
	f.Count("source_entries", c.SourceEntries, 256, 1<<24)
	_, faults := parseSources(c.ProxySources)
	for _, err := range faults {
		f.Check(false, "proxy_sources", "%v", err)
	}
	f.Check(len(c.ProxySources) <= maxProxySources, "proxy_sources", "%d entries: want at most %d", len(c.ProxySources), maxProxySources)
	f.Count("send_rate", c.SendRate, 1, 60000)
	f.Count("send_burst", c.SendBurst, 1, math.MaxUint16)
	f.Count("lookup_rate", c.LookupRate, 1, 250)
	f.Count("lookup_burst", c.LookupBurst, 1, math.MaxUint8)
	f.Count("window_ids", c.WindowIDs, 1, 100)
	f.Size("window_bytes", c.WindowBytes, 64<<10, 504<<10)
	f.Check(c.WindowBytes.Int() >= c.WindowIDs*chargeUnit, "window_bytes", "want at least 4KiB for each of window_ids, in which messages are counted")
	f.Size("max_message", c.MaxMessage, 1<<10, stanza.MaxStanza)
	f.Span("answer_timeout", c.AnswerTimeout, time.Second, time.Minute)
	f.Size("outbound_cap", c.OutboundCap, 64<<10, 64<<20)
	f.Span("ack_timeout", c.AckTimeout, 5*time.Second, 3*time.Minute)
	f.Span("default_ping", c.DefaultPing, minPing, maxPing)
	if err := checkMediaURL(c.MediaURL); err != nil {
		f.Check(false, "media_url", "%q: %v", c.MediaURL, err)
	}
	f.Span("media_grant_life", c.MediaGrantLife, time.Second, 24*time.Hour)
	f.Size("media_max", c.MediaMax, 1<<10, 1<<44)
	for _, fault := range checkRelayURLs(c.RelayURLs) {
		f.Check(false, "relay_urls", "%v", fault)
	}
	f.Span("relay_life", c.RelayLife, time.Minute, 24*time.Hour)
	f.Span("retry_after", c.RetryAfter, 100*time.Millisecond, 10*time.Minute)
	f.Span("drain_retry_after", c.DrainRetryAfter, 100*time.Millisecond, 10*time.Minute)
	f.Span("drain_timeout", c.DrainTimeout, 100*time.Millisecond, 5*time.Minute)
	f.Count("rebind_page", c.RebindPage, 16, 65536)
	return f.List()
}

// splitListen takes HOST:PORT apart; the port is a number.
func splitListen(addr string) (hp struct {
	host string
	port int
}, err error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return hp, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	hp.host, hp.port = host, int(n)
	return hp, err
}
