package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"linecard.example/bench"
	"linecard.example/bench/report"
	"linecard.example/internal/config"
)

// BenchCmd measures linecard.
type BenchCmd struct {
	Density DensityCmd      `cmd:"" help:"Idle sessions: what one takes of servers and kernel, and what set-up and pings cost."`
	Storm   StormCmd        `cmd:"" help:"All sessions cut at once and back by ticket; what others wait for meanwhile."`
	Route   RouteCmd        `cmd:"" help:"Messages between pairs, flat out and at a fixed rate: CPU and latency."`
	Offline OfflineRun      `cmd:"" help:"Messages stored for users who are away, then delivered."`
	Slow    SlowCmd         `cmd:"" help:"Clients that never read: what they hold, and what they cost others."`
	Soak    SoakCmd         `cmd:"" help:"Talk, cuts and returns for a bounded time: does anything leak?"`
	Cluster BenchClusterCmd `cmd:"" help:"Three replicas of each group: what a message costs, and what the end of a process."`
	Media   BenchMediaCmd   `cmd:"" help:"Files up and down, beside nginx where it is installed, and many uploads at once."`
	Relay   BenchRelayCmd   `cmd:"" help:"Packets through a relay, beside coturn where it is installed: CPU, latency, memory."`
	All     AllCmd          `cmd:"" help:"Every scenario, one after another."`
	benchClients

	Compare CompareCmd `cmd:"" help:"Ratios of two reports, with their spread."`
}

// benchFlags are what all scenarios have in common.
type benchFlags struct {
	Out     string   `help:"Folder for report.json, report.html and the charts." default:"bench/out" type:"path" placeholder:"DIR"`
	Dir     string   `help:"Where servers keep their data while the run lasts (default: for temporary files)." type:"path" placeholder:"DIR"`
	Shape   string   `help:"The servers' processes: together (linecard up), apart, or replicas (three of each group). Default: by scenario." enum:",together,apart,replicas" default:""`
	Workers int      `help:"Gateway processes under a supervisor; 0: as many as the limit of open files wants." placeholder:"N"`
	Set     []string `help:"A further line of the servers' configuration, SECTION:KEY=VALUE, such as 'gateway:set_procs=false'." sep:"none" placeholder:"LINE"`
	Assert  []string `help:"A budget that the figures must keep, KEY<=NUMBER or KEY>=NUMBER; exit code 1 otherwise." sep:"none" placeholder:"BUDGET"`
	Profile bool     `help:"Take CPU profiles of the servers and say what costs what; figures then include the profiler."`

	Gateway []string `help:"Address of a gateway that runs already, IP:PORT; repeat for more. Nothing is started then." placeholder:"ADDR"`
	Root    string   `help:"The root.pub of their cluster." type:"path" placeholder:"FILE"`
	Admin   []string `help:"PART=HOST:PORT of an admin listener of the servers (gateway, router, offline), to read memory and CPU from." placeholder:"PART=ADDR"`
	Agents  []string `help:"Machines to run the clients on: HOST:PORT of 'linecard bench agent'." placeholder:"ADDR"`
	Token   string   `help:"What the agents want to hear." env:"LINECARD_BENCH_TOKEN" placeholder:"TOKEN"`
}

// options turns the flags into the options of a run.
func (f benchFlags) options(std Std) (o bench.Options, err error) {
	o = bench.Options{
		Out: f.Out, Command: withoutToken(append([]string{"linecard"}, os.Args[1:]...)), Console: std.Err, Dir: f.Dir, Shape: bench.Shape(f.Shape), Workers: f.Workers,
		Settings: map[string]string{}, Admins: map[string][]string{}, Agents: f.Agents, Token: f.Token, Profile: f.Profile,
	}
	if file, ok := std.Err.(*os.File); ok {
		o.Terminal = term.IsTerminal(int(file.Fd()))
	}
	for _, line := range f.Set {
		section, rest, ok := strings.Cut(line, ":")
		if !ok {
			return o, benchUsage("--set %q: want SECTION:KEY=VALUE", line)
		}
		o.Settings[section] += rest + "\n"
	}
	for _, text := range f.Assert {
		var a report.Assertion
		if err := a.UnmarshalText([]byte(text)); err != nil {
			return o, benchUsage("--assert %v", err)
		}
		o.Assert = append(o.Assert, a)
	}
	for _, text := range f.Gateway {
		addr, err := netip.ParseAddrPort(text)
		if err != nil {
			return o, benchUsage("--gateway %q: want IP:PORT", text)
		}
		o.Gateways = append(o.Gateways, addr)
	}
	for _, text := range f.Admin {
		part, addr, ok := strings.Cut(text, "=")
		if !ok {
			return o, benchUsage("--admin %q: want PART=HOST:PORT", text)
		}
		o.Admins[part] = append(o.Admins[part], addr)
	}
	if f.Root != "" {
		text, err := os.ReadFile(f.Root)
		if err != nil {
			return o, err
		}
		o.Root = strings.TrimSpace(string(text))
	}
	return o, nil
}

// withoutToken leaves out what agents want to hear: reports are shown to others.
func withoutToken(args []string) []string {
	for i, arg := range args {
		switch {
		case strings.HasPrefix(arg, "--token="):
			args[i] = "--token=..."
		case arg == "--token" && i+1 < len(args):
			args[i+1] = "..."
		}
	}
	return args
}

func benchUsage(format string, args ...any) error {
	return exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// run runs a scenario with what its own flags change.
func (f benchFlags) run(ctx context.Context, std Std, name string, change func(*bench.Options)) error {
	o, err := f.options(std)
	if err != nil {
		return err
	}
	change(&o)
	_, err = bench.Run(ctx, name, o)
	return err
}

// DensityCmd runs the scenario density.
type DensityCmd struct {
	benchFlags
	Sessions   int           `help:"How many." default:"15000" placeholder:"N"`
	Rate       float64       `help:"Set-ups a second; 0: as fast as it goes." placeholder:"N"`
	Hold       time.Duration `help:"How long they are held." default:"10s"`
	Ping       time.Duration `help:"The interval of their pings, 1m to 15m." default:"5m"`
	Messages   int           `help:"Messages between random sessions at the end; none may be lost." placeholder:"N"`
	KillWorker bool          `help:"Kill one gateway process at the end and have its sessions resume."`
}

// Run returns when the report is written.
func (c DensityCmd) Run(ctx context.Context, std Std) error {
	return c.run(ctx, std, "density", func(o *bench.Options) {
		o.Sessions, o.Rate, o.Hold, o.Ping, o.Messages, o.KillWorker = c.Sessions, c.Rate, c.Hold, c.Ping, c.Messages, c.KillWorker
	})
}

// StormCmd runs the scenario storm.
type StormCmd struct {
	benchFlags
	Sessions int `help:"How many are cut." default:"10000" placeholder:"N"`
}

// Run returns when the report is written.
func (c StormCmd) Run(ctx context.Context, std Std) error {
	return c.run(ctx, std, "storm", func(o *bench.Options) { o.Sessions = c.Sessions })
}

// RouteCmd runs the scenario route.
type RouteCmd struct {
	benchFlags
	Pairs int           `help:"Pairs of sender and recipient." default:"1000" placeholder:"N"`
	Rate  float64       `help:"Messages a second of all pairs, without the runs flat out." placeholder:"N"`
	Time  time.Duration `help:"How long each load is measured." default:"12s"`
}

// Run returns when the report is written.
func (c RouteCmd) Run(ctx context.Context, std Std) error {
	return c.run(ctx, std, "route", func(o *bench.Options) { o.Sessions, o.Rate, o.Hold = c.Pairs, c.Rate, c.Time })
}

// OfflineRun runs the scenario offline; OfflineCmd is the daemon.
type OfflineRun struct {
	benchFlags
	Users int `help:"Users who are away." default:"1000" placeholder:"N"`
}

// Run returns when the report is written.
func (c OfflineRun) Run(ctx context.Context, std Std) error {
	return c.run(ctx, std, "offline", func(o *bench.Options) { o.Sessions = c.Users })
}

// SlowCmd runs the scenario slow.
type SlowCmd struct {
	benchFlags
	Clients int `help:"Clients that never read." default:"5000" placeholder:"N"`
}

// Run returns when the report is written.
func (c SlowCmd) Run(ctx context.Context, std Std) error {
	return c.run(ctx, std, "slow", func(o *bench.Options) { o.Sessions = c.Clients })
}

// SoakCmd runs the scenario soak.
type SoakCmd struct {
	benchFlags
	Sessions int           `help:"How many." default:"2000" placeholder:"N"`
	Time     time.Duration `help:"How long." default:"2m"`
}

// Run returns when the report is written.
func (c SoakCmd) Run(ctx context.Context, std Std) error {
	return c.run(ctx, std, "soak", func(o *bench.Options) { o.Sessions, o.Hold = c.Sessions, c.Time })
}

// BenchMediaCmd runs the scenario media.
type BenchMediaCmd struct {
	benchFlags
	Files int         `help:"Files in a round." default:"32" placeholder:"N"`
	Size  config.Size `help:"Bytes of each." default:"32MiB" placeholder:"SIZE"`
}

// Run returns when the report is written.
func (c BenchMediaCmd) Run(ctx context.Context, std Std) error {
	return c.run(ctx, std, "media", func(o *bench.Options) { o.Sessions, o.FileSize = c.Files, int64(c.Size) })
}

// BenchRelayCmd runs the scenario relay.
type BenchRelayCmd struct {
	benchFlags
	Allocations int           `help:"Allocations when memory is read, 8000 at most; a quarter of them carry packets in the load with many clients." default:"4000" placeholder:"N"`
	Time        time.Duration `help:"How long each load is measured in each round." default:"2s"`
	Rounds      int           `help:"How often each load comes, on each server in turn." default:"5" placeholder:"N"`
}

// Run returns when the report is written.
func (c BenchRelayCmd) Run(ctx context.Context, std Std) error {
	return c.run(ctx, std, "relay", func(o *bench.Options) { o.Sessions, o.Hold, o.Rounds = c.Allocations, c.Time, c.Rounds })
}

// BenchClusterCmd runs the scenario cluster.
type BenchClusterCmd struct {
	benchFlags
	Pairs  int           `help:"Pairs of sender and recipient." default:"500" placeholder:"N"`
	Rate   float64       `help:"Messages a second of the moderate load." default:"1000" placeholder:"N"`
	Time   time.Duration `help:"How long each load is measured." default:"12s"`
	Shards int           `help:"Number of shards." default:"16" placeholder:"N"`
	Events int           `help:"How many processes are ended in order, and how many killed." default:"50" placeholder:"N"`
	Stored int           `help:"How many messages wait when a process is killed to be started again." default:"1000000" placeholder:"N"`
}

// Run returns when the report is written.
func (c BenchClusterCmd) Run(ctx context.Context, std Std) error {
	return c.run(ctx, std, "cluster", func(o *bench.Options) {
		o.Sessions, o.Rate, o.Hold, o.Shards, o.Events, o.Messages = c.Pairs, c.Rate, c.Time, c.Shards, c.Events, c.Stored
	})
}

// AllCmd runs every scenario.
type AllCmd struct{ benchFlags }

// Run returns when the reports are written.
func (c AllCmd) Run(ctx context.Context, std Std) error {
	return c.run(ctx, std, "all", func(*bench.Options) {})
}

// CompareCmd compares two reports.
type CompareCmd struct {
	A string `arg:"" help:"report.json, or the folder with it." type:"path"`
	B string `arg:"" help:"What is held against it." type:"path"`
}

// Run prints the table.
func (c CompareCmd) Run(std Std) error {
	a, err := report.Read(c.A)
	if err != nil {
		return err
	}
	b, err := report.Read(c.B)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(std.Out, report.Compare(a, b).Text())
	return err
}
