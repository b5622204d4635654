package tuning

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// State is how a knob compares with what is wanted.
type State int

// The states.
const (
	// OK: as wanted.
	OK State = iota
	// Bad: not as wanted; the finding's Need says what that means.
	Bad
	// Unknown: this kernel, or this network namespace, has no such setting, or does not show it.
	Unknown
)

// String returns the state as the table shows it.
func (s State) String() string { return [...]string{"ok", "BAD", "?"}[s] }

// Finding is one line of a check.
type Finding struct {
	// Knob is the name of what was looked at.
	Knob string
	// State is how it compares, Need what it means when it is Bad.
	State State
	Need  Need
	// Have and Want are what the system has, "-" if unknown, and what the target needs.
	Have, Want string
	// Why is what it is for, in a few words.
	Why string
	// Runtime says that Apply can set it.
	Runtime bool
}

// Failed reports whether the target cannot be reached safely with what was found.
func (f Finding) Failed() bool { return f.State == Bad && f.Need <= Should }

// Blocks reports whether the target cannot be reached at all.
func (f Finding) Blocks() bool { return f.State == Bad && f.Need == Must }

// Check compares a system with a target, all knobs in the order of the README. It changes nothing and needs no privilege. The error
// says that the target makes no sense or the system cannot be read; what a system lacks is a Finding.
func Check(t Target) ([]Finding, error) {
	h, p, err := planOf(t)
	if err != nil {
		return nil, err
	}
	table, err := knobs(h.os)
	if err != nil {
		return nil, err
	}
	found := h.probe(p)
	for _, k := range table {
		f, err := h.compare(k, p)
		if err != nil {
			return nil, err
		}
		if f.Want != "" {
			found = append(found, f)
		}
	}
	return found, nil
}

func (h *host) compare(k Knob, p plan) (Finding, error) {
	want := k.want(p)
	f := Finding{Knob: k.Name, Need: k.Need, Have: "-", Why: k.Why, Runtime: k.where == runtimeSysctl || k.where == sysFile}
	if want == "" || k.where == byHand {
		return f, nil
	}
	f.Want = k.rule.sign() + want
	have, err := h.read(k)
	switch {
	case errors.Is(err, errAbsent):
		f.State = Unknown
	case err != nil:
		return f, fmt.Errorf("tuning: %s: %w", k.Name, err)
	default:
		f.Have = have
		if !k.meets(have, want) {
			f.State = Bad
		}
	}
	return f, nil
}

// WriteTable prints findings for people: what is bad first, the worst first, then what is unknown, then what is well.
func WriteTable(w io.Writer, found []Finding) error {
	found = slices.Clone(found)
	slices.SortStableFunc(found, func(a, b Finding) int { return rank(a) - rank(b) })
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "STATE\tNEED\tKNOB\tHAVE\tWANT\tWHY")
	for _, f := range found {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", f.State, f.Need, f.Knob, f.Have, f.Want, firstSentence(f.Why))
	}
	return tw.Flush()
}

func rank(f Finding) int {
	switch f.State {
	case Bad:
		return int(f.Need)
	case Unknown:
		return 10
	}
	return 11
}

// firstSentence is what a line of a terminal has room for.
func firstSentence(s string) string {
	if first, _, ok := strings.Cut(s, ". "); ok {
		return first
	}
	return strings.TrimSuffix(s, ".")
}
