package testkit

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"linecard.example/gateway/client"
	"linecard.example/internal/node"
	"linecard.example/internal/stanza"
)

// family is one metric of a scraped page.
type family struct {
	kind, help string
	labels     map[string]bool
	samples    []sample
}

// sample is one line: for histograms only _count and _sum are kept.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

// sum adds up the samples whose labels have the values of the pairs name, value; of a histogram the observations.
func (f *family) sum(pairs ...string) (total float64) {
	if f == nil {
		return 0
	}
	for _, s := range f.samples {
		ok := !strings.HasSuffix(s.name, "_sum") || f.kind != "histogram"
		for i := 0; i < len(pairs); i += 2 {
			ok = ok && s.labels[pairs[i]] == pairs[i+1]
		}
		if ok {
			total += s.value
		}
	}
	return total
}

var (
	sampleLine = regexp.MustCompile(`^([a-z_]+)(?:\{(.*)\})? (\S+)$`)
	labelPair  = regexp.MustCompile(`([a-z_]+)="((?:[^"\\]|\\.)*)"`)
)

// scrape reads a page in Prometheus' text format.
func scrape(page string) map[string]*family {
	all := map[string]*family{}
	at := func(name string) *family {
		if all[name] == nil {
			all[name] = &family{labels: map[string]bool{}}
		}
		return all[name]
	}
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		if f := strings.SplitN(line, " ", 4); len(f) == 4 && f[0] == "#" && f[1] == "HELP" {
			at(f[2]).help = f[3]
		} else if len(f) == 4 && f[0] == "#" && f[1] == "TYPE" {
			at(f[2]).kind = f[3]
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		name := m[1]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base := strings.TrimSuffix(name, suffix); all[base] != nil {
				name = base
			}
		}
		s := sample{name: m[1], labels: map[string]string{}}
		s.value, _ = strconv.ParseFloat(m[3], 64)
		for _, l := range labelPair.FindAllStringSubmatch(m[2], -1) {
			if s.labels[l[1]] = l[2]; l[1] != "le" && l[1] != "quantile" {
				at(name).labels[l[1]] = true
			}
		}
		if !strings.HasSuffix(m[1], "_bucket") {
			at(name).samples = append(at(name).samples, s)
		}
	}
	return all
}

// pages scrapes every process of a system and merges the families.
func pages(t *testing.T, s *System) map[string]*family {
	t.Helper()
	merged := map[string]*family{}
	for role := range s.admin {
		status, page := s.Get(role, "/metrics")
		if status != http.StatusOK {
			t.Fatalf("%s: /metrics: %d %s", role, status, page)
		}
		for name, f := range scrape(page) {
			if m := merged[name]; m == nil {
				merged[name] = f
			} else {
				m.samples = append(m.samples, f.samples...)
				maps.Copy(m.labels, f.labels)
			}
		}
	}
	return merged
}

// promise is what a metric must have come to at least.
type promise struct {
	name  string
	least float64
	pairs []string
}

// TestMetrics scrapes the daemons after traffic: what the operator was promised is there and has moved, and nothing tells who.
func TestMetrics(t *testing.T) {
	for _, shape := range []Shape{Together, Apart, Cluster} {
		t.Run(string(shape), func(t *testing.T) {
			s := Start(t, shape, Settings{Gateway: "max_message = \"1KiB\"\n"})
			if shape == Cluster {
				s.WaitVoters(3)
			}
			metricsTraffic(t, s)
			promised := []promise{
				{"linecard_gateway_sessions", 2, nil},
				{"linecard_gateway_connections", 2, nil},
				{"linecard_gateway_handshakes_total", 3, []string{"result", "ok"}},
				{"linecard_gateway_handshakes_total", 1, []string{"result", "resumed"}},
				{"linecard_gateway_handshakes_total", 1, []string{"result", "bad_preamble"}},
				{"linecard_gateway_stanzas_total", 40, []string{"kind", "message", "direction", "up"}},
				{"linecard_gateway_stanzas_total", 40, []string{"kind", "message", "direction", "down"}},
				{"linecard_gateway_stanzas_total", 1, []string{"kind", "ack", "direction", "down"}},
				{"linecard_gateway_stanzas_total", 1, []string{"kind", "delivered", "direction", "down"}},
				{"linecard_gateway_closes_total", 1, []string{"reason", "displaced"}},
				{"linecard_gateway_refusals_total", 1, []string{"reason", "too_large"}},
				{"linecard_gateway_frames_total", 4, []string{"direction", "up"}}, // a busy client packs its messages
				{"linecard_gateway_bytes_total", 1000, []string{"direction", "down"}},
				{"linecard_gateway_loop_lag_seconds", 1, nil},
				{"linecard_router_binds_total", 3, nil},
				{"linecard_router_bindings", 2, nil},
				{"linecard_router_accounts", 3, nil},
				{"linecard_router_messages_total", 40, nil},
				{"linecard_router_refusals_total", 1, []string{"reason", "stale_devices"}},
				{"linecard_router_queries_total", 1, []string{"kind", "lookup"}},
				{"linecard_router_shard_leader", 16, nil},
				{"linecard_router_shard_term", 16, nil},
				{"linecard_router_shard_applied_index", 16, nil},
				{"linecard_router_shard_last_index", 16, nil},
				{"linecard_router_shard_commit_seconds", 3, nil},
				{"linecard_router_shard_pack_commands", 3, nil},
				{"linecard_offline_admitted_total", 40, nil},
				{"linecard_offline_pushed_total", 40, nil},
				{"linecard_offline_acked_entries_total", 40, nil},
				{"linecard_offline_queue_entries", 20, nil},
				{"linecard_offline_queue_bytes", 20 * 64, nil},
				{"linecard_offline_cache_hits_total", 40, nil},
				{"linecard_offline_attachments", 2, nil},
				{"linecard_offline_shard_leader", 16, nil},
				{"linecard_offline_shard_commit_seconds", 3, nil},
				{"linecard_offline_shard_pack_commands", 3, nil},
				{"linecard_link_streams", 5, nil},
				{"linecard_link_envelopes_sent_total", 40, nil},
				{"linecard_build_info", 1, nil},
				{"linecard_disk_free_bytes", 1, nil},
				{"linecard_disk_ballast_bytes", 1, nil},
				{"go_goroutines", 1, nil},
				{"process_open_fds", 1, nil},
			}
			if shape == Cluster {
				promised = append(promised, clusterPromises...)
			}
			var m map[string]*family
			missing := func() (list []string) {
				m = pages(t, s)
				for _, want := range promised {
					if got := m[want.name].sum(want.pairs...); got < want.least {
						list = append(list, fmt.Sprintf("%s%v is %v, want at least %v", want.name, want.pairs, got, want.least))
					}
				}
				return list
			}
			left := missing() // gauges follow within a second or so, later on a busy machine
			for end := time.Now().Add(waitLimit); len(left) > 0 && time.Now().Before(end); left = missing() {
				time.Sleep(50 * time.Millisecond) // other processes: they can only be asked again
			}
			for _, what := range left {
				t.Error(what)
			}
			for _, name := range []string{"linecard_gateway_drops_total", "linecard_router_drops_total", "linecard_offline_drops_total", "linecard_offline_cache_misses_total"} {
				if m[name] == nil {
					t.Errorf("no %s", name)
				}
			}
			checkLabels(t, m)
			if shape == Together {
				compareTable(t, m, func(name string) bool {
					return strings.HasPrefix(name, "linecard_mediad_") || strings.HasPrefix(name, "linecard_turnd_")
				})
			}
			if shape == Cluster {
				s.failLinks("offline-1", "router-1")
				compareTable(t, pages(t, s), func(name string) bool {
					return !strings.HasPrefix(name, "linecard_border_") && !strings.HasPrefix(name, "linecard_mediad_") && !strings.HasPrefix(name, "linecard_turnd_")
				})
			}
		})
	}
}

// clusterPromises are what members show beside what every daemon does.
var clusterPromises = []promise{
	{"linecard_cluster_roster_version", 7 * 6, nil}, // founded, and joined five times
	{"linecard_cluster_members", 7 * 3, []string{"role", "router", "state", "active"}},
	{"linecard_cluster_members", 7 * 3, []string{"role", "offline", "state", "active"}},
	{"linecard_router_shard_voters", 3 * 3 * 16, nil},
	{"linecard_offline_shard_reachable_voters", 3 * 16, nil},
	{"linecard_router_shard_connections", 16, []string{"direction", "in"}},
	{"linecard_offline_shard_connections", 16, []string{"direction", "out"}},
	{"linecard_offline_shard_dials_total", 16, []string{"result", "ok"}},
	{"linecard_router_shard_config_changes_total", 4 * 16, []string{"result", "ok"}},
}

// failLinks has links fail for the death of a process, and the raft listeners of both refuse somebody: what counts such things is seen then.
func (s *System) failLinks(dies, stays string) {
	s.t.Helper()
	s.Process(dies).Kill()
	Eventually(s.t, "links fail", func() bool {
		_, page := s.Get("gateway", "/metrics")
		return scrape(page)["linecard_link_refusals_total"].sum() > 0
	})
	s.StartAll()
	for _, name := range []string{dies, stays} {
		cfg, err := node.LoadConfig(s.config(name))
		must(s.t, err)
		c, err := net.Dial("tcp", cfg.Raft.Listen)
		must(s.t, err)
		_, err = c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		must(s.t, err)
		Eventually(s.t, name+" refuses who is no replica", func() bool {
			_, page := s.Get(name, "/metrics")
			return scrape(page)["linecard_"+roleOf(name)+"_shard_refused_connections_total"].sum() > 0
		})
		must(s.t, c.Close())
	}
}

// metricsTraffic makes something of everything: 40 messages delivered, 20 that wait, a displaced session, a stale device list, a
// message that is too large, a stranger.
func metricsTraffic(t *testing.T, s *System) {
	t.Helper()
	s.WaitTickets()
	ann, bob := s.NewDevice("ann", nil, DeviceOptions{}), s.NewDevice("bob", nil, DeviceOptions{Home: s.DiskHome("bob")})
	away := s.NewDevice("cleo", nil, DeviceOptions{})
	must(t, ann.SayAll("bob", 20, 8))
	must(t, bob.SayAll("ann", 20, 8))
	away.Close()
	must(t, ann.SayAll("cleo", 20, 8))

	home := client.MemoryHome()
	number, err := bob.LinkDevice(t.Context(), home.PublicKey())
	must(t, err)
	must(t, home.Adopt(client.Identity{Account: bob.Self().Account, Device: number, Handle: "bob"}))
	must(t, ann.SayAll("bob", 1, 1))
	must(t, bob.UnlinkDevice(t.Context(), number))

	if sent, err := ann.Say("bob", strings.Repeat("x", 2000)); err == nil {
		err = sent.Wait(t.Context())
		if err == nil || !strings.Contains(err.Error(), "too_large") {
			t.Errorf("2,000 bytes: %v, want too_large", err)
		}
	}
	young := s.NewDevice("bob", nil, DeviceOptions{Home: copyHome(t, s.Dir+"/home-bob")})
	<-bob.Client.Done()
	must(t, ann.SayAll("bob", 1, 1))
	Eventually(t, "the new session gets messages", func() bool { return len(young.Texts()) > 0 })

	c, err := net.Dial("tcp", s.Server)
	must(t, err)
	defer c.Close()
	_, err = c.Write([]byte("GET / HTTP/1.1\r\n"))
	must(t, err)
	Eventually(t, "the figures are there", func() bool {
		m := pages(t, s)
		return m["linecard_gateway_handshakes_total"].sum("result", "bad_preamble") > 0 && m["linecard_offline_queue_entries"].sum() >= 20 &&
			m["linecard_offline_cache_hits_total"].sum() >= 40
	})
}

// fixedLabels are the labels that our metrics may have.
var fixedLabels = []string{"method", "op", "phase", "reason", "cause", "step", "kind", "direction", "result", "group", "loop", "role", "peer", "disk", "version", "revision", "state", "region", "to"}

// checkLabels: no label tells who or where. Values are words, group names or numbers of loops.
func checkLabels(t *testing.T, m map[string]*family) {
	t.Helper()
	fits := map[string]*regexp.Regexp{
		"group": regexp.MustCompile(`^(dir|queue)/([0-9]|1[0-5])$`), "loop": regexp.MustCompile(`^[0-9]{1,3}$`), "version": regexp.MustCompile(``), "revision": regexp.MustCompile(``),
	}
	for name, f := range m {
		if !strings.HasPrefix(name, "linecard_") {
			continue
		}
		if f.help == "" {
			t.Errorf("%s has no help", name)
		}
		for _, s := range f.samples {
			for label, value := range s.labels {
				rule := cmp.Or(fits[label], wordRule)
				if !slices.Contains(fixedLabels, label) || !rule.MatchString(value) || slices.Contains([]string{"ann", "bob", "cleo"}, value) {
					t.Errorf("%s has the label %s=%q", name, label, value)
				}
			}
		}
	}
}

var wordRule = regexp.MustCompile(`^[a-z_]+$`)

// tableRow is a row of the metrics table of docs/operations.md: | `name` | type | labels | meaning |
var tableRow = regexp.MustCompile("(?m)^\\| `(linecard_[a-z_]+)` \\| ([a-z]+) \\| ([a-z, ]*|-) \\| (.+) \\|$")

// compareTable: the tables of the page have exactly the metrics that the daemons show, with their types and labels; of those named.
func compareTable(t *testing.T, m map[string]*family, of func(name string) bool) {
	t.Helper()
	page, err := os.ReadFile("../../docs/operations.md")
	must(t, err)
	rows := map[string]string{}
	for _, row := range tableRow.FindAllStringSubmatch(string(page), -1) {
		if !of(row[1]) {
			continue
		}
		rows[row[1]] = fmt.Sprintf("%s with labels %q", row[2], strings.TrimPrefix(row[3], "-"))
	}
	for name, f := range m {
		if !strings.HasPrefix(name, "linecard_") || !of(name) {
			continue
		}
		live := fmt.Sprintf("%s with labels %q", f.kind, strings.Join(slices.Sorted(maps.Keys(f.labels)), ", "))
		if rows[name] != live {
			t.Errorf("docs/operations.md: %s is %s, the table says %q\n| `%s` | %s | %s | %s |", name, live, rows[name],
				name, f.kind, cmp.Or(strings.Join(slices.Sorted(maps.Keys(f.labels)), ", "), "-"), f.help)
		}
		delete(rows, name)
	}
	for name := range rows {
		t.Errorf("docs/operations.md has %s, which no daemon shows", name)
	}
}

// reasonRow is a row of the reasons of docs/operations.md: | `name` | where | meaning |
var reasonRow = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (close|refusal|drop|close, refusal) \\| .+ \\|$")

// TestOperationsReasons: the page has every reason, in order, and where it comes up.
func TestOperationsReasons(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	must(t, err)
	rows := reasonRow.FindAllStringSubmatch(string(page), -1)
	if len(rows) != len(stanza.Reasons) {
		t.Fatalf("%d reasons, want %d", len(rows), len(stanza.Reasons))
	}
	for i, r := range stanza.Reasons {
		if rows[i][1] != r.String() || strings.HasPrefix(rows[i][2], "close") != r.Closes() {
			t.Errorf("row %d is %s (%s), want %s", i, rows[i][1], rows[i][2], r)
		}
	}
}

// TestProfiles: the profiles of a running process can be had.
func TestProfiles(t *testing.T) {
	s := Start(t, Apart, Settings{})
	for role := range s.admin {
		for path, want := range map[string]string{
			"":                     "goroutine",
			"heap?debug=1":         "heap profile",
			"goroutine?debug=1":    "goroutine profile",
			"cmdline":              role,
			"profile?seconds=1":    "\x1f\x8b", // gzip
			"symbol":               "num_symbols",
			"trace?seconds=0.1":    "go 1.",
			"mutex?debug=1":        "mutex",
			"block?debug=1":        "contention",
			"threadcreate?debug=1": "threadcreate profile",
		} {
			if status, body := s.Get(role, "/debug/pprof/"+path); status != http.StatusOK || !strings.Contains(body, want) {
				t.Errorf("%s: %s: %d %.60q, want %q", role, path, status, body, want)
			}
		}
	}
}
