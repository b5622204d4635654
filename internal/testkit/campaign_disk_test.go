package testkit

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// leadOnSmallDisk brings leaderships to the members that have a disk of their own.
func (c *campaign) leadOnSmallDisk(role string) string {
	c.healthy()
	victim := role + "-" + diskMachine
	Eventually(c.t, victim+" leads something", func() bool { return c.leads(victim) })
	return victim
}

// leads reports whether a member leads a group.
func (c *campaign) leads(name string) bool {
	return slices.Contains(slices.Collect(maps.Values(c.leaders())), name)
}

// slowDisk makes each write to the disk of a leader take a tenth of a second.
func (c *campaign) slowDisk() {
	victim := c.leadOnSmallDisk("offline")
	c.measure("an offline whose disk takes 0.1 s for each write", []string{victim}, func() {
		c.g.slow(c.t, victim, c.s.Process(victim), 10)
		time.Sleep(3 * time.Second) // the fault lasts so long, under load
		c.g.slow(c.t, victim, c.s.Process(victim), 0)
	})
}

// fullDisk fills the disk of a leader, below its floor or to the last byte, and makes room when others lead and serve. The process may end,
// with a line that says why, rather than acknowledge what it cannot keep.
func (c *campaign) fullDisk() {
	if c.rnd.IntN(2) == 0 {
		c.fillDisk("an offline whose disk is below its floor", diskBytes/8)
	} else {
		c.fillDisk("an offline whose disk is full", 0)
	}
}

func (c *campaign) fillDisk(name string, leave int64) {
	victim := c.leadOnSmallDisk("offline")
	c.measure(name, []string{victim}, func() {
		c.g.fill(c.t, victim, leave)
		c.load.served()
		Eventually(c.t, "others lead what "+victim+" led", func() bool { return !c.leads(victim) })
		c.g.empty(c.t, victim)
		if p := c.s.Process(victim); !p.Running() && !strings.Contains(p.Output(), "no space left") {
			c.t.Errorf("%s ended, exit code %d, and does not say that the disk is full", victim, p.ExitCode())
		}
		c.s.StartAll()
	})
}

// damage spoils a file of a member that was killed. It must recover, refuse to start, stop a group or end later, each with a line that says so;
// then it is re-seeded as docs/operations.md says. Of one that serves, fsck tells whether it only has not met the damage yet.
func (c *campaign) damage() {
	c.healthy()
	victim := c.target()
	if victim == "gateway" {
		victim = c.target()
	}
	p := c.s.Process(victim)
	p.Kill()
	came := "neither started nor ended"
	file, what := c.spoil(victim)
	defer func() { c.t.Logf("%s: %s: %s", strings.TrimPrefix(file, c.s.Dir), what, came) }()
	p.Start()
	ready := func() bool { status, _ := c.s.Get(victim, "/readyz"); return status == http.StatusOK }
	stopped := func() bool { _, page := c.s.Get(victim, "/readyz"); return strings.Contains(page, "stopped") }
	Eventually(c.t, victim+" starts, ends, or stops a group", func() bool { return !p.Running() || ready() || stopped() })
	if p.Running() {
		came = "started"
		c.load.served()
	}
	switch {
	case !p.Running():
		came = "ended: " + lastReport(p.Output())
		if p.ExitCode() != 1 || lastReport(p.Output()) == "" || strings.Contains(p.Output(), "\ngoroutine ") {
			c.t.Errorf("%s: exit code %d, want 1, a line that says why, and no stack", victim, p.ExitCode())
		}
	case stopped():
		_, came = c.s.Get(victim, "/readyz")
	}
	p.Kill()
	checked, code := c.s.Run("fsck", "--data", c.s.dataDir(victim))
	if came == "started" && code == 0 {
		return
	}
	came += "; fsck: " + damagedLine.FindString(checked)
	c.reseed(victim)
}

// damagedLine is how fsck names a fault.
var damagedLine = regexp.MustCompile(`(?m)^damaged: .*$`)

// reseed has the others give a member all anew that does not run.
func (c *campaign) reseed(victim string) {
	c.t.Helper()
	must(c.t, os.RemoveAll(c.s.dataDir(victim)))
	c.s.leave(victim)
	c.s.mustRun("cluster", "join", "--config", c.s.config(victim), "--role", roleOf(victim))
}

// lastReport returns the line that a process which ends says to its operator; "": none.
func lastReport(output string) string {
	reports := reportLine.FindAllString(output, -1)
	if len(reports) == 0 {
		return ""
	}
	return reports[len(reports)-1]
}

// spoil cuts, or flips a bit of, a log or a table of a member that does not run.
func (c *campaign) spoil(victim string) (file, what string) {
	c.t.Helper()
	role := roleOf(victim)
	patterns := []string{role + "/log/*.log", role + "/log/*.sst", role + "/state/*.sst", role + "/state/MANIFEST-*"}
	var files []string
	for len(files) == 0 {
		var err error
		files, err = filepath.Glob(filepath.Join(c.s.dataDir(victim), patterns[c.rnd.IntN(len(patterns))]))
		must(c.t, err)
	}
	file = files[c.rnd.IntN(len(files))]
	b, err := os.ReadFile(file)
	must(c.t, err)
	if len(b) == 0 {
		return file, "empty"
	}
	at := c.rnd.IntN(len(b))
	if c.rnd.IntN(2) == 0 {
		b, what = b[:at], fmt.Sprintf("torn at %d of %d", at, len(b))
	} else {
		b[at] ^= 1 << c.rnd.IntN(8)
		what = fmt.Sprintf("bit flipped in %d of %d", at, len(b))
	}
	must(c.t, os.WriteFile(file, b, 0o600))
	return file, what
}
