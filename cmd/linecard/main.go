// Command linecard is a messaging gateway with the daemons behind it, one subcommand each, and the tools around them.
//
// Each subcommand's file turns flags into a configuration and calls one package. What a subcommand prints for scripts goes to
// standard output; errors are one line on standard error. The exit code is 0, 1 for a failure, 2 for wrong usage.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"linecard.example/internal/metrics"
)

type commands struct {
	Up      UpCmd      `cmd:"" help:"Run the whole system on this machine, with nothing to configure."`
	Gateway GatewayCmd `cmd:"" help:"Run a gateway."`
	Router  RouterCmd  `cmd:"" help:"Run a router."`
	Offline OfflineCmd `cmd:"" help:"Run an offline queue daemon."`
	Border  BorderCmd  `cmd:"" help:"Run a border, which links this region to others."`
	Mediad  MediadCmd  `cmd:"" help:"Run a mediad, which keeps media: encrypted blobs, over HTTP."`
	Turnd   TurndCmd   `cmd:"" help:"Run a turnd, which relays the packets of calls (TURN)."`
	Check   CheckCmd   `cmd:"" help:"Check a configuration file and say everything that is wrong with it."`
	Cluster ClusterCmd `cmd:"" help:"Run several machines as one system: members, replicas, who leads."`
	Keys    KeysCmd    `cmd:"" help:"Make the keys of a cluster and of its daemons."`
	Admin   AdminCmd   `cmd:"" help:"Ask a running process to do something."`
	Backup  BackupCmd  `cmd:"" help:"Copy the data of a running process, and check the copy."`
	Restore RestoreCmd `cmd:"" help:"Make a data directory of a backup."`
	Fsck    FsckCmd    `cmd:"" help:"Check the data of a process that is stopped, or a backup."`
	Media   MediaCmd   `cmd:"" help:"Check what a mediad keeps."`
	Tune    TuneCmd    `cmd:"" help:"Check, print and set what the kernel must allow for many sessions."`
	Chat    ChatCmd    `cmd:"" help:"Chat in this terminal."`
	Send    SendCmd    `cmd:"" help:"Send messages and wait until they are stored."`
	Recv    RecvCmd    `cmd:"" help:"Receive messages."`
	Relay   RelayCmd   `cmd:"" help:"Ask for credentials for relays, and print them as WebRTC takes them."`
	Bench   BenchCmd   `cmd:"" help:"Measure linecard on this machine, or on others."`
	Version VersionCmd `cmd:"" help:"Print the version."`
}

// VersionCmd prints what was built.
type VersionCmd struct{}

// Run prints one line.
func (VersionCmd) Run(std Std) error {
	version, revision := metrics.Build()
	_, err := fmt.Fprintf(std.Out, "linecard %s %s\n", version, revision)
	return err
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first signal ends in order; a second one ends the process as it is
	code := run(ctx, os.Args[1:], Std{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}

// run parses the arguments, runs the subcommand and returns the exit code.
func run(ctx context.Context, args []string, std Std) int {
	var cmds commands
	done := -1 // the code of a finished help text
	parser, err := kong.New(&cmds, kong.Name("linecard"), kong.Description("A messaging gateway for very many encrypted sessions."),
		kong.Writers(std.Out, std.Err), kong.Exit(func(code int) { done = code }),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(std))
	if err != nil {
		fmt.Fprintln(std.Err, "linecard:", err)
		return exitUsage
	}
	if len(args) == 0 {
		fmt.Fprintln(std.Err, "linecard: no command; linecard --help lists them")
		return exitUsage
	}
	parsed, err := parser.Parse(longConfig(args))
	if done >= 0 {
		return done
	}
	if err != nil {
		fmt.Fprintln(std.Err, "linecard:", oneLine(err))
		return exitUsage
	}
	err = parsed.Run()
	if err == nil {
		return 0
	}
	var exit exitError
	if errors.As(err, &exit) {
		if exit.err != nil {
			fmt.Fprintln(std.Err, "linecard:", oneLine(exit.err))
		}
		return exit.code
	}
	fmt.Fprintln(std.Err, "linecard:", oneLine(err))
	return exitFailed
}

// longConfig lets -config FILE stand for --config FILE, in the commands that have that flag: many daemons spell it so.
func longConfig(args []string) []string {
	if !slices.Contains([]string{"up", "gateway", "router", "offline", "border", "mediad", "turnd", "check"}, args[0]) {
		return args
	}
	args = slices.Clone(args)
	for i, a := range args {
		if a == "-config" || strings.HasPrefix(a, "-config=") {
			args[i] = "-" + a
		}
	}
	return args
}

// oneLine joins an error's lines, since scripts read one line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
