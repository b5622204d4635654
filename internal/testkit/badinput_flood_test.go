package testkit

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"linecard.example/internal/stanza"
)

// TestFloodOfStrangers: strangers who all do the same wrong thing get a few lines of the log and no more; the rest is counted in them, and
// the one who does another wrong thing among them has his line.
func TestFloodOfStrangers(t *testing.T) {
	const strangers, burst = 300, 5
	f := flood{left: regexp.MustCompile(`left_out=(\d+)`)}
	s := Start(t, Together, Settings{Gateway: crowd, Log: "client_burst = 5\nclient_every = \"2s\"\n", LogLine: f.line})
	c := s.NewCrowd(CrowdOptions{})
	c.Beside(func() {
		parallel(t, strangers, 8, func(i int) error {
			r, err := DialRaw(s.Server)
			if err != nil {
				return err
			}
			defer r.Close()
			say, want := []byte("GET / HTTP/1.0\r\n\r\n"), stanza.ReasonBadPreamble
			if i == strangers/2 {
				say, want = []byte{'L', 'C', 9, 0}, stanza.ReasonVersion
			}
			if _, err := r.Write(say); err != nil {
				return err
			}
			got, err := r.Farewell(nil)
			if got != (Farewell{want, true}) {
				t.Errorf("stranger %d: %v, %v", i, got, err)
			}
			return nil
		})
		Eventually(t, "every line written or counted", func() bool { return f.sum("bad_preamble") == strangers-1 })
	})
	c.Finish()
	if n := s.Metrics("up").Sum(`linecard_gateway_handshakes_total{result="bad_preamble"}`); n != strangers-1 {
		t.Errorf("%v counted", n)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lines["version"] != 1 || f.lines["bad_preamble"] < burst || f.lines["bad_preamble"] > strangers/4 {
		t.Errorf("lines by reason: %v", f.lines)
	}
}

// flood counts lines by reason, and those that they say were left out.
type flood struct {
	left *regexp.Regexp

	mu    sync.Mutex
	lines map[string]int
	out   map[string]int
}

func (f *flood) line(text []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lines == nil {
		f.lines, f.out = map[string]int{}, map[string]int{}
	}
	_, rest, ok := strings.Cut(string(text), "reason=")
	if !ok {
		return
	}
	reason, _, _ := strings.Cut(rest, " ")
	if m := f.left.FindStringSubmatch(rest); m != nil {
		n, _ := strconv.Atoi(m[1])
		f.out[reason] += n
	}
	if !strings.Contains(string(text), "lines left out") {
		f.lines[reason]++
	}
}

// sum is how often something happened, by what the log tells.
func (f *flood) sum(reason string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lines[reason] + f.out[reason]
}
