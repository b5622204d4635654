package main

import (
	"context"

	"linecard.example/internal/node"
)

// MediaCmd is about what a mediad keeps.
type MediaCmd struct {
	Fsck MediaFsckCmd `cmd:"" help:"Check the media of a process that is stopped, and repair them if that is asked for."`
}

// MediaFsckCmd checks media at rest.
type MediaFsckCmd struct {
	Data   string `help:"Data directory of the process." type:"path" required:"" placeholder:"DIR"`
	Config string `help:"The process's configuration file, if its media are in a bucket." type:"path" placeholder:"FILE"`
	Repair bool   `help:"Remove references to what is missing or damaged, and set aside what is damaged or strange."`
}

// Run prints what was found.
func (c MediaFsckCmd) Run(ctx context.Context, std Std) error {
	return node.FsckMedia(ctx, std.Out, c.Data, c.Config, c.Repair)
}
