package bench

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"linecard.example/bench/report"
	"linecard.example/bench/swarm"
	"linecard.example/internal/testkit"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testkit.RemoveBinary()
	os.Exit(code)
}

// documented returns the keys of a scenario in README.md.
func documented(t *testing.T, scenario string) (keys []string) {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| scenario | key | what |")
	at := ""
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			if at != "" {
				break
			}
			continue
		}
		if name := strings.TrimSpace(cells[1]); name != "" {
			at = name
		}
		if at == scenario {
			for _, m := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllStringSubmatch(cells[2], -1) {
				keys = append(keys, m[1])
			}
		}
	}
	if len(keys) == 0 {
		t.Fatalf("README.md documents no key of %s", scenario)
	}
	return keys
}

// TestScenarios runs each scenario in small with the real binary: it must finish, lose nothing, and write the figures that README.md
// documents, all of them and no others.
func TestScenarios(t *testing.T) {
	if testing.Short() {
		t.Skip("-short leaves out what starts servers")
	}
	for _, c := range []struct {
		name   string
		o      Options
		assert []string
	}{
		{"density", Options{Sessions: 40, Hold: time.Second, Messages: 200, Workers: 2, KillWorker: true},
			[]string{"sessions>=40", "lost<=0", "ping_unanswered<=0", "messages>=200", "messages_lost<=0", "kill_sessions>=1"}},
		{"storm", Options{Sessions: 60, Hold: time.Second}, []string{"sessions>=60", "resumed>=1", "resume_cpu_us>=0"}},
		{"route", Options{Sessions: 10, Hold: time.Second}, []string{"flat_rate>=1", "paced_rate>=1"}},
		{"offline", Options{Sessions: 10, Hold: 200 * time.Millisecond}, []string{"users>=10"}},
		{"slow", Options{Sessions: 4, Hold: time.Second}, []string{"slow_messages>=128", "slow_left>=4", "slow_left<=4"}},
		{"soak", Options{Sessions: 40, Hold: 3 * time.Second}, []string{"messages>=1", "cuts>=10"}},
		{"cluster", Options{Sessions: 20, Hold: time.Second, Events: 2, Messages: 400}, []string{"flat_rate>=1", "replicas>=96", "stop_events>=2", "kill_events>=2", "stored>=400"}},
		{"media", Options{Sessions: 2, FileSize: 1 << 20}, []string{"files>=2", "crowd>=20", "media_get_gb_per_s>=0"}},
		{"relay", Options{Sessions: 40, Hold: 100 * time.Millisecond, Rounds: 1}, []string{"allocations>=40", "turnd_flat_rate>=1", "turnd_paced_rate>=1", "turnd_allocation_bytes>=1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var console bytes.Buffer
			c.o.Exe, c.o.Dir, c.o.Out, c.o.Console = testkit.Binary(t), t.TempDir(), t.TempDir(), &console
			for _, text := range c.assert {
				var a report.Assertion
				if err := a.UnmarshalText([]byte(text)); err != nil {
					t.Fatal(err)
				}
				c.o.Assert = append(c.o.Assert, a)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			rep, err := Run(ctx, c.name, c.o)
			if err != nil {
				t.Fatalf("%v\n%s", err, console.String())
			}
			var keys []string
			for _, f := range rep.Figures {
				keys = append(keys, f.Key)
			}
			want := documented(t, c.name)
			for program, prefix := range map[string]string{"nginx": "nginx_", "turnserver": "coturn_"} {
				if _, err := exec.LookPath(program); err != nil {
					want = slices.DeleteFunc(want, func(key string) bool { return strings.HasPrefix(key, prefix) })
				}
			}
			slices.Sort(keys)
			slices.Sort(want)
			if !slices.Equal(keys, want) {
				t.Errorf("figures %v\nREADME.md has %v", keys, want)
			}
			if back, err := report.Read(c.o.Out); err != nil || len(back.Figures) != len(rep.Figures) {
				t.Errorf("the written report: %v", err)
			}
			for _, chart := range rep.Charts {
				if _, err := os.Stat(filepath.Join(c.o.Out, chart.Name+".png")); err != nil {
					t.Error(err)
				}
			}
			if left, err := os.ReadDir(c.o.Dir); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// TestRelayShape: a run that could have no relay process ends before anything is started.
func TestRelayShape(t *testing.T) {
	for _, shape := range []Shape{Together, Replicas} {
		if _, err := Run(t.Context(), "relay", Options{Shape: shape, Exe: "/nowhere", Dir: t.TempDir(), Out: t.TempDir()}); !errors.Is(err, errOptions) || !strings.Contains(err.Error(), "--shape apart") {
			t.Errorf("%s: %v", shape, err)
		}
	}
}

// TestRelayNeeds: what a machine lacks for a relay's clients is said before anything is started.
func TestRelayNeeds(t *testing.T) {
	for _, c := range []struct {
		files       uint64
		allocations int
		want        error
	}{{20000, relayAllocations, nil}, {0, relayMost, nil}, {1024, relayAllocations, errMachine}, {1 << 20, relayMost + 1, errOptions}} {
		if err := (host{hardFiles: c.files}).relays(c.allocations); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestServerDies holds that a run ends, and says why, when a server does, though its sessions would try for ever to get back.
func TestServerDies(t *testing.T) {
	if testing.Short() {
		t.Skip("-short leaves out what starts servers")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	o, err := Options{Exe: testkit.Binary(t), Dir: t.TempDir(), Out: t.TempDir(), Hold: 200 * time.Millisecond}.check()
	if err != nil {
		t.Fatal(err)
	}
	dies := scenario{"dies", Together, func(r *run) error {
		if err := r.up(1000, 0); err != nil {
			return err
		}
		go func() {
			for c := (swarm.Counters{}); c.Bound == 0 && r.ctx.Err() == nil; time.Sleep(pollEvery) { // another process: it can only be asked again
				c, _ = r.fleet.Counters(r.ctx)
			}
			_ = r.sys.daemons[0].cmd.Process.Kill()
		}()
		_, _, err := r.open("open", swarm.Open{Range: swarm.Range{Count: 1000}, Rate: 1})
		return err
	}}
	if _, err := runOne(ctx, dies, o); !errors.Is(err, errDaemon) || !strings.Contains(err.Error(), "up has ended") || ctx.Err() != nil {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(o.Dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
