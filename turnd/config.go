package turnd

import (
	"net"
	"net/netip"
	"strings"
	"time"

	"linecard.example/internal/config"
)

// Config is the relay section of a configuration. The zero value is not valid: start from DefaultConfig.
type Config struct {
	// Realm is the realm of the credentials. Default "linecard". Clients are told it; a change ends all credentials that are out.
	Realm string `toml:"realm"`
	// UDP, TCP, TLS and DTLS are the addresses that clients use, HOST:PORT each. Default UDP and TCP on 127.0.0.1:7478. Name each address where a
	// machine has several: a UDP socket without one answers from that which the kernel thinks best, which may not be the one that was asked.
	UDP  []string `toml:"udp"`
	TCP  []string `toml:"tcp"`
	TLS  []string `toml:"tls"`
	DTLS []string `toml:"dtls"`
	// TLSCert and TLSKey are PEM files of a certificate chain and its key, for TLS and DTLS. They are read again when they change.
	TLSCert string `toml:"tls_cert"`
	TLSKey  string `toml:"tls_key"`
	// Sockets is how many UDP sockets share each UDP address. Default 0: one for every two cores; the
	// kernel's part of packets wants processors too. More cost more at low rates: each is woken for its own packets. FreeBSD has one
	// always.
	Sockets int `toml:"sockets"`

	// Batches has UDP packets read and sent many at a time, and runs of them as one, with pollers of turnd's own. Linux only; elsewhere, and
	// with false, each packet takes a system call to read and another to send. Default true.
	Batches bool `toml:"batches"`

	// RelayAddress is the IPv4 address that relayed packets come from and go to, on this machine. Default 127.0.0.1.
	RelayAddress string `toml:"relay_address"`
	// ExternalAddress is what clients and peers are told instead, where a NAT maps it to RelayAddress, port by port. Default none.
	ExternalAddress string `toml:"external_address"`
	// MinPort and MaxPort are the ports of relayed packets. Default 49152 to 65535. Each allocation has one.
	MinPort int `toml:"min_port"`
	MaxPort int `toml:"max_port"`
	// AllowPeers are address ranges (CIDR) that may be relayed to although they are none of the Internet's. Default none.
	AllowPeers []string `toml:"allow_peers"`
	// DenyPeers are ranges that may not be relayed to, whatever else says so. Default none.
	DenyPeers []string `toml:"deny_peers"`

	// Users are names and passwords that are valid always, for tests and probes. Default none.
	Users map[string]string `toml:"users"`
	// CredentialLife is how far in the future credentials may expire. Default 24h.
	CredentialLife config.Duration `toml:"credential_life"`
	// Lifetime is how long an allocation may last without a refresh. Default 10m.
	Lifetime config.Duration `toml:"lifetime"`
	// Allocations is how many there may be. Default 16384; each has a port, a file descriptor and about 10 KiB.
	Allocations int `toml:"allocations"`
	// AccountAllocations is the same for one account. Default 16.
	AccountAllocations int `toml:"account_allocations"`
	// AccountRate is how many bytes per second may be relayed for one account, both directions together; each packet counts for 28 more than its
	// payload, its headers. Default 2MiB; packets above it are dropped. 0: no limit.
	AccountRate config.Size `toml:"account_rate"`
	// AccountRequests is how many requests per second one account may do. Default 50.
	AccountRequests int `toml:"account_requests"`

	// SourceRate is how many requests per second of one source (IPv4 address, IPv6 /56) are answered before it is known whose they are.
	// Default 20. Handshakes of TLS and DTLS count, too. Those over UDP, where anybody can write another's address, and those over connections are counted apart.
	SourceRate float64 `toml:"source_rate"`
	// SourceBurst is how many of them may come at once. Default 200: many clients may share an address.
	SourceBurst int `toml:"source_burst"`
	// Greeting is how many bytes more than it sent a source over UDP may be answered in 10s before it is known whose it is.
	// Default 512B. 0: never more than it sent, which costs each client half a second.
	Greeting config.Size `toml:"greeting"`
	// Greetings is the same for all sources together, per second. Default 64KiB.
	Greetings config.Size `toml:"greetings"`
	// Connections is how many TCP, TLS and DTLS connections there may be. Default 16384.
	Connections int `toml:"connections"`
	// SourceConnections is the same for one source; four times as many for the network around it (IPv4 /24, IPv6 /48). Default 256.
	SourceConnections int `toml:"source_connections"`
	// Handshakes is how many TLS and DTLS handshakes may be under way. Default 1024.
	Handshakes int `toml:"handshakes"`
	// HandshakeTimeout is how long one may take, and how long a connection may be without an allocation. Default 10s.
	HandshakeTimeout config.Duration `toml:"handshake_timeout"`
	// WriteTimeout is how long a connection may take in nothing of what is sent to it. Default 5s.
	WriteTimeout config.Duration `toml:"write_timeout"`
	// Drain is how long allocations may go on after the end was asked for. Default 30s.
	Drain config.Duration `toml:"drain"`
}

// DefaultConfig returns the defaults that `up` runs with.
func DefaultConfig() Config {
	return Config{
		Realm: "linecard", UDP: []string{"127.0.0.1:7478"}, TCP: []string{"127.0.0.1:7478"},
		Batches: true, RelayAddress: "127.0.0.1", MinPort: 49152, MaxPort: 65535,
		CredentialLife: config.Duration(24 * time.Hour), Lifetime: config.Duration(10 * time.Minute),
		Allocations: 16384, AccountAllocations: 16, AccountRate: 2 << 20, AccountRequests: 50,
		SourceRate: 20, SourceBurst: 200, Greeting: 512, Greetings: 64 << 10,
		Connections: 16384, SourceConnections: 256, Handshakes: 1024,
		HandshakeTimeout: config.Duration(10 * time.Second), WriteTimeout: config.Duration(5 * time.Second), Drain: config.Duration(30 * time.Second),
	}
}

// minRate lets any packet pass at all.
const minRate = 16 << 10

// maxLifetime is below the hour from which on pion takes its own default instead.
const maxLifetime = 59 * time.Minute

// Validate returns every fault of c, nil when there is none.
func (c Config) Validate() []error {
	f := config.NewFaults("relay.")
	f.Check(c.Realm != "" && len(c.Realm) <= 64 && !strings.ContainsAny(c.Realm, ":\"\\"), "realm", "%q: want 1 to 64 bytes without : \" and \\", c.Realm)
	c.validateListeners(f)
	c.validatePeers(f)
	for name := range c.Users {
		f.Check(name != "" && len(name) <= 64 && !strings.Contains(name, ":"), "users", "%q: want a name of 1 to 64 bytes without :", name)
	}
	f.Span("credential_life", c.CredentialLife, time.Minute, 30*24*time.Hour)
	f.Span("lifetime", c.Lifetime, time.Second, maxLifetime)
	f.Count("allocations", c.Allocations, 1, 60000)
	f.Count("account_allocations", c.AccountAllocations, 1, 60000)
	f.Check(c.AccountRate == 0 || c.AccountRate >= minRate, "account_rate", "%v: want 0B or at least %v", c.AccountRate, config.Size(minRate))
	f.Count("account_requests", c.AccountRequests, 1, 1<<20)
	f.Rate("source_rate", c.SourceRate)
	f.Count("source_burst", c.SourceBurst, 1, 1<<20)
	f.Size("greeting", c.Greeting, 0, 1<<16)
	f.Size("greetings", c.Greetings, 0, 1<<30)
	f.Count("connections", c.Connections, 1, 1<<20)
	f.Count("source_connections", c.SourceConnections, 1, 1<<20)
	f.Count("handshakes", c.Handshakes, 1, 1<<16)
	f.Span("handshake_timeout", c.HandshakeTimeout, 100*time.Millisecond, 10*time.Minute)
	f.Span("write_timeout", c.WriteTimeout, 100*time.Millisecond, 10*time.Minute)
	f.Span("drain", c.Drain, 0, time.Hour)
	return f.List()
}

func (c Config) validateListeners(f config.Faults) {
	n := 0
	for _, l := range []struct {
		field string
		list  []string
	}{{"udp", c.UDP}, {"tcp", c.TCP}, {"tls", c.TLS}, {"dtls", c.DTLS}} {
		for _, a := range l.list {
			_, _, err := net.SplitHostPort(a)
			f.Check(err == nil, l.field, "%q: want HOST:PORT", a)
			n++
		}
	}
	f.Check(n > 0, "udp", "want at least one address in udp, tcp, tls or dtls")
	secure := len(c.TLS)+len(c.DTLS) > 0
	f.Check((c.TLSCert == "") == (c.TLSKey == ""), "tls_cert", "want tls_cert and tls_key, or neither")
	f.Check(!secure || c.TLSCert != "", "tls_cert", "want tls_cert and tls_key for tls and dtls")
	f.Count("sockets", c.Sockets, 0, 256)
}

func (c Config) validatePeers(f config.Faults) {
	a, err := netip.ParseAddr(c.RelayAddress)
	f.Check(err == nil && a.Is4() && !a.IsUnspecified(), "relay_address", "%q: want an IPv4 address of this machine", c.RelayAddress)
	if c.ExternalAddress != "" {
		a, err = netip.ParseAddr(c.ExternalAddress)
		f.Check(err == nil && a.Is4() && !a.IsUnspecified(), "external_address", "%q: want an IPv4 address", c.ExternalAddress)
	}
	f.Count("min_port", c.MinPort, 1, 65535)
	f.Count("max_port", c.MaxPort, c.MinPort, 65535)
	for _, l := range []struct {
		field string
		list  []string
	}{{"allow_peers", c.AllowPeers}, {"deny_peers", c.DenyPeers}} {
		for _, p := range l.list {
			_, err := netip.ParsePrefix(p)
			f.Check(err == nil, l.field, "%q: want an address range such as 10.0.0.0/8", p)
		}
	}
}
