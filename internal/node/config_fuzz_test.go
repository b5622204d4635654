package node

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"linecard.example/internal/config"
)

// FuzzConfig reads any bytes as a configuration file: every fault is an error, never a panic, and what is valid says the same when it is
// written and read again.
func FuzzConfig(f *testing.F) {
	examples, err := filepath.Glob("../../cmd/linecard/*.example.toml")
	if err != nil || len(examples) < 3 {
		f.Fatal(examples, err)
	}
	for _, path := range examples {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	whole, err := toml.Marshal(DefaultConfig())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	for _, text := range []string{
		"[links]\nlisten = \"127.0.0.1:1\"\nrouters = [\"127.0.0.1:2\"]\nofflines = [\"[::1]:3\"]\nshards = \"0-7,12\"\n",
		"shards = 0\nunknown = 1\n[gateway]\nhandshake_rate = nan\nwindow_bytes = \"1B\"\n",
		"[gateway]\nproxy_sources = [\"10.0.0.7\", \"2001:db8::/64\"]\n",
		"[links]\nshards = \"3-1,99999999999999999999\"\n",
		"[region]\nnumber = 1\nlisten = \":1\"\n[region.peers.2]\nca = \"x\"\naddrs = []\n[region.peers.3]\nca = \"y\"\n",
		"[gateway\n", "gateway = 1\n", "shards = 1\nshards = 2\n",
		"[relay]\nudp = []\ntls = [\"192.0.2.7:443\"]\ntls_cert = \"c\"\ntls_key = \"k\"\nrelay_address = \"192.0.2.7\"\nusers = {probe = \"x\"}\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c := DefaultConfig()
		if config.Decode(text, &c) != nil {
			_ = c.Validate(Up()...) // as `linecard check` does, to say everything at once
			return
		}
		if c.Validate(Up()...) != nil && c.Validate(Gateway) != nil && c.Validate(Router) != nil && c.Validate(Offline) != nil && c.Validate(Media) != nil && c.Validate(Relay) != nil {
			return
		}
		text, err := toml.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again := DefaultConfig()
		if err := config.Decode(text, &again); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		for _, lists := range []*Config{&c, &again} { // an empty list is none
			for _, l := range []*[]string{&lists.Links.Routers, &lists.Links.Offlines, &lists.Gateway.ProxySources, &lists.Gateway.RelayURLs, &lists.Media.CORSOrigins,
				&lists.Relay.UDP, &lists.Relay.TCP, &lists.Relay.TLS, &lists.Relay.DTLS, &lists.Relay.AllowPeers, &lists.Relay.DenyPeers} {
				if len(*l) == 0 {
					*l = nil
				}
			}
			if len(lists.Relay.Users) == 0 {
				lists.Relay.Users = nil
			}
			if len(lists.Region.Peers) == 0 {
				lists.Region.Peers = nil
			}
			for name, p := range lists.Region.Peers {
				if len(p.Addrs) == 0 {
					p.Addrs = nil
					lists.Region.Peers[name] = p
				}
			}
		}
		if !reflect.DeepEqual(c, again) {
			t.Fatalf("%+v\nwritten and read is\n%+v", c, again)
		}
	})
}
