package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"

	"linecard.example/internal/node"
)

// UpCmd runs gateway, router, offline, mediad and turnd in one process.
type UpCmd struct {
	Data   string `help:"Directory for everything durable; made at first start (default ./data)." type:"path" placeholder:"DIR"`
	Listen string `help:"Where clients connect (default 127.0.0.1:7400)." placeholder:"HOST:PORT"`
	Admin  string `help:"The operator's HTTP listener (default 127.0.0.1:7401)." placeholder:"HOST:PORT"`
	Media  string `help:"Where media are uploaded and downloaded over HTTP (default 127.0.0.1:7402); off: no media." placeholder:"HOST:PORT"`
	Relay  string `help:"Where calls are relayed, over UDP and TCP (default 127.0.0.1:7478); off: no relay." placeholder:"HOST:PORT"`
	Config string `help:"Configuration file; flags win." type:"path" placeholder:"FILE"`
}

// Validate is called by the parser.
func (c UpCmd) Validate() error {
	for flag, value := range map[string]string{"--listen": c.Listen, "--admin": c.Admin, "--media": c.Media, "--relay": c.Relay} {
		if flag == "--media" && value == node.MediaOff || flag == "--relay" && value == node.RelayOff {
			continue
		}
		if _, port, err := net.SplitHostPort(value); value != "" && (err != nil || port == "") {
			return fmt.Errorf("%s %q: want HOST:PORT", flag, value)
		}
	}
	return nil
}

// Run starts the system, prints how to use it and returns when ctx ends and all is flushed.
func (c UpCmd) Run(ctx context.Context, std Std) error {
	roles := node.Up()
	cfg, err := node.ReadConfig(c.Config, c.override, roles...)
	if err != nil {
		return err
	}
	if err := node.EnsureKeys(cfg); err != nil {
		return err
	}
	n, err := node.New(cfg, roles, cfg.Logger(std.Err))
	if err != nil {
		return err
	}
	return n.Run(ctx, func() { greet(std, n, cfg.Data) })
}

// override puts the flags over the file.
func (c UpCmd) override(cfg *node.Config) {
	for _, flag := range []struct {
		value string
		to    *string
	}{
		{c.Data, &cfg.Data}, {c.Listen, &cfg.Gateway.Listen}, {c.Admin, &cfg.Admin.Listen}, {c.Media, &cfg.Media.Listen},
	} {
		if flag.value != "" {
			*flag.to = flag.value
		}
	}
	if c.Relay != "" {
		cfg.SetRelay(c.Relay)
	}
}

// greet says where the system listens and what to type next.
func greet(std Std, n *node.Node, data string) {
	root := filepath.Join(data, "root.pub")
	server := n.GatewayAddr().String()
	media := ""
	if url := n.MediaURL(); url != "" {
		media = "  media     " + url + "\n"
	}
	if urls := n.RelayText(); urls != "" {
		media += "  calls     " + urls + "\n"
	}
	fmt.Fprintf(std.Out, `linecard is up.
  clients   %s
%s  admin     http://%s/metrics  /healthz  /readyz  /debug/pprof/
  data      %s
  root      %s
            %s

Try it, in two more terminals (bin/linecard is this binary):
  bin/linecard chat --home ./home-ann --server %s --as ann --to bob --root %s
  bin/linecard chat --home ./home-bob --server %s --as bob --to ann --root %s

Ctrl-C stops it in order.
`, server, media, n.AdminAddr(), data, n.RootFingerprint(), root, server, root, server, root)
}
