// Package cluster spreads a cluster over processes of one machine: their keys, their configurations, and the order in which a cluster is
// founded. The bench and the tests start what it plans; it starts nothing itself but the commands that operators type.
//
// A layout is used by one goroutine.
package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Process is one process of a cluster.
type Process struct {
	Name   string // of its certificate, its configuration and its data directory: gateway, router-1, offline-1, ...
	Role   string // the subcommand: gateway, router or offline
	Config string // path of its configuration
	Data   string // its data directory

	// Addresses, HOST:PORT. A gateway has Admin only.
	Admin, Link, Raft string
}

// Args are the arguments that start the process.
func (p Process) Args() []string { return []string{p.Role, "--config", p.Config} }

// Layout is a gateway and as many routers as offlines, in which each group has as many replicas as there are, 1, 3 or 5. Members are in
// the order in which they join; the first of each role founds its groups.
type Layout struct {
	Keys    string // directory of all keys
	Root    string // path of the root's public key
	Server  string // where clients connect
	Gateway Process
	Members []Process

	dir  string
	free func() (string, error)
	run  func(args ...string) error
}

// Plan names the processes and gives them addresses of free, which never gives one twice. Everything will be below dir. run is how linecard
// is run to its end with arguments.
func Plan(dir, server string, machines int, free func() (string, error), run func(args ...string) error) (*Layout, error) {
	keys := filepath.Join(dir, "keys")
	l := &Layout{Keys: keys, Root: filepath.Join(keys, "root.pub"), Server: server, dir: dir, free: free, run: run}
	var err error
	if l.Gateway, err = l.plan("gateway", "gateway"); err != nil {
		return nil, err
	}
	for n := range machines {
		for _, role := range []string{"router", "offline"} {
			if _, err := l.Add(fmt.Sprintf("%s-%d", role, n+1), role); err != nil {
				return nil, err
			}
		}
	}
	return l, nil
}

// Add plans one more member. Those that were prepared before it do not know its address.
func (l *Layout) Add(name, role string) (Process, error) {
	p, err := l.plan(name, role)
	if err == nil {
		l.Members = append(l.Members, p)
	}
	return p, err
}

func (l *Layout) plan(name, role string) (p Process, err error) {
	p = Process{Name: name, Role: role, Config: filepath.Join(l.dir, name+".toml"), Data: filepath.Join(l.dir, name+"-data")}
	addrs := []*string{&p.Admin, &p.Link, &p.Raft}
	if role == "gateway" {
		addrs = addrs[:1]
	}
	for _, a := range addrs {
		if *a, err = l.free(); err != nil {
			return p, fmt.Errorf("cluster: %w", err)
		}
	}
	return p, nil
}

// All returns every process, the gateway last: in the order of their start.
func (l *Layout) All() []Process { return append(slices.Clone(l.Members), l.Gateway) }

// Prepare makes all keys and configurations. lines are further lines by section; "" is what stands before all sections.
func (l *Layout) Prepare(lines map[string]string) error {
	if err := l.run("keys", "init", "--dir", l.Keys, "--cluster", "local"); err != nil {
		return err
	}
	for _, p := range l.All() {
		if err := l.PrepareOne(p, lines); err != nil {
			return err
		}
	}
	return nil
}

// PrepareOne makes the keys and the configuration of one process.
func (l *Layout) PrepareOne(p Process, lines map[string]string) error {
	if err := l.run("keys", "issue", p.Name, "--dir", l.Keys); err != nil {
		return err
	}
	if err := os.WriteFile(p.Config, []byte(l.config(p, lines)), 0o600); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// sections of a configuration, in the order in which they are written. What a Layout writes itself stands before what is added.
var sections = []string{"admin", "log", "links", "raft", "gateway", "router", "offline", "disk"}

func (l *Layout) config(p Process, lines map[string]string) string {
	var routers []string
	for _, m := range l.Members {
		if m.Role == "router" {
			routers = append(routers, fmt.Sprintf("%q", m.Link))
		}
	}
	own := map[string]string{
		"admin": fmt.Sprintf("listen = %q\n", p.Admin),
		"links": fmt.Sprintf("keys = %q\nrouters = [%s]\n", l.Keys, strings.Join(routers, ", ")),
	}
	if p.Role == "gateway" {
		own["links"] += "roster = true\n"
		own["gateway"] = fmt.Sprintf("listen = %q\n", l.Server)
	} else {
		own["links"] += fmt.Sprintf("name = %q\nlisten = %q\n", p.Name, p.Link)
		own["raft"] = fmt.Sprintf("listen = %q\n", p.Raft)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "data = %q\n%s\n", p.Data, lines[""])
	for _, s := range sections {
		fmt.Fprintf(&b, "[%s]\n%s%s\n", s, own[s], lines[s])
	}
	return b.String()
}

// Found founds the cluster with the first member, has start start it, and has the others join. They are not started: in the order of
// All they may be.
func (l *Layout) Found(start func(Process) error) error {
	first := l.Members[0]
	if err := l.run("cluster", "init", "--config", first.Config, "--voters", fmt.Sprint(len(l.Members)/2)); err != nil {
		return err
	}
	if err := start(first); err != nil {
		return err
	}
	for _, m := range l.Members[1:] {
		if err := l.Join(m); err != nil {
			return err
		}
	}
	return nil
}

// Join makes a process a member of a cluster that runs.
func (l *Layout) Join(p Process) error {
	return l.run("cluster", "join", "--config", p.Config, "--role", p.Role)
}
