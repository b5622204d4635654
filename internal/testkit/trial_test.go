package testkit

import (
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"linecard.example/internal/node"
)

// trial is a run of `linecard cluster try`.
type trial struct {
	*Process
	s     *System // what clients see of it
	kills map[string][]int
}

// startTrial starts one in a directory and reads what it says.
func startTrial(t *testing.T, dir string) *trial {
	t.Helper()
	tr := &trial{Process: NewProcess(t, "try", "cluster", "try", "--dir", dir), kills: map[string][]int{}}
	tr.Start()
	Eventually(t, "it is up", func() bool {
		if !tr.Running() {
			t.Fatal("it ended")
		}
		return strings.Contains(tr.Output(), "Ctrl-C stops it")
	})
	said := tr.Output()
	tr.s = &System{t: t, Dir: dir, Server: regexp.MustCompile(`clients +(\S+)`).FindStringSubmatch(said)[1],
		Root: regexp.MustCompile(`root +(\S+)`).FindStringSubmatch(said)[1]}
	for _, m := range regexp.MustCompile(`kill -9 (\d+) (\d+) +# (\S+), (\S+)`).FindAllStringSubmatch(said, -1) {
		for _, pid := range m[1:3] {
			n, err := strconv.Atoi(pid)
			must(t, err)
			tr.kills[m[3]] = append(tr.kills[m[3]], n)
		}
	}
	if len(tr.kills) != 3 || len(tr.kills["router-2"]) != 2 || strings.Count(said, " chat --home ") != 2 {
		t.Fatalf("it says:\n%s", said)
	}
	return tr
}

// trialGone waits until none of the processes listens any more.
func trialGone(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.toml"))
	if err != nil || len(files) != 7 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		cfg, err := node.LoadConfig(f)
		must(t, err)
		Eventually(t, f+": its process ends", func() bool {
			c, err := net.Dial("tcp", cfg.Admin.Listen)
			if err == nil {
				c.Close()
			}
			return err != nil
		})
	}
}

// TestClusterTry does what the command tells whoever tries it: two chat, a machine is killed, they chat on, it comes back. A second start goes on
// with the data, and whatever way the command ends, its processes do.
func TestClusterTry(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cluster")
	tr := startTrial(t, dir)
	h := NewHistory()
	ann := tr.s.NewDevice("ann", h, DeviceOptions{Home: tr.s.DiskHome("ann")})
	bob := tr.s.NewDevice("bob", h, DeviceOptions{Home: tr.s.DiskHome("bob")})
	must(t, ann.SayAll("bob", 20, 4))
	for _, pid := range tr.kills["router-2"] {
		must(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	must(t, ann.SayAll("bob", 20, 4))
	must(t, bob.SayAll("ann", 20, 4))
	Eventually(t, "the machine comes back", func() bool {
		out := tr.Output()
		return strings.Contains(out, "router-2  | runs again") && strings.Contains(out, "offline-2 | runs again")
	})
	if out := tr.s.mustRun("cluster", "status", "--config", filepath.Join(dir, "gateway.toml"), "--wait", "1m"); strings.Count(out, " yes ") != 6 {
		t.Errorf("status:\n%s", out)
	}
	again := NewProcess(t, "second", "cluster", "try", "--dir", dir)
	again.Start()
	<-again.done
	if again.ExitCode() != 1 || !strings.Contains(again.Output(), "runs already") {
		t.Errorf("a second one: exit code %d", again.ExitCode())
	}
	ann.Close()
	if code, err := tr.Stop(time.Minute); code != 0 || err != nil {
		t.Fatalf("exit code %d, %v", code, err)
	}
	trialGone(t, dir)

	server := tr.s.Server
	tr = startTrial(t, dir)
	if tr.s.Server != server {
		t.Errorf("clients find it at %s, and before at %s", tr.s.Server, server)
	}
	ann = tr.s.NewDevice("ann", h, DeviceOptions{Home: ann.Home})
	must(t, ann.SayAll("bob", 20, 4))
	h.Judge(t, map[string][]string{"ann": {ann.Label()}, "bob": {bob.Label()}})
	tr.Kill()
	trialGone(t, dir)
}
