package testkit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"linecard.example/gateway/client"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// farewells collects how sessions ended, by what their clients were told.
type farewells struct {
	mu   sync.Mutex
	told []*client.CloseError
}

func (f *farewells) notice(n client.Notice) {
	var closed *client.CloseError
	if n.Kind == client.NoticeDisconnected && errors.As(n.Err, &closed) {
		f.mu.Lock()
		f.told = append(f.told, closed)
		f.mu.Unlock()
	}
}

// TestDrain ends the process with the sessions by SIGTERM, under load: it refuses and closes with draining and a jittered time to come
// back, exits 0, and after a restart everybody goes on with nothing lost.
func TestDrain(t *testing.T) {
	for role, shape := range map[string]Shape{"up": Together, "gateway": Apart} {
		t.Run(role, func(t *testing.T) {
			s := Start(t, shape, Settings{Gateway: "drain_retry_after = \"400ms\"\n"})
			h := NewHistory()
			ann, bob := s.NewDevice("ann", h, DeviceOptions{}), s.NewDevice("bob", h, DeviceOptions{})
			var bye farewells
			for i := range 12 {
				idle(t, s, fmt.Sprintf("idle%d", i), bye.notice)
			}
			holdDrain(t, s)
			var load sync.WaitGroup
			load.Go(func() { soon(t, ann.SayAll("bob", 300, 16)) })
			load.Go(func() { soon(t, bob.SayAll("ann", 300, 16)) })

			watch := watchDrain(s, role)
			stop(t, s, role)
			refused, unready := watch()
			if len(refused) == 0 {
				t.Error("no new connection was refused with draining")
			}
			for _, wait := range refused {
				if wait < 200*time.Millisecond || wait > 600*time.Millisecond {
					t.Errorf("refused for %v, want half up to one and a half of 400ms", wait)
				}
			}
			if unready == 0 {
				t.Error("/readyz did not say draining")
			}
			bye.check(t, 12)
			s.StartAll()
			load.Wait()
			h.Judge(t, annAndBob)
		})
	}
}

// soon reports an error of a goroutine of the test.
func soon(t testing.TB, err error) {
	if err != nil {
		t.Error(err)
	}
}

// idle connects a client that only waits.
func idle(t *testing.T, s *System, name string, notify func(client.Notice)) {
	t.Helper()
	roots, err := client.ReadRoots(s.Root)
	must(t, err)
	c, err := client.Open(t.Context(), client.Options{Home: client.MemoryHome(), Address: s.Server, Handle: name, Roots: roots, Notify: notify})
	must(t, err)
	t.Cleanup(func() { c.Close() })
}

// holdDrain connects a client that is stopped and so does not close its end: the server waits for it, for a while.
func holdDrain(t *testing.T, s *System) {
	t.Helper()
	home := filepath.Join(s.Dir, "home-stuck")
	silent(t, s.Dir, "recv", "--home", home, "--server", s.Server, "--as", "stuck", "--root", s.Root, "--count", "0")
	before := sessions(s)
	p := NewProcess(t, "stuck", "recv", "--home", home, "--server", s.Server, "--as", "stuck", "--timeout", "1h")
	p.Start()
	Eventually(t, "the stuck client is connected", func() bool { return sessions(s) > before })
	p.Pause()
}

// sessions is the gateway's number of bound sessions.
func sessions(s *System) int {
	role := "up"
	if s.Shape == Apart {
		role = "gateway"
	}
	_, page := s.Get(role, "/metrics")
	return int(scrape(page)["linecard_gateway_sessions"].sum())
}

// check judges what idle clients were told.
func (f *farewells) check(t *testing.T, n int) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.told) < n {
		t.Errorf("%d of %d idle clients were told why their session ended", len(f.told), n)
	}
	waits := map[time.Duration]bool{}
	for _, c := range f.told {
		waits[c.RetryAfter] = true
		if c.Reason != stanza.ReasonDraining || c.RetryAfter < 200*time.Millisecond || c.RetryAfter > 600*time.Millisecond {
			t.Errorf("closed with %v, retry-after %v", c.Reason, c.RetryAfter)
		}
	}
	if len(f.told) > 3 && len(waits) < 3 {
		t.Errorf("retry-after is not jittered: %v", waits)
	}
}

// watchDrain connects and asks for readiness until the returned function is called, which returns the times with which connections
// were refused as draining, and how often the process said that it drains.
func watchDrain(s *System, role string) (stop func() (refused []time.Duration, unready int)) {
	end := make(chan struct{})
	var wg sync.WaitGroup
	var refused []time.Duration
	unready := 0
	until := func(f func()) {
		wg.Go(func() {
			for {
				select {
				case <-end:
					return
				case <-time.After(10 * time.Millisecond):
					f()
				}
			}
		})
	}
	until(func() {
		if reason, wait, err := knock(s.Server); err == nil && reason == stanza.ReasonDraining {
			refused = append(refused, wait)
		}
	})
	until(func() {
		if status, body := s.Get(role, "/readyz"); status == http.StatusServiceUnavailable && strings.Contains(body, "draining") {
			unready++
		}
	})
	return func() ([]time.Duration, int) {
		close(end)
		wg.Wait()
		return refused, unready
	}
}

// knock connects, sends nothing, and returns with what reason the server refuses; an error when it does not.
func knock(addr string) (stanza.Reason, time.Duration, error) {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		return 0, 0, err
	}
	head := make([]byte, 2)
	if _, err := io.ReadFull(c, head); err != nil {
		return 0, 0, err
	}
	n, _ := wire.FrameLen(head)
	body := make([]byte, n)
	if _, err := io.ReadFull(c, body); err != nil {
		return 0, 0, err
	}
	return wire.ParseRefused(body)
}

// TestStopBehind ends router and offline by SIGTERM under load: exit 0, sessions stay, nothing is lost.
func TestStopBehind(t *testing.T) {
	s := Start(t, Apart, Settings{})
	h := NewHistory()
	ann, bob := s.NewDevice("ann", h, DeviceOptions{}), s.NewDevice("bob", h, DeviceOptions{})
	for _, role := range []string{"router", "offline"} {
		must(t, ann.SayAll("bob", 20, 8))
		var load sync.WaitGroup
		load.Go(func() { soon(t, ann.SayAll("bob", 100, 16)) })
		stop(t, s, role)
		s.StartAll()
		load.Wait()
	}
	h.Judge(t, map[string][]string{"bob": {"bob/1"}})
	if a, b := ann.Connects(), bob.Connects(); a != 1 || b != 1 {
		t.Errorf("ann connected %d times and bob %d times, want 1 and 1", a, b)
	}
}

// readiness waits until a role answers /readyz with the status and a body that contains all texts.
func readiness(t *testing.T, s *System, role string, want int, texts ...string) {
	t.Helper()
	Eventually(t, fmt.Sprintf("%s answers %d with %q", role, want, texts), func() bool {
		status, body := s.Get(role, "/readyz")
		for _, text := range texts {
			if !strings.Contains(body, text) {
				return false
			}
		}
		return status == want
	})
}

// TestReadiness breaks what /readyz is about and sees it named. Draining is TestDrain's; not listening and a group without
// leader are package node's.
func TestReadiness(t *testing.T) {
	s := Start(t, Apart, Settings{})
	s.Process("offline").Kill()
	readiness(t, s, "router", http.StatusServiceUnavailable, "link router to offline", "no stream to 127.0.0.1:")
	readiness(t, s, "gateway", http.StatusServiceUnavailable, "link gateway to offline", "queue/")
	s.StartAll()
	for _, role := range []string{"gateway", "router", "offline"} {
		readiness(t, s, role, http.StatusOK, `"ok":true`)
	}
	s.Process("router").Kill()
	readiness(t, s, "gateway", http.StatusServiceUnavailable, "link gateway to router", "dir/")
	readiness(t, s, "offline", http.StatusOK)
	s.StartAll()
	readiness(t, s, "gateway", http.StatusOK)
}

var textLine = regexp.MustCompile(`^time=\S+ level=(DEBUG|INFO|WARN|ERROR) msg=`)

// TestLogs: every line that a process logs is JSON, or text, as configured; none repeats a key; none tells content.
func TestLogs(t *testing.T) {
	const secret = "marker-of-a-body"
	for _, format := range []string{"json", "text"} {
		t.Run(format, func(t *testing.T) {
			dir := t.TempDir()
			s := &System{t: t, Shape: Together, Dir: dir, Server: FreeAddr(t), Root: filepath.Join(dir, "data", "root.pub"), admin: map[string]string{"up": FreeAddr(t)}}
			config := filepath.Join(s.Dir, "log.toml")
			must(t, os.WriteFile(config, []byte("[log]\nformat = \""+format+"\"\nlevel = \"debug\"\n"), 0o600))
			p := NewProcess(t, "up", "up", "--config", config, "--data", filepath.Join(s.Dir, "data"), "--listen", s.Server, "--admin", s.Admin("up"))
			p.Line = func([]byte) {} // standard output apart
			s.procs = []*Process{p}
			s.StartAll()
			ann, bob := s.NewDevice("ann", nil, DeviceOptions{}), s.NewDevice("bob", nil, DeviceOptions{})
			_, err := ann.Say("bob", secret)
			must(t, err)
			Eventually(t, "bob has it", func() bool { return len(bob.Texts()) == 1 })
			_, _, _ = knock(s.Server)
			stop(t, s, "up")
			lines := strings.Split(strings.TrimSpace(p.Output()), "\n")
			if len(lines) < 10 {
				t.Fatalf("%d lines", len(lines))
			}
			for _, line := range lines[1:] { // the first one may have lost its beginning
				if strings.Contains(line, secret) {
					t.Errorf("content in the log: %s", line)
				}
				if format == "text" {
					if !textLine.MatchString(line) {
						t.Errorf("not a line of text: %q", line)
					}
				} else if err := oneObject(line); err != nil {
					t.Errorf("%v: %s", err, line)
				}
			}
		})
	}
}

// oneObject checks that a line is one JSON object with the keys of a log line and without repeated ones.
func oneObject(line string) error {
	var all map[string]any
	if err := json.Unmarshal([]byte(line), &all); err != nil {
		return err
	}
	for _, key := range []string{"time", "level", "msg"} {
		if all[key] == nil {
			return fmt.Errorf("no %s", key)
		}
	}
	depth, keys, key := 0, map[string]bool{}, false
	for dec := json.NewDecoder(bytes.NewReader([]byte(line))); ; {
		token, err := dec.Token()
		if err != nil {
			return nil // the end; the whole was parsed before
		}
		switch d, isDelim := token.(json.Delim); {
		case isDelim && (d == '{' || d == '['):
			depth++
		case isDelim:
			depth--
		case depth == 1 && key:
			if name, ok := token.(string); ok && keys[name] {
				return fmt.Errorf("key %s twice", name)
			} else if ok {
				keys[name] = true
			}
		}
		key = depth == 1 && !key
	}
}
