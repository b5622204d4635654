package turnd

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"linecard.example/internal/config"
	"linecard.example/internal/metrics"
)

// journal is a log that can be read.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

// lines returns the lines with a message.
func (j *journal) lines(msg string) (list []map[string]any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, text := range strings.Split(strings.TrimSpace(j.buf.String()), "\n") {
		var line map[string]any
		if json.Unmarshal([]byte(text), &line) == nil && line["msg"] == msg {
			list = append(list, line)
		}
	}
	return list
}

// TestAudit: the begin and the end of an allocation are in the log, with what it relayed; nothing that opens anything is.
func TestAudit(t *testing.T) {
	j := &journal{}
	s := start(t, testConfig(), Deps{Logger: slog.New(slog.NewJSONHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	d, p := dial(t, s.Addrs("udp")[0], "anna", "secret-a"), newPeer(t)
	relay := d.allocate()
	d.request(channelRequest, wantChannel(oneChan, p.addr()))
	d.send(channelData(oneChan, "seven b"))
	p.receive()
	p.send("four", relay)
	d.receive()
	made := s.fronts[0].table.get(d.client())
	eventually(t, "the packets are counted", func() bool { return made.traffic.recvPackets.Load() == 1 && made.traffic.sentPackets.Load() == 1 })
	d.request(refreshRequest, wantLifetime(0))
	for msg, want := range map[string]map[string]any{
		"allocation started": {"owner": "anna", "client": d.client().String(), "transport": "udp", "relay": relay.String()},
		"allocation ended": {"owner": "anna", "client": d.client().String(), "transport": "udp", "relay": relay.String(), "reason": "released",
			"sent_packets": 1.0, "sent_bytes": 7.0, "received_packets": 1.0, "received_bytes": 4.0},
	} {
		lines := j.lines(msg)
		if len(lines) != 1 {
			t.Fatalf("%d lines %q", len(lines), msg)
		}
		for k, v := range want {
			if lines[0][k] != v {
				t.Errorf("%s: %s is %v, want %v", msg, k, lines[0][k], v)
			}
		}
	}
	if all := j.buf.String(); strings.Contains(all, "secret-a") || strings.Contains(all, p.addr().String()) || strings.Contains(all, string(d.nonce)) {
		t.Error("the log has a password, a peer or a nonce")
	}
}

// TestMetrics: no label tells who, and the operator's page has every metric and every reason.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := start(t, testConfig(), Deps{Registerer: reg})
	d := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	d.allocate()
	p := newPeer(t)
	d.request(channelRequest, wantChannel(oneChan, p.addr()))
	d.send(channelData(oneChan, "seven b"))
	p.receive()
	for _, live := range []bool{true, false} {
		eventually(t, "the packet is counted", func() bool { return relayed(t, reg, "peer") == 7 })
		if live {
			d.request(refreshRequest, wantLifetime(0))
		}
	}
	text, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, page, _ := strings.Cut(string(text), "## Relay for calls: `turnd`")
	page, _, _ = strings.Cut(page, "\n## ")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var reasons []string
	for _, r := range Reasons() {
		reasons = append(reasons, r.String())
	}
	words := append(slices.Clone(reasons), "binding", "allocate", "refresh", "permission", "channel", "peer", "client")
	for _, f := range families {
		if !strings.Contains(string(text), "\n| `"+f.GetName()+"` |") {
			t.Errorf("docs/operations.md does not have %s", f.GetName())
		}
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if !slices.Contains([]string{"reason", "method", "to"}, l.GetName()) || !slices.Contains(words, l.GetValue()) {
					t.Errorf("%s has the label %s=%q", f.GetName(), l.GetName(), l.GetValue())
				}
			}
		}
	}
	for i, r := range reasons[1:] {
		if !strings.Contains(page, "\n- `"+r+"`: ") {
			t.Errorf("docs/operations.md does not have the reason %s", r)
		}
		if slices.Contains(reasons[i+2:], r) || r == "" {
			t.Errorf("the reason %q is there twice", r)
		}
	}
}

// relayed reads how many bytes were relayed.
func relayed(t *testing.T, reg *prometheus.Registry, to string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == "linecard_turnd_relayed_bytes_total" && m.Label[0].GetValue() == to {
				return m.Counter.GetValue()
			}
		}
	}
	t.Fatal("no such metric")
	return 0
}

// TestDrain: at the end new allocations are refused, those that there are may go on, and Run ends with the last of them.
func TestDrain(t *testing.T) {
	cfg := testConfig()
	cfg.Drain = config.Duration(time.Minute)
	s, cancel, done := started(t, cfg, Deps{})
	a, b, p := dial(t, s.Addrs("udp")[0], "anna", "secret-a"), dial(t, s.Addrs("udp")[0], "bert", "secret-b"), newPeer(t)
	a.allocate()
	b.greet()
	cancel()
	eventually(t, "it drains", func() bool { ok, why := s.Ready(); return !ok && why == "draining" })
	if code := b.request(allocateRequest, wantUDP); code != codeCapacity {
		t.Errorf("a new allocation: %d", code)
	}
	if code := a.request(channelRequest, wantChannel(oneChan, p.addr())); code != 0 {
		t.Errorf("ChannelBind: %d", code)
	}
	a.send(channelData(oneChan, "still"))
	if got, _ := p.receive(); got != "still" {
		t.Errorf("the peer got %q", got)
	}
	a.request(refreshRequest, wantLifetime(0))
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Run does not end with the last allocation")
	}
}

// TestDrainCut: when the time is up allocations are ended, and the log says why.
func TestDrainCut(t *testing.T) {
	cfg := allConfig(t)
	cfg.Drain = config.Duration(time.Millisecond)
	j := &journal{}
	s, cancel, done := started(t, cfg, Deps{Logger: slog.New(slog.NewJSONHandler(j, nil))})
	for _, transport := range []string{"udp", "tcp", "tls", "dtls"} {
		connect(t, s, transport, "anna", "secret-a").allocate()
	}
	cancel()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("Run does not end")
	}
	lines := j.lines("allocation ended")
	if len(lines) != 4 || s.Allocations() != 0 {
		t.Fatalf("%d ends, %d are left", len(lines), s.Allocations())
	}
	for _, l := range lines {
		if l["reason"] != "draining" {
			t.Errorf("the end of one over %v is %v", l["transport"], l["reason"])
		}
	}
}

// TestConfig: the defaults are valid, and each fault is told with its key.
func TestConfig(t *testing.T) {
	if faults := DefaultConfig().Validate(); len(faults) > 0 {
		t.Errorf("the defaults: %v", faults)
	}
	for key, spoil := range map[string]func(*Config){
		"relay.realm":            func(c *Config) { c.Realm = "a:b" },
		"relay.udp":              func(c *Config) { c.UDP, c.TCP = nil, nil },
		"relay.tcp":              func(c *Config) { c.TCP = []string{"3478"} },
		"relay.tls_cert":         func(c *Config) { c.TLS = []string{":5349"} },
		"relay.relay_address":    func(c *Config) { c.RelayAddress = "0.0.0.0" },
		"relay.external_address": func(c *Config) { c.ExternalAddress = "example.com" },
		"relay.max_port":         func(c *Config) { c.MaxPort = c.MinPort - 1 },
		"relay.allow_peers":      func(c *Config) { c.AllowPeers = []string{"10.0.0.1"} },
		"relay.users":            func(c *Config) { c.Users = map[string]string{"1:x": "y"} },
		"relay.lifetime":         func(c *Config) { c.Lifetime = config.Duration(time.Hour) },
		"relay.account_rate":     func(c *Config) { c.AccountRate = 100 },
		"relay.allocations":      func(c *Config) { c.Allocations = 0 },
	} {
		c := DefaultConfig()
		spoil(&c)
		faults := c.Validate()
		if len(faults) != 1 || !strings.HasPrefix(faults[0].Error(), key+":") {
			t.Errorf("%s: %v", key, faults)
		}
	}
}

// TestTaken: an address that another process has is an error, also where sockets of this one share it.
func TestTaken(t *testing.T) {
	for _, batches := range []bool{true, false} {
		cfg := testConfig()
		cfg.Sockets, cfg.Batches = 2, batches
		s := start(t, cfg, Deps{})
		cfg.UDP = []string{s.Addrs("udp")[0].String()}
		if second, err := New(cfg, Deps{}); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("batches %v: %v", batches, err)
			if err == nil {
				second.close()
			}
		}
	}
}

// TestRelayAddress: an address that no relay can have is an error at the start, not of each Allocate.
func TestRelayAddress(t *testing.T) {
	cfg := testConfig()
	cfg.RelayAddress = "192.0.2.1"
	if s, err := New(cfg, Deps{}); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("%v", err)
		if err == nil {
			s.close()
		}
	}
}

// TestLines: why no relay can be opened is in the log, and a client that tries again and again does not fill it.
func TestLines(t *testing.T) {
	used := newPeer(t).addr().Port()
	cfg := testConfig()
	cfg.MinPort, cfg.MaxPort = int(used), int(used)
	j := &journal{}
	s := start(t, cfg, Deps{Logger: slog.New(slog.NewJSONHandler(j, nil)), Lines: metrics.Budget{Burst: 2, Every: time.Hour}})
	d := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	d.greet()
	for range 5 {
		d.request(allocateRequest, wantUDP)
	}
	lines := j.lines("no relay can be opened")
	if len(lines) != 2 {
		t.Fatalf("%d lines", len(lines))
	}
	if why, _ := lines[0]["error"].(string); !strings.Contains(why, "in use") || lines[0]["reason"] != "no_ports" {
		t.Errorf("the line is %v", lines[0])
	}
}
