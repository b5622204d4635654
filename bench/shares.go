package bench

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// work is a kind of work in a CPU profile, known by the names of functions.
type work struct {
	name   string
	frames []string
}

// calls are the kinds to which a sample belongs if one of the names is anywhere in its stack; the first counts.
var calls = []work{
	{"system call: write to a socket", []string{"unix.Write", "unix.Writev"}},
	{"system call: read from a socket", []string{"unix.Read"}},
	{"system call: sync of the log", []string{"unix.Fdatasync", "unix.Fsync", "syscall.Fsync"}},
	{"system call: write to a file", []string{"os.(*File).Write", "os.(*File).pwrite"}},
	{"system call: epoll", []string{"EpollWait", "EpollCtl", "runtime.netpoll"}},
	{"system call: accept, close, others", []string{"unix.Accept", "unix.Close", "syscall.RawSyscall", "syscall.Syscall"}},
	{"garbage collection", []string{"runtime.gcBgMarkWorker", "runtime.gcAssist", "runtime.bgsweep", "runtime.bgscavenge", "runtime.gcStart"}},
	{"allocation", []string{"runtime.mallocgc", "runtime.newobject", "runtime.growslice"}},
	{"copies", []string{"runtime.memmove", "runtime.typedmemmove"}},
	{"crypto: handshakes", []string{"x25519", "flynn/noise", "internal/wire.(*Responder)", "internal/wire.AnswerResume", "internal/wire.OpenTicket", "internal/wire.AppendTicket"}},
	{"crypto: seal and open", []string{"chacha20poly1305", "internal/wire.(*Sealer)"}},
	{"scheduler", []string{
		"runtime.mcall", "runtime.mstart", "runtime.sysmon", "runtime.schedule", "runtime.goready", "runtime.ready", "runtime.futex",
		"runtime.selectgo", "runtime.chansend", "runtime.chanrecv", "runtime.lock2", "runtime.unlock2",
	}},
}

// layers are the kinds to which a sample belongs by the innermost frame that has one of the names.
var layers = []work{
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

const otherWork = "others"

var errProfile = errors.New("profile")

// shapes are type arguments in the names of frames, which name packages that do not run.
var shapes = regexp.MustCompile(`\[go\.shape.*\]`)

// workOf returns the name of the kind to which a stack belongs.
func workOf(stack []byte) string {
	stack = shapes.ReplaceAll(stack, nil)
	if name, ok := find(calls, stack); ok {
		return name
	}
	for frame := range bytes.Lines(stack) {
		if name, ok := find(layers, frame); ok {
			return name
		}
	}
	return otherWork
}

func find(kinds []work, in []byte) (string, bool) {
	for _, p := range kinds {
		for _, f := range p.frames {
			if bytes.Contains(in, []byte(f)) {
				return p.name, true
			}
		}
	}
	return "", false
}

// shared is a kind of work's share of the samples.
type shared struct {
	name  string
	share float64
}

// sharesOf sorts the samples of a profile, as `go tool pprof -traces` prints them, into kinds of work, largest first.
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
			return nil, fmt.Errorf("%w: a sample without a time: %.40q", errProfile, stack)
		}
		sums[workOf(stack)] += d
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
