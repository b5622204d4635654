package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"runtime"

	"linecard.example/internal/config"
	tuning "linecard.example/kernel-tuning"
)

// TuneCmd checks and sets what the operating system allows.
type TuneCmd struct {
	Check TuneCheckCmd `cmd:"" help:"Compare this system with what a number of sessions or allocations needs; exit 1 if something is missing, 2 if it cannot be told."`
	Apply TuneApplyCmd `cmd:"" help:"Set what can be set while the system runs, and keep what was."`
	Print TunePrintCmd `cmd:"" help:"Write files that make the settings last: sysctl.d, limits, units, scripts."`
	Undo  TuneUndoCmd  `cmd:"" help:"Set back what apply has set."`
}

// tuneTarget is what the machine shall carry.
type tuneTarget struct {
	Sessions    int    `help:"How many sessions this machine shall hold." placeholder:"N"`
	Allocations int    `help:"How many allocations of calls a turnd on it shall hold." placeholder:"N"`
	Workers     int    `help:"Gateway processes that share them (default: as few as the limit of open files allows and one, at least 2)." placeholder:"N"`
	Pair        bool   `help:"The clients run on this machine, too."`
	OS          string `help:"linux or freebsd (default: this system)." name:"os" placeholder:"NAME"`
	Root        string `help:"Look at a copy of a system's files below this directory instead of the live system." type:"path" placeholder:"DIR"`
}

func (t tuneTarget) target() tuning.Target {
	return tuning.Target{OS: t.OS, Sessions: t.Sessions, Allocations: t.Allocations, Workers: t.Workers, Pair: t.Pair, Root: t.Root}
}

func (t tuneTarget) system() string { return cmp.Or(t.OS, runtime.GOOS) }

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

// stateFlag names where what was is kept.
type stateFlag struct {
	State string `help:"Where the values that were are kept until undo or a boot (default /run/linecard-tune.json, on freebsd /var/run/linecard-tune.json)." type:"path" placeholder:"FILE"`
}

func (f stateFlag) path(system string) string {
	if f.State != "" {
		return f.State
	}
	return tuning.StateFile(system)
}

// TuneApplyCmd sets what can be set while the system runs.
type TuneApplyCmd struct {
	tuneTarget
	stateFlag
	DryRun bool `help:"Only print what would be set."`
}

// Run prints each change, and what could not be changed.
func (c TuneApplyCmd) Run(std Std) error {
	done, err := tuning.Apply(c.target(), c.path(c.system()), c.DryRun)
	if e := printChanges(std, done); e != nil {
		return e
	}
	if err == nil && !c.DryRun && len(done) > 0 {
		_, err = fmt.Fprintf(std.Out, "%d settings made until the next boot; linecard tune undo sets them back, tune print writes files that last\n", len(done))
	}
	return err
}

// TuneUndoCmd sets back what apply has set.
type TuneUndoCmd struct {
	stateFlag
	OS   string `help:"linux or freebsd (default: this system)." name:"os" placeholder:"NAME"`
	Root string `help:"The root directory that apply was given." type:"path" placeholder:"DIR"`
}

// Run prints each change, and what could not be set back.
func (c TuneUndoCmd) Run(std Std) error {
	system := tuneTarget{OS: c.OS}.system()
	done, err := tuning.Undo(c.Root, system, c.path(system))
	if e := printChanges(std, done); e != nil {
		return e
	}
	if err == nil && len(done) == 0 {
		_, err = fmt.Fprintln(std.Out, "nothing to set back")
	}
	return err
}

func printChanges(std Std, list []tuning.Change) error {
	for _, c := range list {
		note := ""
		if c.Err != nil {
			note = "  NOT DONE: " + oneLine(c.Err)
		}
		if _, err := fmt.Fprintf(std.Out, "%s: %s -> %s%s\n", c.Knob, c.Before, c.After, note); err != nil {
			return err
		}
	}
	return nil
}

// TunePrintCmd writes the files that make settings last.
type TunePrintCmd struct {
	tuneTarget
	Out    string      `help:"Directory for the files; they have the names below it that they have on the system." required:"" type:"path" placeholder:"DIR"`
	Memory config.Size `help:"Memory of another machine that the files are for, such as 64GiB; with --cores nothing is looked at here." placeholder:"SIZE"`
	Cores  int         `help:"Its cores." placeholder:"N"`
}

// Run prints the names of the files.
func (c TunePrintCmd) Run(std Std) error {
	target := c.target()
	target.Memory, target.Cores = int64(c.Memory), c.Cores
	names, err := tuning.Print(target, c.Out)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := fmt.Fprintln(std.Out, filepath.Join(c.Out, name)); err != nil {
			return err
		}
	}
	return nil
}
