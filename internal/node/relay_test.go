package node

import (
	"bytes"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRelayConfigured: what a turnd needs, and what `up` can tell clients.
func TestRelayConfigured(t *testing.T) {
	routers := []string{"127.0.0.1:1"}
	for name, c := range map[string]struct {
		change func(*Config)
		roles  []Role
		want   string // "": valid
	}{
		"up":                     {func(*Config) {}, Up(), ""},
		"up without":             {func(c *Config) { c.SetRelay(RelayOff) }, Up(), ""},
		"alone, and off":         {func(c *Config) { c.SetRelay(RelayOff); c.Links.Routers = routers }, []Role{Relay}, "relay.udp"},
		"alone, without routers": {func(*Config) {}, []Role{Relay}, "links.routers"},
		"alone":                  {func(c *Config) { c.Links.Routers = routers }, []Role{Relay}, ""},
		"up, no address":         {func(c *Config) { c.SetRelay("7478") }, Up(), "relay.udp"},
		"up, everywhere":         {func(c *Config) { c.SetRelay("0.0.0.0:7478") }, Up(), "gateway.relay_urls"},
		"up, on an empty host":   {func(c *Config) { c.SetRelay(":7478") }, Up(), "gateway.relay_urls"},
		"up, behind a NAT":       {func(c *Config) { c.Relay.ExternalAddress = "192.0.2.7" }, Up(), "gateway.relay_urls"},
		"up, everywhere, said so": {func(c *Config) {
			c.SetRelay("[::]:7478")
			c.Gateway.RelayURLs, c.Relay.ExternalAddress = []string{"turn:r.example"}, "192.0.2.7"
		}, Up(), ""},
		"up, credentials for longer than they may be": {func(c *Config) { c.Gateway.RelayLife = c.Relay.CredentialLife }, Up(), "gateway.relay_life"},
		"a gateway reads nothing of it": {func(c *Config) {
			c.Relay.UDP, c.Links.Routers, c.Links.Offlines = []string{"nowhere"}, routers, routers
		}, []Role{Gateway}, ""},
	} {
		cfg := DefaultConfig()
		c.change(&cfg)
		err := cfg.Validate(c.roles...)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestSetRelay: relayed packets come from the host that clients are given, unless the configuration says otherwise.
func TestSetRelay(t *testing.T) {
	for _, c := range []struct{ addr, before, want string }{
		{"192.0.2.7:3478", "127.0.0.1", "192.0.2.7"},
		{"192.0.2.7:3478", "10.0.0.1", "10.0.0.1"},
		{"relay.example:3478", "127.0.0.1", "127.0.0.1"},
		{"[2001:db8::7]:3478", "127.0.0.1", "127.0.0.1"},
		{"0.0.0.0:3478", "127.0.0.1", "127.0.0.1"},
		{":3478", "127.0.0.1", "127.0.0.1"},
	} {
		cfg := DefaultConfig()
		cfg.Relay.RelayAddress, cfg.Relay.TLS, cfg.Relay.DTLS = c.before, []string{"a:1"}, []string{"a:1"}
		cfg.SetRelay(c.addr)
		r := cfg.Relay
		if r.RelayAddress != c.want || len(r.UDP) != 1 || r.UDP[0] != c.addr || len(r.TCP) != 1 || r.TCP[0] != c.addr || r.TLS != nil || r.DTLS != nil {
			t.Errorf("%s: %+v, want relay_address %s", c.addr, r, c.want)
		}
	}
}

// TestRelayFiles: a limit of open files that ends allocations before the configuration does is told, once.
func TestRelayFiles(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Relay.Allocations, cfg.Relay.Connections = 1000, 500
	for _, c := range []struct {
		tcp   bool
		limit int
		warns bool
	}{{false, 1256, false}, {false, 1255, true}, {true, 1755, true}, {true, 1756, false}} {
		if cfg.Relay.TCP = nil; c.tcp {
			cfg.Relay.TCP = []string{"127.0.0.1:0"}
		}
		var out bytes.Buffer
		cfg.warnOfFiles(slog.New(slog.NewTextHandler(&out, nil)), c.limit)
		if strings.Contains(out.String(), "level=WARN") != c.warns {
			t.Errorf("%+v: %q", c, out.String())
		}
	}
}

// TestUpTellsRelay: the gateway of `up` tells clients where the relay listens, whatever port that is, or what the configuration says, or nothing.
func TestUpTellsRelay(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   func(*Node) []string
	}{
		"its own": {func(c *Config) {}, func(n *Node) []string {
			return []string{"turn:" + n.relay.Addrs("udp")[0].String() + "?transport=udp", "turn:" + n.relay.Addrs("tcp")[0].String() + "?transport=tcp"}
		}},
		"by name": {func(c *Config) { c.SetRelay("localhost:0") }, func(n *Node) []string {
			_, udp, _ := net.SplitHostPort(n.relay.Addrs("udp")[0].String())
			_, tcp, _ := net.SplitHostPort(n.relay.Addrs("tcp")[0].String())
			return []string{"turn:localhost:" + udp + "?transport=udp", "turn:localhost:" + tcp + "?transport=tcp"}
		}},
		"safely": {func(c *Config) {
			c.Relay.UDP, c.Relay.TCP = nil, nil
			c.Relay.TLS, c.Relay.DTLS = []string{"127.0.0.1:0"}, []string{"[::1]:0"}
			c.Relay.TLSCert, c.Relay.TLSKey = filepath.Join(c.keyDir(), "up.pem"), filepath.Join(c.keyDir(), "up.key")
		}, func(n *Node) []string {
			return []string{"turns:" + n.relay.Addrs("tls")[0].String() + "?transport=tcp", "turns:" + n.relay.Addrs("dtls")[0].String() + "?transport=udp"}
		}},
		"as configured": {func(c *Config) { c.Gateway.RelayURLs = []string{"turn:r.example"} }, func(*Node) []string { return []string{"turn:r.example"} }},
		"none":          {func(c *Config) { c.SetRelay(RelayOff) }, func(*Node) []string { return nil }},
	} {
		cfg := upConfig(t)
		c.change(&cfg)
		if err := EnsureKeys(cfg); err != nil {
			t.Fatal(err)
		}
		n, err := New(cfg, Up(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if got := n.cfg.Gateway.RelayURLs; !slices.Equal(got, c.want(n)) {
			t.Errorf("%s: clients are told %q", name, got)
		}
		n.close()
	}
}
