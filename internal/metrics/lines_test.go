package metrics

import (
	"bytes"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"linecard.example/internal/stanza"
)

// collect returns Lines at a level and what they wrote so far, without times.
func collect(level slog.Level, b Budget) (*Lines, func() []string) {
	var out written
	strip := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level, ReplaceAttr: strip}))
	return NewLines(log, b), func() []string {
		return strings.FieldsFunc(out.take(), func(r rune) bool { return r == '\n' })
	}
}

// written is what a logger wrote: timers write, too.
type written struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(p)
}

func (w *written) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.buf.Reset()
	return w.buf.String()
}

// TestLinesFlood: a flood of one reason costs its budget and no more, does not hide another reason, and every line left out is counted
// in one that was written.
func TestLinesFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, lines := collect(slog.LevelInfo, Budget{Burst: 3, Every: 10 * time.Second})
		for range 1000 {
			l.Write("connection refused", stanza.ReasonBadPreamble, 0, 0)
		}
		l.Write("session closed", stanza.ReasonBadStanza, 7, 2)
		got := lines()
		if len(got) != 4 || got[0] != `level=INFO msg="connection refused" reason=bad_preamble` ||
			got[3] != `level=INFO msg="session closed" reason=bad_stanza account=7 device=2` {
			t.Fatalf("wrote %q", got)
		}
		time.Sleep(10 * time.Second)
		l.Write("connection refused", stanza.ReasonBadPreamble, 0, 0)
		l.Write("connection refused", stanza.ReasonBadPreamble, 0, 0)
		if got := lines(); len(got) != 1 || got[0] != `level=INFO msg="connection refused" reason=bad_preamble left_out=997` {
			t.Fatalf("10 s later: %q", got)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := lines(); len(got) != 1 || got[0] != `level=INFO msg="lines left out" reason=bad_preamble left_out=1` {
			t.Fatalf("at the end of the flood: %q", got)
		}
		for range 5 {
			l.Write("connection refused", stanza.ReasonBadPreamble, 0, 0)
		}
		if got := lines(); len(got) != 3 {
			t.Fatalf("an hour later %d lines, want a whole budget", len(got))
		}
		time.Sleep(time.Minute)
		synctest.Wait() // the timer of the last two has ended
	})
}

// TestLinesRoutine: what happens every day is for debug level.
func TestLinesRoutine(t *testing.T) {
	for _, c := range []struct {
		level slog.Level
		want  int
	}{{slog.LevelInfo, 1}, {slog.LevelDebug, 2}} {
		l, lines := collect(c.level, Budget{})
		l.Write("session closed", stanza.ReasonPeerClosed, 1, 1)
		l.Write("session closed", stanza.Reason(9999), 1, 1) // counted as internal, and logged as that
		if got := lines(); len(got) != c.want || !strings.Contains(got[c.want-1], "reason=internal") {
			t.Errorf("at %v: %q", c.level, got)
		}
	}
}

// TestLinesLeftOutAsLoud: what was left out of warnings is told where only warnings are logged.
func TestLinesLeftOutAsLoud(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, lines := collect(slog.LevelWarn, Budget{Burst: 1, Every: time.Second})
		for range 3 {
			l.Write("connection refused", stanza.ReasonBadProxyHeader, 0, 0) // below the level
			l.WriteWith(slog.LevelWarn, "a balancer's connection refused", stanza.ReasonBadProxyHeader, slog.Int("n", 1))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		got := lines()
		if len(got) != 2 || got[0] != `level=WARN msg="a balancer's connection refused" reason=bad_proxy_header n=1` ||
			got[1] != `level=WARN msg="lines left out" reason=bad_proxy_header left_out=2` {
			t.Errorf("wrote %q", got)
		}
	})
}

// TestLinesAllocations: what is left out costs nothing.
func TestLinesAllocations(t *testing.T) {
	l, _ := collect(slog.LevelInfo, Budget{Burst: 1, Every: time.Hour})
	l.Write("message refused", stanza.ReasonBusy, 1, 1)
	l.Write("message refused", stanza.ReasonBusy, 1, 1)
	if n := testing.AllocsPerRun(100, func() { l.Write("message refused", stanza.ReasonBusy, 1, 1) }); n != 0 {
		t.Errorf("%v allocations for a line left out", n)
	}
	l, _ = collect(slog.LevelError, Budget{})
	if n := testing.AllocsPerRun(100, func() { l.Write("message refused", stanza.ReasonBusy, 1, 1) }); n != 0 {
		t.Errorf("%v allocations below the level", n)
	}
}

// TestRoutineDocumented: the operator's page names what is written at debug level only.
func TestRoutineDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "is written at debug level only: ")
	list, _, _ := strings.Cut(rest, ".\n")
	var want []string
	for _, r := range routine {
		want = append(want, "`"+r.String()+"`")
	}
	got := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
	if !slices.Equal(got, want) {
		t.Errorf("the page has %q, want %q", got, want)
	}
}
