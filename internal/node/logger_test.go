package node

import (
	"bufio"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// TestLoggerOfAStalledPipe: nobody reads standard error, and who logs goes on; what was lost is told to the reader that comes back.
func TestLoggerOfAStalledPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	log := DefaultConfig().Logger(w)
	const lines = 4000 // of 100 bytes: six times what a pipe holds
	for range lines {
		log.Info("connection refused", "reason", "bad_preamble", "left_out", 1234567)
	}
	whole := make(chan map[string]int)
	go func() {
		seen := map[string]int{}
		for in := bufio.NewScanner(r); in.Scan(); {
			switch text := in.Text(); {
			case strings.Contains(text, "lost: standard error"):
				seen["told"]++
			case strings.Contains(text, `msg="connection refused"`), strings.Contains(text, "msg=back"):
				seen["line"]++
			default:
				seen[text]++
			}
			if len(in.Text()) > 0 && strings.Contains(in.Text(), "msg=back") {
				break
			}
		}
		whole <- seen
	}()
	for done := false; !done; {
		log.Info("back") // lost until the reader has made room
		select {
		case seen := <-whole:
			if seen["told"] == 0 || seen["line"] < 100 || seen["line"] >= lines || len(seen) != 2 {
				t.Errorf("read %v of %d lines", seen, lines)
			}
			done = true
		default:
		}
	}
	w.Close()
	_, _ = io.Copy(io.Discard, r)
}

// TestLoggerCountsWhatIsLost: each lost line is in the count, and only the first waits.
func TestLoggerCountsWhatIsLost(t *testing.T) {
	var out strings.Builder
	room, waited := 2, 0
	p := &patient{w: &out, tell: DefaultConfig().loggerTo(&out)}
	p.ready = func(d time.Duration) bool {
		if room--; room < 0 && d > 0 {
			waited++
		}
		return room >= 0
	}
	say := func(n int) {
		for range n {
			if _, err := io.WriteString(p, "line\n"); err != nil {
				t.Fatal(err)
			}
		}
	}
	say(9)
	if out.String() != "line\nline\n" || waited != 1 {
		t.Fatalf("wrote %q, waited %d times", out.String(), waited)
	}
	out.Reset()
	room = 3
	say(2)
	if got := out.String(); !strings.Contains(got, "lines=7\n") || strings.Count(got, "\nline\n") != 1 || !strings.HasSuffix(got, "line\nline\n") {
		t.Errorf("wrote %q", got)
	}
}
