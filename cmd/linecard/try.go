package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"linecard.example/internal/node"
)

// ClusterTryCmd runs a cluster of three machines on one.
type ClusterTryCmd struct {
	Dir  string `help:"Directory for keys, configurations and data; made at first start." type:"path" default:"./cluster" placeholder:"DIR"`
	Port int    `help:"First of 20 consecutive ports on 127.0.0.1, where clients connect (default 17400 or above it, whatever is free at the first start)." placeholder:"PORT"`
}

// Run founds the cluster, or goes on with it, says how to use it, and returns when ctx ends and all processes have ended.
func (c ClusterTryCmd) Run(ctx context.Context, std Std) error {
	t, err := node.OpenTrial(c.Dir, c.Port, time.Now())
	if err != nil {
		return err
	}
	return t.Run(ctx, std.Out, func(pids map[string]int) { greetTrial(std, t, pids) })
}

// greetTrial says what runs and what to type next.
func greetTrial(std Std, t *node.Trial, pids map[string]int) {
	var b strings.Builder
	fmt.Fprintf(&b, `linecard is up: three machines, of which any one may die, each with a router and an offline, and a gateway.
  clients   %s
  data      %s
  root      %s

Try it, in two more terminals (bin/linecard is this binary):
`, t.Listen(), t.Dir, t.Root())
	for _, pair := range [][2]string{{"ann", "bob"}, {"bob", "ann"}} {
		fmt.Fprintf(&b, "  bin/linecard chat --home %s --server %s --as %s --to %s --root %s\n",
			filepath.Join(t.Dir, "home-"+pair[0]), t.Listen(), pair[0], pair[1], t.Root())
	}
	b.WriteString("\nKill a machine and chat on; it comes back after some seconds:\n")
	for i := 0; i+1 < len(t.Members); i += 2 {
		fmt.Fprintf(&b, "  kill -9 %d %d   # %s, %s\n", pids[t.Members[i]], pids[t.Members[i+1]], t.Members[i], t.Members[i+1])
	}
	fmt.Fprintf(&b, "\nSee who is up, who leads, and what is missing:\n  bin/linecard cluster status --config %s\n\nCtrl-C stops it in order.\n", t.Config("gateway"))
	fmt.Fprint(std.Out, b.String())
}
