package main

import (
	"context"
	"fmt"
	"net"

	"linecard.example/bench/swarm"
)

// benchClients are the subcommands of bench that run its client engines.
type benchClients struct {
	Swarm BenchSwarmCmd `cmd:"" hidden:"" help:"Run one engine of bench clients by orders on standard input."`
	Agent BenchAgentCmd `cmd:"" help:"Lend this machine's clients to a bench that runs on another one."`
}

// BenchSwarmCmd runs one engine; a fleet starts it as its child.
type BenchSwarmCmd struct{}

// Run returns when standard input or ctx ends.
func (BenchSwarmCmd) Run(ctx context.Context, std Std) error {
	return swarm.Serve(ctx, std.In, std.Out)
}

// BenchAgentCmd serves engines over TCP.
type BenchAgentCmd struct {
	Listen string `help:"Where controllers connect; in the clear, so in a network of its own." default:"127.0.0.1:7409" placeholder:"HOST:PORT"`
	Token  string `help:"What controllers must say; 16 bytes or more unless on the loopback interface." env:"LINECARD_BENCH_TOKEN" placeholder:"TOKEN"`
}

// Run returns when ctx ends.
func (c BenchAgentCmd) Run(ctx context.Context, std Std) error {
	ln, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(std.Out, "linecard bench agent: %s\n", ln.Addr()); err != nil {
		return err
	}
	return swarm.Agent(ctx, ln, c.Token, nil, std.Err)
}
