package shard

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/prometheus/client_golang/prometheus"
)

// failingToy gives up at one command, as a machine does that cannot read its tables.
type failingToy struct {
	*toy
	h *Host
}

func (m failingToy) Apply(e Entry) uint64 {
	if string(e.Cmd) == "bad" {
		m.h.StopGroup(1, errRefused)
	}
	return m.toy.Apply(e)
}

// awaitStopped waits until the group 1 of h is stopped and its raft engine has ended.
func awaitStopped(t *testing.T, h *Host) GroupStatus {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) { // an engine ends on goroutines of raft, and tells nobody
		for _, s := range h.Status() {
			if s.Group == 1 && s.Stopped != "" && s.LeaderID == "" && !s.Leading {
				return s
			}
		}
		if time.Now().After(end) {
			t.Fatalf("not stopped: %+v", h.Status())
		}
	}
}

// TestStoppedGroupLeavesTheOthers stops one of two groups in the middle of a pack: what was applied before is answered committed, the
// rest unknown, nothing is flushed or snapshotted; the other group goes on, and the host closes in order. At the next start the group
// that is whole again applies what it had in its log.
func TestStoppedGroupLeavesTheOthers(t *testing.T) {
	fs := vfs.NewMem()
	cfg := testConfig(fs)
	reg := prometheus.NewPedanticRegistry()
	cfg.Registerer = reg
	h := openHost(t, cfg)
	m, other := newToy(), newToy()
	g, err := Open[int, uint64](h, 1, failingToy{m, h})
	if err != nil {
		t.Fatal(err)
	}
	awaitLead(t, m)
	g2 := openToy(t, h, 2, other)
	onShard(t, g, func() {
		for i, c := range []string{"a", "b", "bad", "c"} {
			g.Propose([]byte(c), i)
		}
	})
	if s := awaitStopped(t, h); !strings.Contains(s.Stopped, errRefused.Error()) || !strings.Contains(s.Stopped, remedy) {
		t.Errorf("%+v", s)
	}
	waitFor(t, g, func() bool { return len(m.results()) == 4 })
	for i, r := range m.results() {
		if want := []Outcome{Committed, Committed, Unknown, Unknown}[i]; r.out != want || r.ctx != i {
			t.Errorf("answer %d: %+v", i, r)
		}
	}
	onShard(t, g, func() {
		if g.flushed != 0 || g.flush(0) == nil || g.Propose([]byte("d"), 9) {
			t.Error("flushed, or took a command, after the stop")
		}
	})
	if err := g.Snapshot(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("snapshot: %v", err)
	}
	propose(t, g2, other, 0, 100)
	if err := g2.Snapshot(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case err := <-h.Failed():
		t.Errorf("the host failed, too: %v", err)
	default:
	}
	stopped := map[string]float64{}
	fams, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fams {
		if f.GetName() == "shard_stopped" {
			for _, m := range f.Metric {
				stopped[m.Label[0].GetValue()] = m.Gauge.GetValue()
			}
		}
	}
	if len(stopped) != 2 || stopped["dir/1"] != 1 || stopped["dir/2"] != 0 {
		t.Errorf("gauges: %v", stopped)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Bootstrap, cfg.Registerer = false, nil
	h = openHost(t, cfg)
	m = newToy()
	g = openToy(t, h, 1, m)
	onShard(t, g, func() {
		if g.at < 4 {
			t.Errorf("applied up to %d", g.at)
		}
	})
}

// TestMalformedEntryStopsTheGroup puts into the log what is no pack.
func TestMalformedEntryStopsTheGroup(t *testing.T) {
	h := openHost(t, testConfig(vfs.NewMem()))
	m := newToy()
	g := openToy(t, h, 1, m)
	g.raft.Apply([]byte("not a pack"), 0)
	if s := awaitStopped(t, h); !strings.Contains(s.Stopped, ErrPack.Error()) {
		t.Errorf("%+v", s)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCircumstances: an operator is told to restore a copy only where that is the remedy.
func TestCircumstances(t *testing.T) {
	h := &Host{cfg: HostConfig{Dir: "d"}}
	for err, damage := range map[error]bool{
		syscall.EROFS: false, syscall.EMFILE: false, syscall.EACCES: false, syscall.ENOSPC: false, syscall.EIO: true, errLogRecord: true,
	} {
		got := h.openError("log", &fs.PathError{Op: "open", Path: "d/log/LOCK", Err: err})
		if strings.Contains(got.Error(), remedy) != damage || !errors.Is(got, err) {
			t.Errorf("%v: %v", err, got)
		}
	}
}
