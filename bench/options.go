package bench

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"linecard.example/bench/report"
)

// Options say how a scenario runs. The zero value of each field is the scenario's own choice.
type Options struct {
	// Out is the folder for report.json, report.html and the charts.
	Out string
	// Command is what was typed, for the report.
	Command []string
	// Console gets the progress and the table at the end; nil: nobody. Terminal lets progress rewrite its line.
	Console  io.Writer
	Terminal bool
	// Assert are budgets that the figures must keep.
	Assert []report.Assertion

	// Exe is the linecard binary that servers and clients are started from; "": this program.
	Exe string
	// Dir is where servers keep their data while the run lasts, a directory of its own below it; "": the system's for temporary files.
	Dir string
	// Shape is Together, Apart or Replicas.
	Shape Shape
	// Workers is the number of gateway processes under a supervisor; 0: as many as the sessions need.
	Workers int
	// Settings are further lines of the servers' configuration, by section: gateway, router, offline, links, log, raft, media, relay.
	Settings map[string]string

	// Gateways are addresses of gateways that run already, instead of starting a system here; Root is the root line of their cluster and
	// Admins are the admin listeners of its daemons, from which memory and CPU time are read.
	Gateways []netip.AddrPort
	Root     string
	Admins   map[string][]string // by part: gateway, router, offline
	// Agents are the machines that the clients run on, HOST:PORT of `linecard bench agent`, and Token is what they want to hear.
	Agents []string
	Token  string

	// Sessions is the number of sessions, or of pairs where a scenario has pairs.
	Sessions int
	// Rate is a number of messages, or of set-ups, a second; 0: as fast as it goes.
	Rate float64
	// Hold is how long a state is kept, or a load goes on.
	Hold time.Duration
	// Ping is the interval of pings.
	Ping time.Duration
	// Messages is how many messages travel between random sessions at the end of density, or are stored at the end of cluster.
	Messages int
	// KillWorker kills one gateway process at the end of density.
	KillWorker bool
	// Shards is the number of shards; 0: the default of the servers.
	Shards int
	// Media has mediads started beside the other servers, and FileSize is the bytes of their files.
	Media    bool
	FileSize int64
	// Relay has a turnd started beside the other servers, and Rounds is how often each load of the scenario relay comes.
	Relay  bool
	Rounds int
	// Events is how many processes cluster ends in order, and how many it kills.
	Events int
	// Profile takes CPU profiles of the servers and says what costs what; figures then include the profiler.
	Profile bool
}

// Shape is how the servers are spread over processes.
type Shape string

// The shapes.
const (
	Together Shape = "together" // one process, `linecard up`
	Apart    Shape = "apart"    // gateway, router and offline, a process each, and workers below the gateway
	Replicas Shape = "replicas" // a gateway, three routers and three offlines, a process each, with three replicas of every group
)

var errOptions = errors.New("bench")

// sections of the servers' configuration that can be set.
var sections = []string{"gateway", "router", "offline", "links", "log", "raft", "media", "relay"}

// check fills in what is left out and returns everything that is wrong.
func (o Options) check() (Options, error) {
	var faults []error
	if o.Exe == "" {
		exe, err := os.Executable()
		if err != nil {
			faults = append(faults, err)
		}
		o.Exe = exe
	}
	if o.Dir == "" {
		o.Dir = os.TempDir()
	}
	if o.Console == nil {
		o.Console = io.Discard
	}
	if o.Out == "" {
		o.Out = filepath.Join("bench", "out")
	}
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("%w: "+format, append([]any{errOptions}, args...)...))
	}
	if o.Sessions < 0 || o.Workers < 0 || o.Rate < 0 || o.Hold < 0 || o.Messages < 0 || o.Shards < 0 || o.Events < 0 || o.Rounds < 0 {
		fault("counts, rates and durations are not negative")
	}
	if o.Shape == Together && o.Workers > 1 {
		fault("%d workers need --shape apart", o.Workers)
	}
	if o.Shards > 0 && o.Shape != "" && o.Shape != Replicas {
		fault("a number of shards needs --shape replicas")
	}
	if len(o.Gateways) > 0 && o.Root == "" {
		fault("sessions with gateways elsewhere need the root line of their cluster (--root)")
	}
	for name := range o.Settings {
		if !slices.Contains(sections, name) {
			fault("settings of %q: there are %s", name, strings.Join(sections, ", "))
		}
	}
	for name := range o.Admins {
		if !slices.Contains(partNames, name) {
			fault("an admin listener of %q: there are %s", name, strings.Join(partNames, ", "))
		}
	}
	if len(o.Gateways) > 0 && len(o.Settings) > 0 {
		fault("servers that run already cannot be given settings")
	}
	if len(o.Gateways) > 0 && o.KillWorker {
		fault("only a worker of this machine can be killed")
	}
	return o, errors.Join(faults...)
}

// remote reports whether the servers run already.
func (o Options) remote() bool { return len(o.Gateways) > 0 }
