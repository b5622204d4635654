package node

import (
	"log/slog"
	"net"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"linecard.example/border"
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
