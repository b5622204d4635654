package tuning

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Need says what it means when a knob is not as wanted.
type Need int

// The needs.
const (
	// Must: the machine cannot hold the target without it.
	Must Need = iota
	// Should: it holds the target on a quiet day, and a storm, a crash or slow clients break it.
	Should
	// Could: it costs more time or memory than it needs to.
	Could
)

// String returns the need in lower case.
func (n Need) String() string { return [...]string{"must", "should", "could"}[n] }

// rule says how what a system has is compared with what is wanted, number by number when there are several.
type rule int

const (
	atLeast rule = iota
	atMost
	exactly
	covering // lists of ports
)

// place says where a knob is set.
type place int

const (
	runtimeSysctl place = iota // sysctl, at any time
	bootSetting                // at boot only: the kernel's command line, loader.conf
	sysFile                    // a file below /sys
	checkOnly                  // a sysctl that is compared, and left to whoever changed it from its default
	byHand                     // described only: what to do depends on the machine
)

// Knob is one setting of an operating system.
type Knob struct {
	// Name is what the system calls it: a sysctl, a file below /sys, a parameter of the boot loader.
	Name string
	// Group is the chapter of the README that it belongs to.
	Group string
	// Need says what it means when it is not as wanted.
	Need Need
	// Default is what systems come with, or how they compute it.
	Default string
	// Formula is the wanted value in words, as the code in want computes it.
	Formula string
	// Why, Cost and Source are what it is for, what it costs and where the figures are from.
	Why, Cost, Source string

	where  place
	rule   rule
	also   string            // a value that is as good as the wanted one
	reads  string            // sysctl that shows it when its own name cannot be read
	spaced bool              // linux: each network namespace has its own
	grows  bool              // it cannot be lowered while the system runs
	want   func(plan) string // "": not wanted for this plan
	comes  func(plan) string // what systems come with, at least, where that may be more than is wanted; nil: it never is
}

// number makes a want of one number.
func number(f func(plan) int64) func(plan) string {
	return func(p plan) string { return strconv.FormatInt(f(p), 10) }
}

// always makes a want that depends on nothing.
func always(s string) func(plan) string { return func(plan) string { return s } }

// meets reports whether have is as want asks. Values that are no numbers meet a want only when they are the same.
func (r rule) meets(have, want string) bool {
	if r == covering {
		h, ok1 := parsePorts(have)
		w, ok2 := parsePorts(want)
		return ok1 && ok2 && coverPorts(h, w)
	}
	h, ok1 := numbers(have)
	w, ok2 := numbers(want)
	if !ok1 || !ok2 || len(h) != len(w) {
		return r == exactly && strings.Join(strings.Fields(have), " ") == want
	}
	for i := range w {
		if r == atLeast && h[i] < w[i] || r == atMost && h[i] > w[i] || r == exactly && h[i] != w[i] {
			return false
		}
	}
	return true
}

// meets reports whether have is as want asks, or as good.
func (k Knob) meets(have, want string) bool {
	return k.rule.meets(have, want) || k.also != "" && have == k.also
}

// merge is what to set where have is found: numbers that are as wanted stay, so that nothing that somebody has raised is lowered.
func (r rule) merge(have, want string) string {
	if h, ok := parsePorts(have); r == covering && ok {
		w, _ := parsePorts(want)
		return formatPorts(joinPorts(append(h, w...)))
	}
	h, ok1 := numbers(have)
	w, ok2 := numbers(want)
	if r == exactly || r == covering || !ok1 || !ok2 || len(h) != len(w) {
		return want
	}
	var b strings.Builder
	for i := range w {
		n := max(h[i], w[i])
		if r == atMost {
			n = min(h[i], w[i])
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(strconv.FormatUint(n, 10))
	}
	return b.String()
}

// sign stands before a wanted value in tables.
func (r rule) sign() string { return [...]string{">= ", "<= ", "", "with "}[r] }

// numbers reads what all sysctls of one or several numbers look like. A minus sign is dropped: tcp_ehash_entries is negative in a
// network namespace that shares its parent's table.
func numbers(s string) ([]uint64, bool) {
	fields := strings.Fields(s)
	list := make([]uint64, len(fields))
	for i, f := range fields {
		n, err := strconv.ParseUint(strings.TrimPrefix(f, "-"), 10, 64)
		if err != nil {
			return nil, false
		}
		list[i] = n
	}
	return list, len(list) > 0
}

// knobs returns the table of a system.
func knobs(system string) ([]Knob, error) {
	switch system {
	case "linux":
		return slices.Concat(linuxHost, linuxTCP, linuxRelay, []Knob{relayTracked}), nil
	case "freebsd":
		return slices.Concat(freebsdHost, freebsdTCP, freebsdRelay), nil
	}
	return nil, fmt.Errorf("tuning: no table for %q", system)
}
