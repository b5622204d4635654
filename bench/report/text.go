package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Text is the report as Markdown tables.
func (r *Report) Text() string {
	var s strings.Builder
	fmt.Fprintf(&s, "\n%s\n%s\n\n", r.Title, r.Conditions())
	figures := Table{Header: []string{"figure", "measured", "goal"}}
	for _, f := range r.Figures {
		figures.Rows = append(figures.Rows, []string{r.label(f), f.Measured(), f.GoalText()})
	}
	s.WriteString(figures.Text())
	for _, t := range r.Tables {
		s.WriteString("\n" + t.Text())
	}
	for _, n := range r.Notes {
		s.WriteString("\nNote: " + n)
	}
	if len(r.Notes) > 0 {
		s.WriteByte('\n')
	}
	return s.String()
}

// label is a figure's name, with its scenario where the report has several.
func (r *Report) label(f Figure) string {
	if f.Scenario == r.Scenario {
		return f.Name
	}
	return f.Scenario + ": " + f.Name
}

// Conditions is one line about where the figures are from.
func (r *Report) Conditions() string {
	m := r.Machine
	return fmt.Sprintf("%s, %s %s, %d x %s, %s, %s; commit %.12s; load %s, one X25519 %.0f us", r.Started.Format("2006-01-02 15:04 MST"),
		m.OS, m.Kernel, m.CPUs, m.CPU, Bytes(float64(m.MemoryBytes)), r.Software.Go, r.Software.Commit, m.Load, m.Yardstick)
}

// Measured is the value with its unit and, where there are samples, their ends.
func (f Figure) Measured() string {
	if f.Low() == f.High() {
		return withUnit(number(f.Value), f.Unit)
	}
	return withUnit(fmt.Sprintf("%s (%s to %s)", number(f.Value), number(f.Low()), number(f.High())), f.Unit)
}

// GoalText is the goal, marked where it is missed.
func (f Figure) GoalText() string {
	if f.Goal == 0 {
		return ""
	}
	text := withUnit(number(f.Goal), f.Unit)
	if f.Missed() {
		text += " (missed)"
	}
	return text
}

// Text is the table as Markdown, its columns aligned.
func (t Table) Text() string {
	width := make([]int, len(t.Header))
	for _, row := range append([][]string{t.Header}, t.Rows...) {
		for i := range min(len(row), len(width)) {
			width[i] = max(width[i], len([]rune(row[i])))
		}
	}
	var s strings.Builder
	if t.Title != "" {
		s.WriteString(t.Title + "\n\n")
	}
	line := func(cell func(i int) string) {
		s.WriteByte('|')
		for i := range width {
			text := cell(i)
			s.WriteString(" " + text + strings.Repeat(" ", width[i]-len([]rune(text))) + " |")
		}
		s.WriteByte('\n')
	}
	line(func(i int) string { return t.Header[i] })
	line(func(i int) string { return strings.Repeat("-", width[i]) })
	for _, row := range t.Rows {
		line(func(i int) string {
			if i < len(row) {
				return row[i]
			}
			return ""
		})
	}
	return s.String()
}

// Bytes is a size for readers, in powers of 1024.
func Bytes(n float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if math.Abs(n) >= u.size {
			return fmt.Sprintf("%.1f %s", n/u.size, u.name)
		}
	}
	return fmt.Sprintf("%.0f B", n)
}

func withUnit(value, unit string) string {
	if unit == "" {
		return value
	}
	return value + " " + unit
}

// number formats with thousands separated and three figures at least.
func number(v float64) string {
	abs, decimals := math.Abs(v), 0
	switch {
	case v == math.Trunc(v):
	case abs < 0.1:
		return strconv.FormatFloat(v, 'g', 2, 64)
	case abs < 1:
		decimals = 3
	case abs < 10:
		decimals = 2
	case abs < 100:
		decimals = 1
	}
	text := strconv.FormatFloat(v, 'f', decimals, 64)
	whole, fraction, _ := strings.Cut(text, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	for at := len(whole) - 3; at > 0; at -= 3 {
		whole = whole[:at] + "," + whole[at:]
	}
	if fraction != "" {
		whole += "." + fraction
	}
	return sign + whole
}
