// Package tuning knows what an operating system must allow so that a machine carries a given number of sessions, or of calls: one table of
// knobs with a formula, a reason, a price and a source for each, from which everything else is made.
//
//   - target.go: what is asked for (Target), and what follows from it and the machine (plan)
//   - knob.go: a Knob, and how what a machine has compares with what is wanted
//   - hostlinux.go, tcplinux.go, relaylinux.go, hostfreebsd.go, tcpfreebsd.go, relayfreebsd.go: the tables
//   - ports.go: lists of ports
//   - read.go: reads sysctls and facts of a live system, or of a copy of its files below a root directory
//   - probes.go: what is no single number: memory, descriptors of this user, swap, connection tracking, network queues
//   - check.go: Check, the findings and their table
//   - apply.go, state.go: Apply sets what can be set while the system runs and keeps what was; Undo brings that back
//   - print.go: Print writes the files for a machine, from templates below linux/files and freebsd/files
//   - markdown.go: the tables of the README files, which a test compares
//
// Functions may be called from any goroutine; of two Apply or Undo on one state file at once, in whatever processes, one is refused.
// Reading needs no privilege, applying does. Names of files avoid the suffixes _linux and _freebsd, because the tables of both systems
// are part of every build: a check of a copied root, and printed files, work anywhere.
package tuning
