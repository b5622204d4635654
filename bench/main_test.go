package bench

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"linecard.example/internal/testkit"
)

var (
	shapeFlag = flag.String("shape", string(testkit.Together), "processes of the server: together (linecard up) or apart")
	pairsFlag = flag.Int("pairs", 1000, "pairs of sender and recipient")
	gatewayIs = flag.String("gateway", "", "lines of the server's [gateway] section, to see what a setting changes")
	profileTo = flag.String("profile", "", "write a CPU profile of the server, taken while something is measured, to this file, and say what costs what; figures then include the profiler, and the last benchmark that -bench names wins")
)

// TestMain prints everything that was measured as one table behind the benchmarks' own output.
func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	testkit.RemoveBinary()
	table.print()
	os.Exit(code)
}

// row is one figure.
type row struct{ name, figure, goal string }

// report is the table; benchmarks run one at a time.
type report struct {
	rows   []row
	charts []string
	before string // conditions when the first server was started
}

var table report

func (r *report) add(name, goal, format string, args ...any) {
	r.rows = append(r.rows, row{name, fmt.Sprintf(format, args...), goal})
}

// chart adds lines to print below the table.
func (r *report) chart(text string) { r.charts = append(r.charts, text) }

func (r *report) noteConditions() {
	if r.before == "" {
		r.before = conditions()
	}
}

// print writes the table as Markdown. The conditions tell how far to trust it.
func (r *report) print() {
	if len(r.rows) == 0 {
		return
	}
	if r.before != "" {
		fmt.Printf("\nbefore: %s\nafter: %s\n", r.before, conditions())
	}
	width := [2]int{}
	for _, l := range r.rows {
		width[0], width[1] = max(width[0], len(l.name)), max(width[1], len(l.figure))
	}
	fmt.Printf("\n| %-*s | %-*s | goal |\n| %s | %s | --- |\n", width[0], "figure", width[1], "measured",
		strings.Repeat("-", width[0]), strings.Repeat("-", width[1]))
	for _, l := range r.rows {
		fmt.Printf("| %-*s | %-*s | %s |\n", width[0], l.name, width[1], l.figure, l.goal)
	}
	fmt.Println()
	for _, c := range r.charts {
		fmt.Println(c)
	}
}

// median of an odd number of runs is one of them. It sorts v.
func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// spread formats a median with the lowest and the highest of its runs, which median has sorted.
func spread(v []float64) string {
	m := median(v)
	return fmt.Sprintf("%.1f (%.1f-%.1f)", m, v[0], v[len(v)-1])
}
