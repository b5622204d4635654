package bench

import (
	"bytes"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// part is a kind of work in a CPU profile, known by the names of functions.
type part struct {
	name   string
	frames []string
}

// calls are the parts to which a sample belongs if one of the names is anywhere in its stack; the first counts.
var calls = []part{
	{"system call: write to a socket", []string{"unix.Write", "unix.Writev"}},
	{"system call: read from a socket", []string{"unix.Read"}},
	{"system call: sync of the log", []string{"unix.Fdatasync", "unix.Fsync", "syscall.Fsync"}},
	{"system call: write to a file", []string{"os.(*File).Write", "os.(*File).pwrite"}},
	{"system call: epoll", []string{"EpollWait", "EpollCtl", "runtime.netpoll"}},
	{"system call: accept, close, others", []string{"unix.Accept", "unix.Close", "syscall.RawSyscall", "syscall.Syscall"}},
	{"garbage collection", []string{"runtime.gcBgMarkWorker", "runtime.gcAssist", "runtime.bgsweep", "runtime.bgscavenge", "runtime.gcStart"}},
	{"allocation", []string{"runtime.mallocgc", "runtime.newobject", "runtime.growslice"}},
	{"copies", []string{"runtime.memmove", "runtime.typedmemmove"}},
	{"crypto: handshakes", []string{"x25519", "flynn/noise", "internal/wire.(*Responder)"}},
	{"crypto: seal and open", []string{"chacha20poly1305", "internal/wire.(*Sealer)"}},
	{"scheduler", []string{
		"runtime.mcall", "runtime.mstart", "runtime.sysmon", "runtime.schedule", "runtime.goready", "runtime.ready", "runtime.futex",
		"runtime.selectgo", "runtime.chansend", "runtime.chanrecv", "runtime.lock2", "runtime.unlock2",
	}},
}

// layers are the parts to which a sample belongs by the innermost frame that has one of the names.
var layers = []part{
	{"stanzas and frames", []string{"internal/stanza.", "internal/wire."}},
	{"log store (Pebble)", []string{"cockroachdb/pebble"}},
	{"raft", []string{"hashicorp/raft"}},
	{"shard: proposals, packs", []string{"internal/shard."}},
	{"link", []string{"internal/link."}},
	{"router: state machine", []string{"linecard.example/router.(*directory)"}},
	{"router", []string{"linecard.example/router."}},
	{"offline: state machine", []string{"linecard.example/offline.(*state)"}},
	{"offline", []string{"linecard.example/offline."}},
	{"gateway", []string{"linecard.example/gateway."}},
	{"gnet", []string{"panjf2000/gnet"}},
}

const otherParts = "others"

// shapes are type arguments in the names of frames, which name packages that do not run.
var shapes = regexp.MustCompile(`\[go\.shape.*\]`)

// partOf returns the name of the part to which a stack belongs.
func partOf(stack []byte) string {
	stack = shapes.ReplaceAll(stack, nil)
	if name, ok := find(calls, stack); ok {
		return name
	}
	for frame := range bytes.Lines(stack) {
		if name, ok := find(layers, frame); ok {
			return name
		}
	}
	return otherParts
}

func find(parts []part, in []byte) (string, bool) {
	for _, p := range parts {
		for _, f := range p.frames {
			if bytes.Contains(in, []byte(f)) {
				return p.name, true
			}
		}
	}
	return "", false
}

// shared is a part's share of the samples.
type shared struct {
	name  string
	share float64
}

// sharesOf sorts the samples of a profile, as `go tool pprof -traces` prints them, into parts, largest first.
func sharesOf(traces []byte) (all []shared, err error) {
	sums := map[string]time.Duration{}
	var total time.Duration
	for _, sample := range bytes.Split(traces, []byte("-----------+"))[1:] {
		_, stack, _ := bytes.Cut(sample, []byte("\n"))
		if len(bytes.TrimSpace(stack)) == 0 {
			continue // behind the last sample
		}
		d, ok := sampleTime(stack)
		if !ok {
			return nil, fmt.Errorf("a sample without a time: %.40q", stack)
		}
		sums[partOf(stack)] += d
		total += d
	}
	for name, d := range sums {
		all = append(all, shared{name, float64(d) / float64(total)})
	}
	slices.SortFunc(all, func(a, b shared) int {
		if a.share != b.share {
			if a.share > b.share {
				return -1
			}
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	return all, nil
}

// sampleTime returns the time of a sample, which stands before its first frame; lines with labels may come before.
func sampleTime(sample []byte) (time.Duration, bool) {
	for line := range bytes.Lines(sample) {
		if f := bytes.Fields(line); len(f) >= 2 {
			if d, err := time.ParseDuration(string(f[0])); err == nil {
				return d, true
			}
		}
	}
	return 0, false
}

// reportShares adds what costs what to the table, from the profile just taken; perUnit is the CPU time of a unit in microseconds.
func reportShares(b *testing.B, name string, perUnit float64) {
	if *profileTo == "" {
		return
	}
	traces, err := exec.Command("go", "tool", "pprof", "-traces", *profileTo).Output()
	if err != nil {
		b.Error("pprof: ", err)
		return
	}
	all, err := sharesOf(traces)
	if err != nil {
		b.Error("pprof: ", err)
		return
	}
	table.add(name+", by profile:", "-", "")
	for _, s := range all {
		table.add("  "+s.name, "-", "%.1f %%, %.2f us", 100*s.share, s.share*perUnit)
	}
}

func TestSharesOf(t *testing.T) {
	const traces = `File: linecard
Type: cpu
-----------+-------------------------------------------------------
     1.50s   internal/runtime/syscall/linux.Syscall6
             golang.org/x/sys/unix.Write (inline)
             github.com/panjf2000/gnet/v2.(*conn).write
             linecard.example/gateway.(*loop).flush
-----------+-------------------------------------------------------
           pebble: wal-sync
     500ms   runtime.memmove
             linecard.example/internal/link.hand
-----------+-------------------------------------------------------
        2s   linecard.example/offline.(*state).apply
             linecard.example/internal/shard.(*Group[go.shape.struct { linecard.example/internal/stanza.Reason; x []int }]).run
-----------+-------------------------------------------------------
`
	got, err := sharesOf([]byte(traces))
	want := []shared{{"offline: state machine", 0.5}, {"system call: write to a socket", 0.375}, {"copies", 0.125}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	if _, err := sharesOf([]byte("-----------+--\n  what  f\n")); err == nil {
		t.Error("a sample without a time was taken")
	}
}
