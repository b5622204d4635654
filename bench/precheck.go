package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"strings"

	tuning "linecard.example/kernel-tuning"

	"linecard.example/bench/meter"
	"linecard.example/bench/report"
)

// What a run needs beside what tuning knows of sessions: the processes themselves, in bytes, generously.
const (
	perWorker = 12 << 20  // an empty gateway process
	perEngine = 12 << 20  // an empty engine
	perSystem = 500 << 20 // router, offline, their logs' pages, this program
	perOnline = 400       // of a session in router and offline

	// engineSessions is how many sessions an engine holds; it fits under the usual hard limit of the smallest machines.
	engineSessions = 18000
	engineSpare    = 64 // descriptors of an engine that are no sessions
	// portsUsed is the part of the ports of a source address that are used: TIME_WAIT and neighbours want some.
	portsUsed = 0.8
)

var errMachine = errors.New("this machine lacks what the run needs")

// host is what the check looks at. Zero is unknown, and then not checked.
type host struct {
	available  int64 // memory, bytes
	hardFiles  uint64
	portLow    int
	portHigh   int
	anySource  bool // every address of 127.0.0.0/8 can be connected from
	maxProcess int
}

func readHost() host {
	_, hard := meter.FileLimits()
	h := host{hardFiles: hard, anySource: runtime.GOOS == "linux"}
	if k, err := meter.ReadKernel(); err == nil {
		h.available = k.Available
	}
	low, high := "net.inet.ip.portrange.first", "net.inet.ip.portrange.last"
	if runtime.GOOS == "linux" {
		low, high, _ = strings.Cut(meter.Sysctl("net.ipv4.ip_local_port_range"), " ")
		h.maxProcess, _ = strconv.Atoi(meter.Sysctl("kernel.pid_max")) // 0: unknown
	} else {
		low, high = meter.Sysctl(low), meter.Sysctl(high)
	}
	h.portLow, _ = strconv.Atoi(low)
	h.portHigh, _ = strconv.Atoi(high)
	return h
}

// ports is how many connections one address may make to one other.
func (h host) ports() int { return int(float64(h.portHigh-h.portLow) * portsUsed) }

// plan is what a run starts.
type plan struct {
	sessions  int
	workers   int
	engines   int
	perEngine int
	sources   []netip.Addr
	here      bool // both ends
	elsewhere int  // gateways of another machine that clients here connect to
}

// planFor spreads sessions over processes and source addresses so that neither descriptors nor ports bind. The first lead sessions have a
// client process of their own.
func (h host) planFor(o Options, sessions, lead int) plan {
	p := plan{sessions: sessions, workers: max(1, o.Workers), perEngine: engineSessions, here: !o.remote() && len(o.Agents) == 0}
	if h.hardFiles > engineSpare {
		p.perEngine = min(p.perEngine, int(min(h.hardFiles, 1<<30))-engineSpare)
	}
	p.engines = (sessions - lead + p.perEngine - 1) / p.perEngine
	if lead > 0 {
		p.engines++
	}
	if len(o.Agents) == 0 {
		p.elsewhere = len(o.Gateways)
	}
	if room := int(min(h.hardFiles, 1<<30)) - gatewaySpare; o.Workers == 0 && room > 0 && sessions > room {
		p.workers = (sessions*105/100+room-1)/room + 1 // one for when one dies, as the gateway's own rule has it
	}
	if !p.here || !h.anySource {
		return p
	}
	ports := h.ports()
	if ports <= 0 {
		return p
	}
	// Every engine has addresses of its own, and enough of them that half of their ports stay free: the kernel looks for one by trying.
	each := (2*p.perEngine + ports - 1) / ports
	for i := range each * p.engines {
		p.sources = append(p.sources, netip.AddrFrom4([4]byte{127, 0, byte(1 + i/250), byte(1 + i%250)}))
	}
	return p
}

// missing returns what the processes of a plan need and do not have, each with what would help.
func (h host) missing(p plan) (all []string) {
	lack := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if ports := h.ports() * p.elsewhere; p.elsewhere > 0 && ports > 0 && p.sessions > ports {
		lack("ports: this machine has %d to %d gateways (%d to %d); %d sessions need more addresses of gateways, or clients on %d machines",
			ports, p.elsewhere, h.portLow, h.portHigh, p.sessions, (p.sessions+ports-1)/ports)
	}
	if !p.here {
		return all // other machines: their own tune check tells
	}
	need := int64(p.sessions)*(serverBytes+perOnline+clientBytes) + int64(p.workers)*perWorker + int64(p.engines)*perEngine + perSystem
	if h.available > 0 && h.available < need {
		lack("memory: %s available, %d sessions with both ends here, %d workers and %d client processes need about %s",
			report.Bytes(float64(h.available)), p.sessions, p.workers, p.engines, report.Bytes(float64(need)))
	}
	if room := int64(min(h.hardFiles, 1<<40)) - gatewaySpare; h.hardFiles > 0 && int64(p.sessions)*105/100 > room*int64(p.workers) {
		lack("open files: the hard limit of %d lets %d workers hold %d sessions; %d need --workers %d, or a higher limit",
			h.hardFiles, p.workers, max(0, room)*int64(p.workers)*100/105, p.sessions, (int64(p.sessions)*105/100+max(1, room)-1)/max(1, room))
	}
	if ports := h.ports(); !h.anySource && ports > 0 && p.sessions > ports {
		lack("ports: one source address has %d (%d to %d); %d sessions need %d addresses on the loopback interface, or remote clients",
			ports, h.portLow, h.portHigh, p.sessions, (p.sessions+ports-1)/ports)
	}
	if threads := 20 * (p.workers + p.engines + 4); h.maxProcess > 0 && threads > h.maxProcess {
		lack("processes: kernel.pid_max is %d, %d workers and %d client processes have about %d threads", h.maxProcess, p.workers, p.engines, threads)
	}
	return all
}

// What a session costs the server's side and the client's, in bytes: the kernel's figures of gateway.md and the budgets of both ends.
const (
	serverBytes = 3770 + 800
	clientBytes = 3640 + 300
)

// precheck says everything that the machine lacks for the run, before anything is started. What merely hurts becomes a note.
func (r *run) precheck(h host, p plan) error {
	missing := h.missing(p)
	if p.here {
		found, err := tuning.Check(tuning.Target{Sessions: p.sessions, Workers: p.workers, Pair: true})
		if err != nil {
			r.rep.Note("the machine's settings could not be checked: " + err.Error())
		}
		var hurts []string
		for _, f := range found {
			switch line := fmt.Sprintf("%s: have %s, want %s. %s", f.Knob, f.Have, f.Want, f.Why); {
			case f.Blocks() && f.Knob != "memory": // counted above, with the processes
				missing = append(missing, line)
			case f.Failed():
				hurts = append(hurts, f.Knob)
			}
		}
		if len(hurts) > 0 {
			r.rep.Note("settings that `linecard tune check --pair` would change for so many sessions: " + strings.Join(hurts, ", "))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("%w:\n  %s", errMachine, strings.Join(missing, "\n  "))
}
