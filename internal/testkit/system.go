package testkit

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"linecard.example/bench/cluster"
	"linecard.example/internal/node"
)

// Shape is how a system is spread over processes.
type Shape string

// The shapes.
const (
	Inside   Shape = "inside"   // in the test's own process, seen by the race detector and by coverage
	Together Shape = "together" // one process of `linecard up`
	Apart    Shape = "apart"    // a process for each of gateway, router, offline
)

// Settings change a system's configuration. The text is TOML, put before the sections that the system writes itself.
type Settings struct {
	Gateway, Router, Offline string // lines of the sections
	Links                    string // further lines of [links]
	Raft, Top                string // of a cluster: lines of [raft], and of what stands before all sections
	Region                   string // lines of [region]
	Media, Relay             string // lines of [media] and [relay], of a system of one process

	Clock func() time.Time // of a system inside the test's process; nil: time.Now
	Disk  string           // lines of [disk]
	Log   string           // lines of [log]; "": level info

	LogLine func(line []byte) // gets each line that a process logs
	Binary  string            // that a Cluster begins with; "": that of this source

	Machine func(process string) Machine // where each process of a cluster runs; nil: all by the loopback interface
}

// Machine is where a process runs, for tests with networks and disks of their own.
type Machine struct {
	Host string   // its address; "": the loopback interface's
	Wrap []string // a command that executes another one there
	Data string   // the data directory; "": below the system's directory
}

// System is a running linecard.
type System struct {
	t      testing.TB
	Shape  Shape
	Server string // where clients connect
	Root   string // path of root.pub
	Region int    // its number
	Dir    string // everything of the system is below

	clock  func() time.Time
	exe    string            // what Run runs; "": Binary
	admin  map[string]string // role -> address
	links  map[string]string // role -> its lines of [links], where it has any
	procs  []*Process        // in the order of the message path
	layout *cluster.Layout   // of shape Cluster
	inner  *inner
}

// inner is a node within the test's process.
type inner struct {
	cancel context.CancelFunc
	done   chan error
}

// readyLimit bounds the wait for a system to become ready. Nothing is asserted about how long it takes.
const readyLimit = 60 * time.Second

// Start starts a system and waits until it is ready. It ends with the test.
func Start(t testing.TB, shape Shape, set Settings) *System {
	t.Helper()
	s := prepare(t, shape, set)
	s.StartAll()
	return s
}

// prepare makes all that a system needs but its processes.
func prepare(t testing.TB, shape Shape, set Settings) *System {
	t.Helper()
	dir := t.TempDir()
	s := &System{t: t, Shape: shape, Dir: dir, Server: FreeAddr(t), clock: set.Clock, exe: set.Binary, admin: map[string]string{}, links: map[string]string{}}
	switch shape {
	case Apart:
		s.prepareApart(set)
	case Cluster:
		s.prepareCluster(set)
	default:
		s.admin["up"] = FreeAddr(t)
		s.Root = filepath.Join(dir, "data", "root.pub")
		s.writeConfig("up", "", set)
	}
	if shape == Together {
		s.procs = []*Process{NewProcess(t, "up", "up", "--config", s.config("up"), "--data", filepath.Join(dir, "data"),
			"--listen", s.Server, "--admin", s.admin["up"])}
	}
	for _, p := range s.procs {
		p.Log = set.LogLine
	}
	t.Cleanup(s.StopInside)
	return s
}

// prepareApart makes the keys and configurations of three processes.
func (s *System) prepareApart(set Settings) {
	s.t.Helper()
	keys := filepath.Join(s.Dir, "keys")
	if err := node.InitKeys(keys, "local", time.Now()); err != nil {
		s.t.Fatal(err)
	}
	s.Root = filepath.Join(keys, "root.pub")
	router, offline := FreeAddr(s.t), FreeAddr(s.t)
	links := map[string]string{
		"gateway": fmt.Sprintf("routers = [%q]\nofflines = [%q]\n", router, offline),
		"router":  fmt.Sprintf("listen = %q\nofflines = [%q]\n", router, offline),
		"offline": fmt.Sprintf("listen = %q\n", offline),
	}
	for _, role := range []string{"gateway", "router", "offline"} {
		if err := node.IssueKeys(keys, role, time.Now()); err != nil {
			s.t.Fatal(err)
		}
		s.admin[role] = FreeAddr(s.t)
		s.links[role] = fmt.Sprintf("keys = %q\n%s", keys, links[role])
		s.writeConfig(role, s.links[role], set)
		args := []string{role, "--config", s.config(role)}
		if role != "gateway" {
			args = append(args, "--bootstrap")
		}
		s.procs = append(s.procs, NewProcess(s.t, role, args...))
	}
}

func (s *System) config(role string) string { return filepath.Join(s.Dir, role+".toml") }

func (s *System) writeConfig(role, links string, set Settings) {
	s.t.Helper()
	text := fmt.Sprintf("data = %q\n[admin]\nlisten = %q\n[log]\n%s\n[links]\n%s%s\n[gateway]\nlisten = %q\n%s\n[router]\n%s\n[offline]\n%s\n[disk]\n%s\n[region]\n%s\n",
		filepath.Join(s.Dir, role+"-data"), s.admin[role], cmp.Or(set.Log, "level = \"info\""), links, set.Links,
		s.Server, set.Gateway, set.Router, set.Offline, set.Disk, set.Region)
	if role == "up" {
		text += "[media]\n" + cmp.Or(set.Media, "listen = \"127.0.0.1:0\"\n") + "[relay]\n" + cmp.Or(set.Relay, "udp = [\"127.0.0.1:0\"]\ntcp = []\n")
	}
	if err := os.WriteFile(s.config(role), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// StartAll starts what does not run and waits until all is ready.
func (s *System) StartAll() {
	s.t.Helper()
	if s.Shape == Inside {
		s.startInside()
		return
	}
	for i := len(s.procs) - 1; i >= 0; i-- {
		if !s.procs[i].Running() {
			s.procs[i].Start()
		}
	}
	s.WaitReady()
}

// WaitReady waits until every process says that it is ready.
func (s *System) WaitReady() {
	s.t.Helper()
	deadline := time.Now().Add(readyLimit)
	for role := range s.admin {
		for {
			status, body := s.Get(role, "/readyz")
			if status == http.StatusOK {
				break
			}
			for _, p := range s.procs {
				if !p.Running() {
					s.t.Fatalf("%s ended at its start, exit code %d", p.name, p.ExitCode())
				}
			}
			if time.Now().After(deadline) {
				s.t.Fatalf("%s is not ready after %v: %d %s", role, readyLimit, status, body)
			}
			time.Sleep(20 * time.Millisecond) // another process: it can only be asked again
		}
	}
}

func (s *System) startInside() {
	s.t.Helper()
	if s.inner != nil {
		return
	}
	cfg, err := node.LoadConfig(s.config("up"))
	if err != nil {
		s.t.Fatal(err)
	}
	cfg.Data, cfg.Clock = filepath.Join(s.Dir, "data"), s.clock
	roles := node.Up()
	if err := cfg.Validate(roles...); err != nil {
		s.t.Fatal(err)
	}
	if err := node.EnsureKeys(cfg); err != nil {
		s.t.Fatal(err)
	}
	n, err := node.New(cfg, roles, slog.New(slog.NewTextHandler(testWriter{s.t}, nil)))
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- n.Run(ctx, func() { close(ready) }) }()
	s.inner = &inner{cancel: cancel, done: done}
	select {
	case <-ready:
	case err := <-done:
		s.inner = nil
		s.t.Fatal("system ended: ", err)
	case <-time.After(readyLimit):
		s.t.Fatal("system is not ready")
	}
}

// KillAll ends the system at once; a node within the test's process ends in order. StartAll brings it back.
func (s *System) KillAll() {
	s.StopInside()
	KillTogether(s.procs...)
}

// DataSize sums the sizes of the files in the data directories.
func (s *System) DataSize() (bytes int64) {
	dirs, err := filepath.Glob(filepath.Join(s.Dir, "*data"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, d := range dirs {
		bytes += DirSize(d)
	}
	return bytes
}

// StopInside ends a node within the test's process in order; for other shapes it does nothing.
func (s *System) StopInside() {
	if s.inner == nil {
		return
	}
	s.inner.cancel()
	if err := <-s.inner.done; err != nil {
		s.t.Error("system ended with: ", err)
	}
	s.inner = nil
}

// Process returns the process of a role: "gateway", "router", "offline", or "up".
func (s *System) Process(role string) *Process {
	s.t.Helper()
	for _, p := range s.procs {
		if p.name == role {
			return p
		}
	}
	s.t.Fatalf("no process %s in shape %s", role, s.Shape)
	return nil
}

// Processes returns the system's processes, in the order of the message path.
func (s *System) Processes() []*Process { return s.procs }

// Admin returns the admin address of a role ("up" unless the shape is Apart).
func (s *System) Admin(role string) string { return s.admin[role] }

// Get fetches a page of a role's admin listener. Status 0 means that it could not be reached.
func (s *System) Get(role, path string) (int, string) {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get("http://" + s.admin[role] + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// testWriter sends log lines to the test.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}
