package main

import (
	"fmt"
	"path/filepath"
	"time"

	"linecard.example/internal/node"
)

// KeysCmd makes keys.
type KeysCmd struct {
	Init  KeysInitCmd  `cmd:"" help:"Make root.key, root.pub, ca.key and ca.pem of a new cluster."`
	Issue KeysIssueCmd `cmd:"" help:"Make a daemon's keys: NAME.key, NAME.pem for links, NAME.static, NAME.cert for a gateway."`
}

// KeysInitCmd makes the cluster's keys.
type KeysInitCmd struct {
	Dir     string `help:"Directory for the keys." default:"./keys" type:"path"`
	Cluster string `help:"Name of the cluster." default:"local"`
}

// Run makes the keys, or changes nothing.
func (c KeysInitCmd) Run(std Std) error {
	if err := node.InitKeys(c.Dir, c.Cluster, time.Now()); err != nil {
		return err
	}
	_, err := fmt.Fprintf(std.Out, "made %s; clients need %s\n", c.Dir, filepath.Join(c.Dir, "root.pub"))
	return err
}

// KeysIssueCmd makes a daemon's keys.
type KeysIssueCmd struct {
	Name string `arg:"" help:"Name of the daemon, such as gateway or router-2."`
	Dir  string `help:"Directory with the cluster's keys; the daemon's are written there too." default:"./keys" type:"path"`
}

// Run makes the keys.
func (c KeysIssueCmd) Run(std Std) error {
	if err := node.IssueKeys(c.Dir, c.Name, time.Now()); err != nil {
		return err
	}
	_, err := fmt.Fprintf(std.Out, "made %s.key, .pem, .static and .cert in %s\n", c.Name, c.Dir)
	return err
}
