package tuning

import (
	"fmt"
	"strings"
)

// Marks of the generated part of a README.
const (
	tableBegin = "<!-- the tables below are made from the code: go test ./kernel-tuning -update -->\n"
	tableEnd   = "<!-- end of the tables -->\n"
)

// exampleTarget is the machine that examples of values and printed files are for.
func exampleTarget(system string) Target {
	return Target{OS: system, Sessions: 2_000_000, Allocations: 16384, Memory: 64 << 30, Cores: 32}
}

// markdown is the chapter of knobs of a system's README: for each group a list of what, why, cost, value and source.
func markdown(system string) (string, error) {
	table, err := knobs(system)
	if err != nil {
		return "", err
	}
	p := plan{Target: exampleTarget(system), Page: 4096}
	var groups []string
	rows := map[string][]Knob{}
	for _, k := range table {
		if rows[k.Group] == nil {
			groups = append(groups, k.Group)
		}
		rows[k.Group] = append(rows[k.Group], k)
	}
	var b strings.Builder
	for _, g := range groups {
		fmt.Fprintf(&b, "\n### %s\n\n| knob | need | default | value | why | cost | from |\n| --- | --- | --- | --- | --- | --- | --- |\n", g)
		for _, k := range rows[g] {
			b.WriteString(k.row(p))
		}
	}
	return b.String(), nil
}

// row is a knob's line.
func (k Knob) row(p plan) string {
	value := k.Formula
	if want := k.want(p); want != "" && want != value {
		value += ": **" + want + "**"
	} else if want != "" {
		value = "**" + value + "**"
	}
	cells := []string{"`" + k.Name + "`", k.Need.String(), k.Default, value, k.Why, k.Cost + ".", k.Source}
	for i := range cells {
		cells[i] = strings.ReplaceAll(strings.ReplaceAll(cells[i], "|", "\\|"), "<", "&lt;")
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}
