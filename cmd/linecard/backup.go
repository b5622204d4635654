package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"linecard.example/internal/node"
)

// BackupCmd copies the data of a running process.
type BackupCmd struct {
	Admin string `help:"Admin listener of the process, HOST:PORT." default:"127.0.0.1:7401"`
	Out   string `help:"Directory for the copy: new, or empty." type:"path" placeholder:"DIR"`
	Abort bool   `help:"End a backup that was broken off, so that the process lets go of its data; copies nothing."`
}

// Validate is called by the parser.
func (c BackupCmd) Validate() error {
	if c.Abort == (c.Out != "") {
		return errors.New("want --out DIR, or --abort")
	}
	return nil
}

// backupWait is how long a process may take to make its checkpoint: a scrub that is under way ends first.
const backupWait = 2 * time.Minute

// Run prints what is in the copy.
func (c BackupCmd) Run(ctx context.Context, std Std) error {
	ask := func(ctx context.Context, path string, answer any) error {
		return askAdmin(ctx, c.Admin, path, backupWait, answer)
	}
	if c.Abort {
		return ask(ctx, "/backup/done", &struct{}{})
	}
	if err := node.Backup(ctx, std.Out, ask, c.Out, time.Now()); err != nil {
		return err
	}
	_, err := fmt.Fprintf(std.Out, "%s is a backup, and was checked\n", c.Out)
	return err
}

// RestoreCmd makes a data directory of a backup.
type RestoreCmd struct {
	From string `help:"The backup." type:"path" required:"" placeholder:"DIR"`
	Data string `help:"The data directory: new, or empty." type:"path" required:"" placeholder:"DIR"`
}

// Run prints what was restored and what to do next.
func (c RestoreCmd) Run(std Std) error {
	m, err := node.Restore(std.Out, c.From, c.Data, time.Now())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.Out, "%s is a new node, alone in cluster %q with %d shards, as of %s; start it without --bootstrap\n",
		c.Data, m.Cluster, m.Shards, m.Made.Format(time.RFC3339))
	return err
}

// FsckCmd checks data at rest.
type FsckCmd struct {
	Data    string `help:"Data directory of a process that is stopped, or a backup." type:"path" required:"" placeholder:"DIR"`
	Compare string `help:"Another replica's directory, or a file with what fsck printed about it: the groups of both must have the same state." type:"path" placeholder:"PATH"`
}

// Run prints what was found.
func (c FsckCmd) Run(std Std) error { return node.Fsck(std.Out, c.Data, c.Compare) }
