package node

import (
	"log/slog"
	"net"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"linecard.example/border"
	"linecard.example/internal/link"
)

// upConfig is a configuration of `up` on free ports.
func upConfig(t *testing.T) Config {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Data, cfg.Shards = filepath.Join(t.TempDir(), "data"), 3
	cfg.Admin.Listen, cfg.Gateway.Listen, cfg.Media.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.SetRelay("127.0.0.1:0")
	return cfg
}

// TestMediaConfigured: what a mediad needs, and what `up` tells clients.
func TestMediaConfigured(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		roles  []Role
		want   string // "": valid
	}{
		"up":                      {func(*Config) {}, Up(), ""},
		"up without":              {func(c *Config) { c.Media.Listen = MediaOff }, Up(), ""},
		"alone, and off":          {func(c *Config) { c.Media.Listen, c.Links.Routers = MediaOff, []string{"127.0.0.1:1"} }, []Role{Media}, "media.listen"},
		"alone, without routers":  {func(*Config) {}, []Role{Media}, "links.routers"},
		"alone":                   {func(c *Config) { c.Links.Routers = []string{"127.0.0.1:1"} }, []Role{Media}, ""},
		"up, everywhere":          {func(c *Config) { c.Media.Listen = "0.0.0.0:7402" }, Up(), "gateway.media_url"},
		"up, on an empty host":    {func(c *Config) { c.Media.Listen = ":7402" }, Up(), "gateway.media_url"},
		"up, everywhere, said so": {func(c *Config) { c.Media.Listen, c.Gateway.MediaURL = "[::]:7402", "https://m.example" }, Up(), ""},
		"up, no address":          {func(c *Config) { c.Media.Listen = "7402" }, Up(), "media.listen"},
		"a gateway reads nothing of it": {func(c *Config) {
			c.Media.Listen, c.Links.Routers, c.Links.Offlines = "", []string{"127.0.0.1:1"}, []string{"127.0.0.1:1"}
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

// TestUpWithoutMedia: there is no listener, and clients are told of none.
func TestUpWithoutMedia(t *testing.T) {
	cfg := upConfig(t)
	cfg.Media.Listen = MediaOff
	if err := EnsureKeys(cfg); err != nil {
		t.Fatal(err)
	}
	n, err := New(cfg, Up(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if n.media != nil || n.MediaURL() != "" || n.cfg.Gateway.MediaURL != "" {
		t.Errorf("a mediad at %q, clients are told %q", n.MediaURL(), n.cfg.Gateway.MediaURL)
	}
	start(t, n)()
}

// TestClosedAfterFailure: a node that cannot be opened leaves nothing open of mediad and turnd: the next one has the directory and the addresses.
func TestClosedAfterFailure(t *testing.T) {
	t.Setenv("GOGC", "off") // New leaves it then: the collector would close what was forgotten
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	cfg := upConfig(t)
	if err := EnsureKeys(cfg); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := &site{t: t}
	cfg.Media.Listen = s.address()
	cfg.SetRelay(s.address())
	bad := cfg
	bad.Region.Number, bad.Region.Listen = 1, taken.Addr().String() // the last to be opened
	bad.Region.Peers = map[string]border.Peer{"2": {CA: filepath.Join(cfg.Data, "keys", fileCA)}}
	if _, err := New(bad, Up(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "region") {
		t.Fatalf("opened: %v", err)
	}
	bad.Region.Listen = "127.0.0.1:0"
	n, err := New(bad, Up(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	n.close()
}

// TestMediadFollowsRoster: a mediad of a cluster is told of one router and finds the others, and goes on when the first is gone.
func TestMediadFollowsRoster(t *testing.T) {
	s := newSite(t)
	s.add("router-2")
	s.add("mediad")
	cfg := s.cfgs["mediad"]
	cfg.Links.Roster, cfg.Links.Listen, cfg.Raft.Listen, cfg.Media.Listen = true, "", "", "127.0.0.1:0"
	s.cfgs["mediad"] = cfg
	if _, err := InitCluster(s.cfgs["router-1"], 1); err != nil {
		t.Fatal(err)
	}
	stopFirst := s.run("router-1")
	for _, name := range []string{"router-2", "offline-1"} {
		if err := s.join(name); err != nil {
			t.Fatal(err)
		}
		defer s.run(name)()
	}
	n, err := s.open("mediad")
	if err != nil {
		t.Fatal(err)
	}
	defer start(t, n)() // which waits for keys
	until := func(what string, holds func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) { // the network's business: it can only be asked again
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	until("no stream to router-2", func() bool { return n.media.Endpoint().Dialled(s.cfgs["router-2"].Links.Listen, link.RoleRouter) })
	for _, target := range n.rosterTargets() {
		if target.role != link.RoleRouter {
			t.Errorf("a mediad dials the %v at %s", target.role, target.addr)
		}
	}
	if err := s.leave("router-1"); err != nil {
		t.Fatal(err)
	}
	stopFirst()
	if ok, why := n.media.Ready(); !ok {
		t.Error("not ready without router-1: ", why)
	}
}
