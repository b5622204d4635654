package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"linecard.example/internal/node"
)

// daemonFlags are what the daemons of separate processes have in common.
type daemonFlags struct {
	Config     string `help:"Configuration file." type:"path" required:"" placeholder:"FILE"`
	WithParent bool   `hidden:"" help:"End, in order, when standard input does; linecard cluster try sets it."`
}

func (f daemonFlags) run(ctx context.Context, std Std, role node.Role, bootstrap bool) error {
	return f.runWith(ctx, std, role, func(c *node.Config) { c.Bootstrap = bootstrap })
}

func (f daemonFlags) runWith(ctx context.Context, std Std, role node.Role, change func(*node.Config)) error {
	cfg, err := node.ReadConfig(f.Config, change, role)
	if err != nil {
		return err
	}
	n, err := node.New(cfg, []node.Role{role}, cfg.Logger(std.Err))
	if err != nil {
		return err
	}
	if f.WithParent {
		ctx = node.UntilEOF(ctx, std.In)
	}
	return n.Run(ctx, func() {
		if f.WithParent {
			return // whoever started it looks after it
		}
		switch role {
		case node.Gateway:
			fmt.Fprintf(std.Out, "linecard gateway: clients %s, admin http://%s\n", n.GatewayAddr(), n.AdminAddr())
		case node.Media:
			fmt.Fprintf(std.Out, "linecard mediad: media %s, admin http://%s\n", n.MediaURL(), n.AdminAddr())
		case node.Relay:
			fmt.Fprintf(std.Out, "linecard turnd: clients %s, admin http://%s\n", n.RelayText(), n.AdminAddr())
		case node.Border:
			fmt.Fprintf(std.Out, "linecard border: region %d, other regions %v, admin http://%s\n", cfg.Region.Number, n.RegionAddr(), n.AdminAddr())
		default:
			fmt.Fprintf(std.Out, "linecard %s: links %s, admin http://%s\n", role, n.LinkAddr(), n.AdminAddr())
		}
	})
}

// GatewayCmd runs a gateway alone, or the supervisor of its workers, or one of those.
type GatewayCmd struct {
	daemonFlags
	Upgrade bool `help:"Take the sessions of the gateway that runs with this configuration, which then ends. With workers: have its supervisor replace them."`
	Worker  int  `hidden:"" help:"Slot of a worker; supervisors set it."`
}

// Run returns when ctx ends and all is flushed.
func (c GatewayCmd) Run(ctx context.Context, std Std) error {
	if c.Worker > 0 {
		signal.Ignore(syscall.SIGHUP) // the supervisor's to act on, should somebody send it to every linecard
		return node.RunWorker(ctx, std.Err)
	}
	cfg, err := node.ReadConfig(c.Config, nil, node.Gateway)
	if err != nil {
		return err
	}
	if cfg.Gateway.WorkerCount() < 2 {
		return c.runWith(ctx, std, node.Gateway, func(cfg *node.Config) { cfg.Upgrade = c.Upgrade })
	}
	if c.Upgrade {
		return node.UpgradeSupervised(ctx, cfg)
	}
	s, err := node.NewSupervised(c.Config, std.Err)
	if err != nil {
		return err
	}
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	return s.Run(ctx, reload, func() {
		fmt.Fprintf(std.Out, "linecard gateway: clients %s, admin http://%s, %d workers\n", s.Addr(), s.AdminAddr(), cfg.Gateway.WorkerCount())
	})
}

// shardFlags are the flags of a daemon with shards.
type shardFlags struct {
	daemonFlags
	Bootstrap bool `help:"Start a fresh data directory as the only replica of its shards. Ignored when it was in use."`
}

// BorderCmd runs the border of a region alone.
type BorderCmd struct{ daemonFlags }

// Run returns when ctx ends.
func (c BorderCmd) Run(ctx context.Context, std Std) error {
	return c.run(ctx, std, node.Border, false)
}

// MediadCmd runs a mediad alone.
type MediadCmd struct{ daemonFlags }

// Run returns when ctx ends; uploads that go on are cut then, to be resumed.
func (c MediadCmd) Run(ctx context.Context, std Std) error {
	return c.run(ctx, std, node.Media, false)
}

// TurndCmd runs a turnd alone.
type TurndCmd struct{ daemonFlags }

// Run returns when ctx ends and the allocations have, or relay.drain is over.
func (c TurndCmd) Run(ctx context.Context, std Std) error {
	return c.run(ctx, std, node.Relay, false)
}

// RouterCmd runs a router alone.
type RouterCmd struct{ shardFlags }

// Run returns when ctx ends and all is flushed.
func (c RouterCmd) Run(ctx context.Context, std Std) error {
	return c.run(ctx, std, node.Router, c.Bootstrap)
}

// OfflineCmd runs an offline queue daemon alone.
type OfflineCmd struct{ shardFlags }

// Run returns when ctx ends and all is flushed.
func (c OfflineCmd) Run(ctx context.Context, std Std) error {
	return c.run(ctx, std, node.Offline, c.Bootstrap)
}
