package swarm

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"linecard.example/internal/testkit"
)

func newFleet(t testing.TB, cfg FleetConfig) *Fleet {
	t.Helper()
	f, err := NewFleet(waitFor(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil && !t.Failed() && !strings.Contains(err.Error(), "killed") {
			t.Error(err)
		}
	})
	return f
}

// TestFleet drives three children as one engine; then one of them dies.
func TestFleet(t *testing.T) {
	const sessions = 250 // of three engines, the last one not full
	sys := testkit.Start(t, testkit.Inside, testkit.Settings{Gateway: lifted})
	seen := make(chan Counters, 1)
	f := newFleet(t, FleetConfig{
		Config: configOf(t, sys, sessions), PerEngine: 100, Command: []string{testkit.Binary(t), "bench", "swarm"},
		Progress: func(c Counters) {
			select {
			case seen <- c:
			default:
			}
		},
	})
	all := Range{Count: sessions}
	o, err := f.Open(waitFor(t), Open{Range: all, Rate: 2000})
	if err != nil || o.Bound != sessions || o.Asked != sessions || o.Setup.Count() != sessions || o.CPU == 0 {
		t.Fatalf("open: %+v, %v", o, err)
	}
	tr, err := f.Pairs(waitFor(t), Pairs{Range: Range{From: 50, Count: 200}, Size: 64, Messages: 10})
	wantWhole(t, tr, err, 1000)
	tr, err = f.Random(waitFor(t), 600, 100)
	if err != nil || tr.Sent != 600 || tr.Delivered != 600 || tr.Lost+tr.Doubled+tr.Corrupt != 0 {
		t.Fatalf("letters: %+v, %v", tr, err)
	}
	s, err := f.Cut(waitFor(t), Cut{Range: all, Reset: true})
	if err != nil || s.Lost != sessions || s.Bound != sessions || s.Back.Count() != sessions {
		t.Fatalf("cut: %+v, %v", s, err)
	}
	p, err := f.Ping(waitFor(t), Ping{Range: Range{From: 1, Count: sessions - 1, Step: 2}})
	if err != nil || p.Pongs != sessions/2 {
		t.Fatalf("ping: %+v, %v", p, err)
	}
	m, err := f.Memory(waitFor(t))
	if err != nil || m.Slots/sessions < 128 || m.Slots/sessions > 250 || m.Tickets/sessions > 160 { // the table of descriptors comes in steps
		t.Errorf("memory: %+v, %v", m, err)
	}
	if c := <-seen; len(c.Dead) != 0 || c.Sessions > sessions {
		t.Errorf("progress: %+v", c)
	}
	oneDies(t, f, sessions)
}

// oneDies kills a child: no order about its sessions succeeds from then on, and they are counted as lost; the others go on.
func oneDies(t *testing.T, f *Fleet, sessions int) {
	if err := syscall.Kill(f.Pids()[1], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-f.engines[1].gone
	c, err := f.Counters(waitFor(t))
	if err == nil || c.Lost["engine"] != 100 || !slices.Equal(c.Dead, []string{"1"}) || c.Bound != sessions-100 {
		t.Errorf("a child died: %+v, %v", c, err)
	}
	if _, err := f.Pairs(waitFor(t), Pairs{Range: Range{From: 90, Count: 20}, Size: 64, Messages: 1}); err == nil {
		t.Error("pairs of sessions that are lost")
	}
	tr, err := f.Pairs(waitFor(t), Pairs{Range: Range{From: 200, Count: 50}, Size: 64, Messages: 4})
	wantWhole(t, tr, err, 100)
}

// TestAgent runs a fleet on an agent; one without the token gets nothing.
func TestAgent(t *testing.T) {
	sys := testkit.Start(t, testkit.Inside, testkit.Settings{Gateway: lifted})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- Agent(ctx, ln, "a token of 16 bytes", []string{testkit.Binary(t), "bench", "swarm"}, io.Discard)
	}()
	cfg := FleetConfig{Config: configOf(t, sys, 20), PerEngine: 10, Agents: []string{ln.Addr().String()}, Token: "a token of 16 bytes"}
	f := newFleet(t, cfg)
	if o, err := f.Open(waitFor(t), Open{Range: Range{Count: 20}}); err != nil || o.Bound != 20 {
		t.Fatalf("%+v, %v", o, err)
	}
	tr, err := f.Random(waitFor(t), 50, 64)
	if err != nil || tr.Delivered != 50 {
		t.Fatalf("%+v, %v", tr, err)
	}
	cfg.Token = "another"
	for range 2 * maxStrangers {
		if f, err := NewFleet(waitFor(t), cfg); err == nil {
			t.Errorf("an agent serves who does not know its token: %+v", f)
		}
	}
	cfg.Token, cfg.Prefix = "a token of 16 bytes", "t-"
	newFleet(t, cfg) // who does is served still
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if c, err := f.Counters(waitFor(t)); err == nil || c.Lost["engine"] != 20 {
		t.Errorf("the agent has gone: %+v, %v", c, err)
	}
	open, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := Agent(context.Background(), open, "short", nil, io.Discard); err == nil {
		t.Error("an open agent with a short token")
	}
}

// TestServe: what is no order ends the engine or is answered with an error, and the end of the input ends it.
func TestServe(t *testing.T) {
	var out bytes.Buffer
	in := strings.NewReader(`{"id":1,"op":"open","body":{}}` + "\n" + `{"id":2,"op":"new","body":{"Sessions":-1}}` + "\n" + `{"id":3,"op":"dance"}` + "\n")
	if err := Serve(waitFor(t), in, &out); err != nil {
		t.Fatal(err)
	}
	got := map[uint64]string{}
	for line := range strings.Lines(out.String()) {
		var a answer
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatal(err)
		}
		got[a.ID] = a.Error
	}
	if !strings.Contains(got[1], "before new") || !strings.Contains(got[2], "sessions") || !strings.Contains(got[3], "before new") {
		t.Errorf("%v", got)
	}
	if err := Serve(waitFor(t), strings.NewReader("no order\n"), &out); err == nil {
		t.Error("a line that is no order")
	}
}

// TestHungEngine: an engine that does not answer is dead after a bounded time.
func TestHungEngine(t *testing.T) {
	r, w := io.Pipe()
	defer r.Close()
	e := newRemote("x", discard{}, r)
	defer w.Close()
	e.patience = time.Millisecond
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if err := e.do(ctx, opCounters, nil, nil); err == nil || e.fault() == nil {
		t.Errorf("%v, %v", err, e.fault())
	}
}

// TestEngineThatDoesNotRead: a line longer than its pipe holds up neither answers nor deadlines.
func TestEngineThatDoesNotRead(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	answers, w := io.Pipe()
	defer answers.Close()
	defer w.Close()
	e := newRemote("x", out, answers)
	e.patience = time.Second
	stuck := make(chan error, 1)
	go func() { stuck <- e.do(waitFor(t), opSend, strings.Repeat("x", 1<<20), nil) }()
	for { // answers are taken while the line is on its way: this one tells of it
		e.mu.Lock()
		waiting := len(e.waiting)
		e.mu.Unlock()
		if waiting == 1 {
			break
		}
		time.Sleep(time.Millisecond) // who waits tells nobody: it is looked for again
	}
	if err := <-stuck; err == nil || e.fault() == nil {
		t.Errorf("%v, %v", err, e.fault())
	}
}

// TestLead: the first engine has its own sessions and no others, and every session has an engine.
func TestLead(t *testing.T) {
	for _, c := range []struct {
		sessions, lead int
		want           []int
	}{{250, 40, []int{40, 100, 100, 10}}, {250, 0, []int{100, 100, 50}}, {30, 40, []int{30}}, {100, 100, []int{100}}, {102, 1, []int{100, 2}}} {
		f := &Fleet{cfg: FleetConfig{Config: Config{Sessions: c.sessions}, PerEngine: 100, Lead: c.lead &^ 1}}
		var got []int
		for first := 0; first < c.sessions; first += got[len(got)-1] {
			got = append(got, min(f.size(len(got)), c.sessions-first))
		}
		if !slices.Equal(got, c.want) || f.count() != len(c.want) {
			t.Errorf("%d sessions with %d in front: %v, count %d", c.sessions, c.lead, got, f.count())
		}
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }
