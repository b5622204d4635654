package main

import (
	tuning "linecard.example/kernel-tuning"
)

// TuneCmd checks and sets what the operating system allows.
type TuneCmd struct {
	Check TuneCheckCmd `cmd:"" help:"Compare this system with what a number of sessions needs; exit 1 if something is missing, 2 if it cannot be told."`
}

// tuneTarget is what the machine shall carry.
type tuneTarget struct {
	Sessions int    `help:"How many sessions this machine shall hold." required:"" placeholder:"N"`
	Workers  int    `help:"Gateway processes that share them (default: as few as the limit of open files allows)." placeholder:"N"`
	Pair     bool   `help:"The clients run on this machine, too."`
	OS       string `help:"linux or freebsd (default: this system)." name:"os" placeholder:"NAME"`
	Root     string `help:"Look at a copy of a system's files below this directory instead of the live system." type:"path" placeholder:"DIR"`
}

func (t tuneTarget) target() tuning.Target {
	return tuning.Target{OS: t.OS, Sessions: t.Sessions, Workers: t.Workers, Pair: t.Pair, Root: t.Root}
}

// TuneCheckCmd compares.
type TuneCheckCmd struct{ tuneTarget }

// Run prints a table, the worst first.
func (c TuneCheckCmd) Run(std Std) error {
	found, err := tuning.Check(c.target())
	if err != nil {
		return exitError{code: exitUsage, err: err}
	}
	if err := tuning.WriteTable(std.Out, found); err != nil {
		return err
	}
	for _, f := range found {
		if f.Failed() {
			return exitError{code: exitFailed}
		}
	}
	return nil
}
