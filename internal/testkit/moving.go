package testkit

import (
	"os"
	"slices"

	"linecard.example/internal/node"
)

// AddMember makes keys and configuration of one more member, such as "router-4", has it join, and starts it. A member that was removed may
// come back so, with an empty directory.
func (s *System) AddMember(name string) *Process {
	s.t.Helper()
	p, err := s.layout.Add(name, roleOf(name))
	if err == nil {
		err = s.layout.PrepareOne(p, Settings{}.lines())
	}
	if err == nil {
		err = s.layout.Join(p)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	added := s.addProcess(p)
	added.Start()
	return added
}

// RemoveMember forgets a process that has ended: nothing waits for it any more, and its name is free.
func (s *System) RemoveMember(name string) {
	s.t.Helper()
	if s.Process(name).Running() {
		s.t.Fatalf("%s still runs", name)
	}
	s.procs = slices.DeleteFunc(s.procs, func(p *Process) bool { return p.name == name })
	delete(s.admin, name)
}

// DataDir is where a process has its data.
func (s *System) DataDir(name string) string {
	s.t.Helper()
	cfg, err := node.LoadConfig(s.config(name))
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := os.Stat(cfg.Data); err != nil {
		s.t.Fatal(err)
	}
	return cfg.Data
}
