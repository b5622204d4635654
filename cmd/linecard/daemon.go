package main

import (
	"context"
	"fmt"

	"linecard.example/internal/node"
)

// daemonFlags are what the daemons of separate processes have in common.
type daemonFlags struct {
	Config string `help:"Configuration file." type:"path" required:"" placeholder:"FILE"`
}

func (f daemonFlags) run(ctx context.Context, std Std, role node.Role, bootstrap bool) error {
	cfg, err := node.ReadConfig(f.Config, func(c *node.Config) { c.Bootstrap = bootstrap }, role)
	if err != nil {
		return err
	}
	n, err := node.New(cfg, []node.Role{role}, cfg.Logger(std.Err))
	if err != nil {
		return err
	}
	return n.Run(ctx, func() {
		switch role {
		case node.Gateway:
			fmt.Fprintf(std.Out, "linecard gateway: clients %s, admin http://%s\n", n.GatewayAddr(), n.AdminAddr())
		default:
			fmt.Fprintf(std.Out, "linecard %s: links %s, admin http://%s\n", role, n.LinkAddr(), n.AdminAddr())
		}
	})
}

// GatewayCmd runs a gateway alone.
type GatewayCmd struct{ daemonFlags }

// Run returns when ctx ends and all is flushed.
func (c GatewayCmd) Run(ctx context.Context, std Std) error {
	return c.run(ctx, std, node.Gateway, false)
}

// shardFlags are the flags of a daemon with shards.
type shardFlags struct {
	daemonFlags
	Bootstrap bool `help:"Start a fresh data directory as the only replica of its shards. Ignored when it was in use."`
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
