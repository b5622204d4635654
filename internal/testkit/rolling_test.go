package testkit

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestRollingUpgrade takes a live cluster from the previous commit's binary to this one, as docs/operations.md says: one member at a time, each
// time until nothing is missing, and the gateway last, with its sessions. Under load nothing is lost and no session ends. But with LINECARD_LONG=1
// it begins in the middle, where two of three machines have this binary already.
func TestRollingUpgrade(t *testing.T) {
	s := prepare(t, Cluster, Settings{Binary: PreviousBinary(t)})
	if os.Getenv("LINECARD_LONG") == "" {
		for _, name := range s.members() {
			if p := s.Process(name); !strings.HasSuffix(name, "-1") {
				p.exe = ""
			}
		}
	}
	s.StartAll()
	s.exe = "" // operators use the new one from here on
	c := s.Chat()
	c.More(t, 50)
	s.AwaitWhole()
	for _, name := range s.members() {
		p := s.Process(name)
		if p.exe == "" {
			continue
		}
		if code, err := p.Stop(30 * time.Second); code != 0 || err != nil {
			t.Errorf("%s: exit code %d, %v", name, code, err)
		}
		p.exe = ""
		p.Start()
		s.AwaitWhole()
		c.More(t, 50)
	}
	s.Upgrade()
	c.More(t, 50)
	for _, p := range s.procs {
		if p.exe != "" || !p.Running() {
			t.Errorf("%s is still what it was", p.name)
		}
	}
	c.Judge(t)
}
