package testkit

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"linecard.example/internal/node"
)

// changed writes a copy of a process's configuration with texts replaced, and returns its path.
func (s *System) changed(name string, pairs ...string) string {
	s.t.Helper()
	text, err := os.ReadFile(s.config(name))
	must(s.t, err)
	all := string(text)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(all, pairs[i]) {
			s.t.Fatalf("%s has no %q", name, pairs[i])
		}
		all = strings.Replace(all, pairs[i], pairs[i+1], 1)
	}
	path := filepath.Join(s.t.TempDir(), name+".toml")
	must(s.t, os.WriteFile(path, []byte(all), 0o600))
	return path
}

// TestBadStarts: members that must not start end with one line that says why, commands that cannot be carried out as well, and the cluster
// goes on as if nobody had tried.
func TestBadStarts(t *testing.T) {
	s, h, ann, bob := startPair(t)
	must(t, ann.SayAll("bob", 20, 8))
	before := s.mustRun("cluster", "status", "--config", s.config("gateway"))
	stop(t, s, "offline-3")

	own, keys := s.config("offline-3"), s.layout.Keys
	start := func(text, config string) {
		t.Helper()
		fails(t, "", 1, text, "offline", "--config", config)
	}
	start(`with 16 shards, configured are "local" and 8`, s.changed("offline-3", "data =", "shards = 8\ndata ="))
	start(`configured are "other" and 16`, s.changed("offline-3", "data =", "cluster = \"other\"\ndata ="))
	start("a member keeps its name", s.changed("offline-3", `name = "offline-3"`, `name = "offline-9"`))
	fails(t, "", 1, "is that of a offline", "router", "--config", own)
	start("lacks raft.listen", s.changed("offline-3", fmt.Sprintf("[raft]\nlisten = %q", s.layout.Members[5].Raft), "[raft]"))

	format := filepath.Join(s.Dir, "offline-3-data", "format")
	good, err := os.ReadFile(format)
	must(t, err)
	must(t, os.WriteFile(format, []byte("linecard-data 99 of another kind\n"), 0o600))
	start("was written by a newer linecard: its format is 99", own)
	fails(t, "", 1, "was written by a newer linecard", "fsck", "--data", filepath.Dir(format))
	must(t, os.WriteFile(format, good, 0o600))

	must(t, node.IssueKeys(keys, "offline-3", time.Now().Add(-400*24*time.Hour)))
	start("offline-3.pem expired on ", own)
	must(t, node.IssueKeys(keys, "offline-3", time.Now()))

	copied := filepath.Join(s.Dir, "copy")
	must(t, os.Mkdir(copied, 0o700))
	for _, name := range []string{"node", "roster", "format"} {
		content, err := os.ReadFile(filepath.Join(s.Dir, "offline-1-data", name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(copied, name), content, 0o600))
	}
	first := s.layout.Members[1]
	// It says, too, that offline-3 cannot be reached.
	_, errs, code := command(t, "", "offline", "--config", s.changed("offline-1", fmt.Sprintf("data = %q", first.Data), fmt.Sprintf("data = %q", copied),
		fmt.Sprintf("listen = %q", first.Admin), fmt.Sprintf("listen = %q", FreeAddr(t)),
		fmt.Sprintf("listen = %q", first.Link), fmt.Sprintf("listen = %q", FreeAddr(t)),
		fmt.Sprintf("listen = %q", first.Raft), fmt.Sprintf("listen = %q", FreeAddr(t))))
	if last := lastLine(errs); code != 1 || !strings.Contains(last, "copy of the other's data directory") || strings.Count(errs, "another process") != 1 {
		t.Errorf("a copy of offline-1: exit %d, %s", code, errs)
	}

	s.badCommands()
	s.StartAll()
	s.WaitVoters(3)
	must(t, bob.SayAll("ann", 20, 8))
	h.Judge(t, annAndBob)
	after := s.mustRun("cluster", "status", "--config", s.config("gateway"))
	if was, is := rosterVersion.FindString(before), rosterVersion.FindString(after); was == "" || is != was {
		t.Errorf("the cluster changed: %q, it was %q", is, was)
	}
}

var rosterVersion = regexp.MustCompile(`roster version [0-9]+`)

// badCommands asks for what cannot be, of a cluster in which offline-3 is down.
func (s *System) badCommands() {
	t, empty := s.t, filepath.Join(s.Dir, "empty")
	t.Helper()
	must(t, node.IssueKeys(s.layout.Keys, "offline-9", time.Now()))
	third := s.layout.Members[5]
	fresh := []string{fmt.Sprintf("data = %q", third.Data), fmt.Sprintf("data = %q", empty), `name = "offline-3"`, `name = "offline-9"`}
	with := func(more ...string) string { return s.changed("offline-3", append(more, fresh...)...) }
	join := func(text, config string) {
		t.Helper()
		fails(t, "", 1, text, "cluster", "join", "--role", "offline", "--config", config)
	}
	join("number of shards differs", with("data =", "shards = 8\ndata ="))
	join("cluster differs", with("data =", "cluster = \"other\"\ndata ="))
	join("another member has that address", with())
	fails(t, "", 1, "number of shards differs", "cluster", "status", "--config", s.changed("gateway", "data =", "shards = 8\ndata ="))
	fails(t, "", 1, "number of shards differs", "cluster", "leave", "offline-3", "--config", s.changed("gateway", "data =", "shards = 8\ndata ="))
	fails(t, "", 1, "no active member has that name", "cluster", "leave", "offline-9", "--config", s.config("gateway"))
	fails(t, "", 1, "is in no cluster", "offline", "--config", with())
	must(t, node.IssueKeys(s.layout.Keys, "offline-9", time.Now().Add(-400*24*time.Hour)))
	join("offline-9.pem expired on ", with())
}

// TestNoQuorum: with one of three offlines nothing is acknowledged and nothing is lost. What is there says what it waits for, also from its
// start on, and goes on when another one is back.
func TestNoQuorum(t *testing.T) {
	t.Parallel() // it waits most of its time
	s, h, ann, bob := startPair(t)
	must(t, ann.SayAll("bob", 20, 8))
	KillTogether(s.Process("offline-2"), s.Process("offline-3"))
	waits := func(what string) {
		t.Helper()
		Eventually(t, what+": no leader", func() bool {
			status, page := s.Get("offline-1", "/readyz")
			return status == http.StatusServiceUnavailable && strings.Contains(page, "no leader")
		})
	}
	waits("two are killed")
	sent, err := ann.Say("bob", "into the void")
	must(t, err)
	Eventually(t, "the status names the groups", func() bool {
		out := s.mustRun("cluster", "status", "--config", s.config("gateway"))
		return strings.HasPrefix(lastLine(out), "no leader: queue/0 ") && strings.Contains(out, "offline-2  offline  active  no ")
	})
	s.Process("offline-1").Kill()
	s.Process("offline-1").Start()
	waits("the third is started alone")
	select {
	case <-sent.Done():
		t.Errorf("answered by one of three: %v", sent.Err())
	default:
	}
	s.Process("offline-3").Start()
	must(t, ann.Acked("bob", sent))
	s.StartAll()
	s.WaitVoters(3)
	must(t, bob.SayAll("ann", 20, 8))
	h.Judge(t, annAndBob)
}

// TestTwinWakesUp: a machine stands still, and a copy of its directory is brought up elsewhere. When it goes on, one process too many has
// the id: the others have taken the copy for it, and it ends and says why.
func TestTwinWakesUp(t *testing.T) {
	s, h, ann, bob := startPair(t)
	must(t, ann.SayAll("bob", 20, 8))
	sleeper, first := s.Process("offline-2"), s.layout.Members[3]
	sleeper.Pause()
	copied := filepath.Join(s.Dir, "copy")
	must(t, os.CopyFS(copied, os.DirFS(first.Data)))
	admin := FreeAddr(t)
	twin := NewProcess(t, "offline-2-copy", "offline", "--config", s.changed("offline-2", fmt.Sprintf("data = %q", first.Data), fmt.Sprintf("data = %q", copied),
		fmt.Sprintf("listen = %q", first.Admin), fmt.Sprintf("listen = %q", admin),
		fmt.Sprintf("listen = %q", first.Link), fmt.Sprintf("listen = %q", FreeAddr(t)),
		fmt.Sprintf("listen = %q", first.Raft), fmt.Sprintf("listen = %q", FreeAddr(t))))
	twin.Start()
	s.admin["offline-2"] = admin
	s.WaitReady()
	must(t, bob.SayAll("ann", 20, 8))
	sleeper.Resume()
	Eventually(t, "the one that slept ends", func() bool { return !sleeper.Running() })
	if said := sleeper.Output(); sleeper.ExitCode() != 1 || strings.Count(said, "linecard: ") != 1 || !strings.Contains(said, "copy of the other's data directory") {
		t.Errorf("exit code %d: %s", sleeper.ExitCode(), said)
	}
	must(t, ann.SayAll("bob", 20, 8))
	h.Judge(t, annAndBob)
	if code, err := twin.Stop(30 * time.Second); code != 0 || err != nil {
		t.Errorf("the copy: exit code %d, %v", code, err)
	}
}
