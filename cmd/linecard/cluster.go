package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"linecard.example/internal/node"
)

// ClusterCmd runs several machines as one system.
type ClusterCmd struct {
	Init   ClusterInitCmd   `cmd:"" help:"Make a router's data directory the first of a new cluster."`
	Join   ClusterJoinCmd   `cmd:"" help:"Make a router's or offline's data directory that of a new member."`
	Leave  ClusterLeaveCmd  `cmd:"" help:"Have a member leave, dead or alive: its replicas go to others."`
	Status ClusterStatusCmd `cmd:"" help:"Show the members, who is up, who leads, and what is missing."`
	Try    ClusterTryCmd    `cmd:"" help:"Run three machines on this one, to see what happens when one dies."`
}

// clusterLimit bounds how long a command waits for routers.
const clusterLimit = 30 * time.Second

// silent is the log of commands: what goes wrong is in their error.
var silent = slog.New(slog.DiscardHandler)

// ClusterInitCmd founds a cluster.
type ClusterInitCmd struct {
	Config string `help:"Configuration of the first router." type:"path" required:"" placeholder:"FILE"`
	Voters int    `help:"Replicas of each group: 1, 3 or 5." default:"3"`
}

// Run changes nothing but the data directory.
func (c ClusterInitCmd) Run(std Std) error {
	cfg, err := node.ReadConfig(c.Config, requireRaft, node.Router)
	if err != nil {
		return err
	}
	r, err := node.InitCluster(cfg, c.Voters)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.Out, "%s is the first router of cluster %s; start it: linecard router --config %s\n", r.Members[0].Name, cfg.Cluster, c.Config)
	return err
}

// requireRaft has a configuration checked as that of a member.
func requireRaft(c *node.Config) { c.Member = true }

// ClusterJoinCmd makes a member.
type ClusterJoinCmd struct {
	Config string `help:"Configuration of the new member." type:"path" required:"" placeholder:"FILE"`
	Role   string `help:"What it runs: router or offline." enum:"router,offline" required:""`
}

// Run returns when the routers know the member.
func (c ClusterJoinCmd) Run(ctx context.Context, std Std) error {
	role := node.Role(c.Role)
	cfg, err := node.ReadConfig(c.Config, requireRaft, role)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, clusterLimit)
	defer cancel()
	r, err := node.JoinCluster(ctx, cfg, role, silent)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.Out, "joined, %d members; start it: linecard %s --config %s\n", len(r.Members), c.Role, c.Config)
	return err
}

// clusterFlags say where a cluster's routers are.
type clusterFlags struct {
	Config string `help:"Configuration of any daemon of the cluster on this machine." type:"path" required:"" placeholder:"FILE"`
}

// ClusterLeaveCmd takes a member out.
type ClusterLeaveCmd struct {
	clusterFlags
	Name string `arg:"" help:"Name of the member, as cluster status shows it."`
}

// Run returns when the member is leaving.
func (c ClusterLeaveCmd) Run(ctx context.Context, std Std) error {
	cfg, err := node.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, clusterLimit)
	defer cancel()
	if err := node.LeaveCluster(ctx, cfg, c.Name, silent); err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.Out, "%s is leaving; it can be stopped when linecard cluster status shows that it holds nothing\n", c.Name)
	return err
}

// ClusterStatusCmd shows the cluster.
type ClusterStatusCmd struct {
	clusterFlags
	Wait time.Duration `help:"Wait so long at most until each group has all its replicas, near its leader, and nobody has anything to give away; exit 1 if it does not come to that."`
}

// Run prints a table, and below it what is wrong.
func (c ClusterStatusCmd) Run(ctx context.Context, std Std) error {
	cfg, err := node.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	look, limit := node.StatusOfCluster, clusterLimit
	if c.Wait > 0 {
		look, limit = node.WaitForCluster, c.Wait
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	status, err := look(ctx, cfg, silent)
	if status == nil {
		return err
	}
	return errors.Join(status.Write(std.Out), err)
}
