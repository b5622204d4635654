package main

import (
	"fmt"

	"linecard.example/internal/node"
)

// CheckCmd checks a configuration without running it.
type CheckCmd struct {
	Config string `help:"Configuration file." type:"path" required:"" placeholder:"FILE"`
	Role   string `help:"What would run with it: up, gateway, router, offline, border, mediad or turnd." enum:"up,gateway,router,offline,border,mediad,turnd" default:"up"`
}

// Run prints "ok", or every fault, one a line on standard error.
func (c CheckCmd) Run(std Std) error {
	roles := []node.Role{node.Role(c.Role)}
	if c.Role == "up" {
		roles = node.Up()
	}
	if _, err := node.ReadConfig(c.Config, nil, roles...); err != nil {
		fmt.Fprintln(std.Err, err)
		return exitError{code: 1}
	}
	_, err := fmt.Fprintf(std.Out, "%s: ok for %s\n", c.Config, c.Role)
	return err
}
