package testkit

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"linecard.example/gateway/client"
)

// TestTornFiles starts a real data directory with content again and again, each time with one file cut or with a bit flipped. The
// process must end with exit code 1 and one line that names the file, or its directory, and says what to do; or start, and have
// everything that was acked. It never skips silently, and never shows a stack.
func TestTornFiles(t *testing.T) {
	s := Start(t, Together, Settings{})
	h := NewHistory()
	ann := s.NewDevice("ann", h, DeviceOptions{})
	home := s.DiskHome("bob")
	s.NewDevice("bob", h, DeviceOptions{Quiet: true, Home: home}).Close()
	must(t, home.Close())
	must(t, ann.SayAll("bob", 200, 16))
	ann.Close()
	stop(t, s, "up")
	data, kept := filepath.Join(s.Dir, "data"), filepath.Join(s.Dir, "kept")
	must(t, os.CopyFS(kept, os.DirFS(data)))

	rng := rand.New(rand.NewPCG(11, 12))
	const never = true // must not start
	for _, c := range []struct {
		file string // the newest that fits
		cut  int    // from the end; 0: flip a bit; -1: anywhere
		stop bool   // it must not start; else it may go on, with everything
		name string // what the report says; empty: the file's name
	}{
		{"node", 0, never, ""}, {"node", -1, never, ""},
		{"keys/root.key", 0, never, "root."}, {"keys/root.pub", -1, never, ""}, {"keys/ca.key", 0, never, "ca."}, {"keys/ca.pem", -1, never, ""},
		{"keys/up.key", 0, never, "up."}, {"keys/up.pem", 0, never, "up."}, {"keys/up.static", 0, never, "up."}, {"keys/up.cert", 0, never, "up."},
		{"root.pub", 0, false, ""}, {"ballast", -1, false, ""}, {"ballast", 0, false, ""},
		{"offline/log/*.log", 0, false, "offline"}, {"offline/log/*.log", -1, never, "offline"}, {"router/log/*.log", -1, never, "router"},
		{"offline/log/MANIFEST-*", 0, never, ""}, {"offline/state/MANIFEST-*", 1, false, "offline"}, {"router/state/MANIFEST-*", 0, never, ""},
		{"offline/log/OPTIONS-*", -1, false, "offline"}, {"router/state/OPTIONS-*", 0, false, "router"},
		{"offline/state/*.sst", 1, never, "offline"}, {"router/state/*.sst", -1, never, "router"}, {"offline/state/*.sst", 0, false, ""},
	} {
		must(t, os.RemoveAll(data))
		must(t, os.CopyFS(data, os.DirFS(kept)))
		files, err := filepath.Glob(filepath.Join(data, c.file))
		if err != nil || len(files) == 0 {
			t.Errorf("no %s: %v", c.file, err)
			continue
		}
		file := files[len(files)-1]
		b, err := os.ReadFile(file)
		must(t, err)
		at := rng.IntN(len(b))
		switch {
		case c.cut > 0:
			at = len(b) - c.cut
			b = b[:at]
		case c.cut < 0:
			b = b[:at]
		default:
			b[at] ^= 1 << rng.IntN(8)
		}
		must(t, os.WriteFile(file, b, 0o600))
		if c.name == "" {
			c.name = filepath.Base(file)
		}
		tornStart(t, s, c.file, at, c.stop, c.name)
	}
}

var reportLine = regexp.MustCompile(`(?m)^linecard: .*$`)

// tornStart starts the damaged system and judges how that goes.
func tornStart(t *testing.T, s *System, file string, at int, refuse bool, name string) {
	t.Helper()
	p := NewProcess(t, "up", s.Process("up").args...)
	p.Start()
	defer p.Kill()
	started := false
	Eventually(t, file+": it starts or ends", func() bool {
		status, _ := s.Get("up", "/readyz")
		started = status == 200
		return started || !p.Running()
	})
	if !started {
		reports := reportLine.FindAllString(p.Output(), -1)
		if p.ExitCode() != 1 || len(reports) != 1 || !strings.Contains(reports[0], name) ||
			!regexp.MustCompile(`restore|backup|issue|write the former`).MatchString(reports[0]) {
			t.Errorf("%s, byte %d: exit code %d, reports %q, want one with %s", file, at, p.ExitCode(), reports, name)
		}
		if strings.Contains(p.Output(), "goroutine ") || strings.Contains(p.Output(), "panic") {
			t.Errorf("%s, byte %d: a stack:\n%s", file, at, p.Output())
		}
		t.Logf("%s, byte %d: %s", file, at, reports)
		return
	}
	if refuse {
		t.Errorf("%s, byte %d: started", file, at)
		return
	}
	copied := t.TempDir() // each start has all of the messages
	must(t, os.CopyFS(copied, os.DirFS(filepath.Join(s.Dir, "home-bob"))))
	home, err := client.OpenHome(copied)
	must(t, err)
	defer home.Close()
	d := s.NewDevice("bob", nil, DeviceOptions{Home: home})
	told := false
	Eventually(t, file+": everything that was acked comes, or a shard says why not", func() bool {
		_, page := s.Get("up", "/readyz")
		told = strings.Contains(page, "stopped")
		return told || len(d.Texts()) == 200
	})
	t.Logf("%s, byte %d: %d messages, a shard stopped: %v", file, at, len(d.Texts()), told)
	d.Close()
	if _, err := p.Stop(30 * time.Second); err != nil {
		t.Errorf("%s: %v", file, err)
	}
}
