package testkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"linecard.example/gateway/client"
)

// A source is a sending client that is killed: an application on gateway/client, with a Home on disk, in a process of its own. It is
// this test binary, started again (see TestMain). It writes what it is about to do, what was done and what was acked to its standard
// output, a line at a time: what it wrote before a kill is read behind it, so that the judge knows exactly what the application knew.

// sourceEnv holds the arguments of the process, as JSON.
const sourceEnv = "LINECARD_TEST_SOURCE"

type sourceArgs struct {
	Home, Server, Root, Name, To string
	Run                          int // of the process: the first is 1
}

// sourceLine is one line of a source: a message is tried (Send is about to be called), sent (Send has returned: the Home has it) and
// acked. Its text is "RUN/N", N counting from 1 in each run of the process.
type sourceLine struct {
	State string
	N     int
	ID    uint64 `json:",omitempty"`
}

// runSource is the process. It sends until SIGTERM, and then waits until nothing is unacked any more, of earlier runs included.
func runSource(args string) error {
	var a sourceArgs
	if err := json.Unmarshal([]byte(args), &a); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	roots, err := client.ReadRoots(a.Root)
	if err != nil {
		return err
	}
	home, err := client.OpenHome(a.Home)
	if err != nil {
		return err
	}
	defer home.Close()
	limit, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	c, err := client.Open(limit, client.Options{Home: home, Address: a.Server, Handle: a.Name, Roots: roots})
	if err != nil {
		return err
	}
	defer c.Close()
	go takeAll(limit, c)
	go hurry(limit, c)
	var out sourceOutput
	if err := out.sendAll(ctx, limit, c, &a); err != nil {
		return err
	}
	return c.Flush(limit)
}

// takeAll takes receipts, so that they do not fill the window.
func takeAll(ctx context.Context, c *client.Client) {
	for {
		if _, err := c.Receive(ctx); err != nil {
			return
		}
	}
}

// hurry keeps the wait for the next connection short, as when a network comes back: else backoff grows with each kill, and the load
// falls asleep.
func hurry(ctx context.Context, c *client.Client) {
	for ctx.Err() == nil {
		if up, _ := c.Connected(); !up {
			c.Hurry()
		}
		time.Sleep(100 * time.Millisecond) // a new network ten times a second, as long as the process lives
	}
}

// sourceOutput writes whole lines, each in one call, so that a kill leaves no torn one. Safe for concurrent use.
type sourceOutput struct{ mu sync.Mutex }

func (o *sourceOutput) line(l sourceLine) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = json.NewEncoder(os.Stdout).Encode(l) // nobody reads any more: the test has ended
}

// sendAll sends with at most ahead unacked, until ctx ends.
func (o *sourceOutput) sendAll(ctx, limit context.Context, c *client.Client, a *sourceArgs) error {
	slots := make(chan struct{}, ahead)
	for n := 1; ; n++ {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		o.line(sourceLine{State: "tried", N: n})
		sent, err := c.Send(limit, a.To, fmt.Sprintf("%d/%d", a.Run, n))
		if err != nil {
			return err
		}
		o.line(sourceLine{State: "sent", N: n, ID: sent.ID})
		go func() {
			if err := sent.Wait(limit); err == nil {
				o.line(sourceLine{State: "acked", N: n, ID: sent.ID})
			} else if !errors.Is(err, client.ErrClosed) {
				o.line(sourceLine{State: "failed: " + err.Error(), N: n, ID: sent.ID})
			}
			<-slots
		}()
	}
}

// source is the judge's side of it.
type source struct {
	t    testing.TB
	h    *History
	p    *Process
	args sourceArgs

	mu    sync.Mutex
	wrote bool              // anything in this run
	open  string            // tried in this run, and not sent yet
	maybe map[string]bool   // tried when a kill came: in the Home, or not
	given map[uint64]string // what the application was told: id and text
	acked int
	got   map[uint64]string // what the recipient has
}

func newSource(t testing.TB, s *System, h *History, to string) *source {
	k := &source{t: t, h: h, maybe: map[string]bool{}, given: map[uint64]string{}, got: map[uint64]string{}}
	k.args = sourceArgs{Home: filepath.Join(s.Dir, "home-source"), Server: s.Server, Root: s.Root, Name: "source", To: to}
	k.p = NewProcess(t, "source")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	k.p.exe, k.p.Line = exe, k.line
	k.start()
	return k
}

func (k *source) stream() Stream { return Stream{From: "source/1", To: k.args.To} }

// start starts the process again, for its next run.
func (k *source) start() {
	k.args.Run++
	args, err := json.Marshal(k.args)
	if err != nil {
		k.t.Fatal(err)
	}
	k.p.env = []string{sourceEnv + "=" + string(args)}
	k.p.Start()
}

// killed notes what a kill left open. The process is gone, and everything that it wrote has been read.
func (k *source) killed() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wrote = false
	if k.open == "" {
		return
	}
	k.maybe[k.open] = true
	for id, text := range k.got {
		if text == k.open {
			k.wasSent(id, text)
		}
	}
	k.open = ""
}

// wasSent notes that Send had done its work for a message when a kill came. Caller holds mu.
func (k *source) wasSent(id uint64, text string) {
	k.given[id] = text
	k.h.Sent(k.stream(), id)
}

// line takes one line of the process.
func (k *source) line(text []byte) {
	var l sourceLine
	if err := json.Unmarshal(text, &l); err != nil {
		k.t.Errorf("source wrote %q: %v", text, err)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wrote = true
	message := fmt.Sprintf("%d/%d", k.args.Run, l.N)
	switch l.State {
	case "tried":
		k.open = message
	case "sent":
		k.open = ""
		k.wasSent(l.ID, message)
	case "acked":
		k.acked++
		k.h.Acked(k.stream(), l.ID)
	default:
		k.t.Errorf("source: message %s: %s", message, l.State)
	}
}

// received takes a message of the source that the recipient has.
func (k *source) received(id uint64, text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.got[id] = text
	if k.maybe[text] && k.given[id] == "" {
		k.wasSent(id, text)
	}
}

// finish ends the process in order: everything that Send ever returned for must be on the server then, whatever run it was in.
func (k *source) finish() {
	k.t.Helper()
	Eventually(k.t, "source writes", func() bool { // before that it might not listen to signals yet
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.wrote
	})
	code, err := k.p.Stop(waitLimit)
	if err != nil || code != 0 {
		k.t.Errorf("source ended with code %d, %v", code, err)
	}
	k.promise()
}

// promise holds the server to everything that Send returned for.
func (k *source) promise() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id := range k.given {
		k.h.Acked(k.stream(), id)
	}
}

// judge reports each fault; call it when the recipient has everything.
func (k *source) judge() {
	k.t.Helper()
	for _, f := range k.faults() {
		k.t.Error("source: ", f)
	}
}

// faults checks what a History cannot: that a message kept its id through the kills, and that ids went on behind those of earlier runs.
func (k *source) faults() (list []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, text := range k.got {
		if given := k.given[id]; given != text {
			list = append(list, fmt.Sprintf("the recipient got %q as %d, which was given to %q", text, id, given))
		}
	}
	var run, n, lastRun, lastN int
	for _, id := range slices.Sorted(maps.Keys(k.given)) {
		if _, err := fmt.Sscanf(k.given[id], "%d/%d", &run, &n); err != nil {
			return append(list, err.Error())
		}
		if run < lastRun || (run == lastRun && n <= lastN) {
			list = append(list, fmt.Sprintf("id %d is of message %d/%d, and a lower one of %d/%d", id, run, n, lastRun, lastN))
		}
		lastRun, lastN = run, n
	}
	return list
}

// TestSourceCatches shows that the judge of a killed sender finds what it is there for, on the lines that such a process would write.
func TestSourceCatches(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines [2]string // of two runs, with a kill between
		got   string    // id=text
		want  string
	}{
		{"all well", [2]string{"tried 1,sent 1 7,tried 2,sent 2 8", "tried 1,sent 1 9"}, "7=1/1 8=1/2 9=2/1", ""},
		{"in the home, not told", [2]string{"tried 1,sent 1 7,tried 2", "tried 1,sent 1 9"}, "7=1/1 8=1/2 9=2/1", ""},
		{"not in the home", [2]string{"tried 1,sent 1 7,tried 2", "tried 1,sent 1 9"}, "7=1/1 9=2/1", ""},
		{"lost with the kill", [2]string{"tried 1,sent 1 7,tried 2,sent 2 8", "tried 1,sent 1 9"}, "7=1/1 9=2/1", "lost 1 acked"},
		{"under two ids", [2]string{"tried 1,sent 1 7", "tried 1,sent 1 9"}, "7=1/1 8=1/1 9=2/1", "nobody sent"},
		{"not told, under two ids", [2]string{"tried 1", "tried 1,sent 1 9"}, "7=1/1 8=1/1 9=2/1", "and a lower one of 1/1"},
		{"id given again", [2]string{"tried 1,sent 1 7", "tried 1,sent 1 7"}, "7=1/1", "given out twice"},
		{"ids go back", [2]string{"tried 1,sent 1 7", "tried 1,sent 1 5"}, "7=1/1 5=2/1", "a lower one of 2/1"},
		{"another text", [2]string{"tried 1,sent 1 7", "tried 1,sent 1 9"}, "7=2/1 9=2/1", "was given to"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := &source{t: t, h: NewHistory(), maybe: map[string]bool{}, given: map[uint64]string{}, got: map[uint64]string{}}
			k.args.To = "sink"
			for run, lines := range c.lines {
				k.args.Run = run + 1
				for line := range strings.SplitSeq(lines, ",") {
					var l sourceLine
					_, _ = fmt.Sscanf(line, "%s %d %d", &l.State, &l.N, &l.ID) // tried has no id
					text, err := json.Marshal(l)
					must(t, err)
					k.line(text)
				}
				k.killed()
			}
			for got := range strings.FieldsSeq(c.got) {
				id, text, _ := strings.Cut(got, "=")
				n, err := strconv.ParseUint(id, 10, 64)
				must(t, err)
				k.received(n, text)
				k.h.Received(k.stream(), "sink/1", n)
			}
			k.promise()
			faults := strings.Join(append(k.h.Faults(map[string][]string{"sink": {"sink/1"}}), k.faults()...), "\n")
			if (c.want == "") != (faults == "") || !strings.Contains(faults, c.want) {
				t.Fatalf("faults %q, want %q", faults, c.want)
			}
		})
	}
}
