// Package report is what a bench run leaves behind: figures, tables and charts, as JSON for programs, as one HTML page that needs nothing
// else, as PNG files and as text. It also compares two reports.
//
// The JSON form is stable: keys and their meaning only grow, and Schema changes if they ever have to do otherwise. bench/README.md
// documents it, and a golden file in testdata pins it.
//
// Charts are drawn once, on gonum's vector canvas, whose SVG and PNG forms look alike. The package gonum.org/v1/plot itself would draw
// axes for us, but it parses a dozen fonts when a process starts, 270 KB of heap in every daemon of the same binary; vg and one font
// parsed on first use cost a quarter of that.
//
// Nothing here is safe for concurrent use.
//
//	report.go   a run's figures, tables, charts      json.go     report.json, written and read
//	text.go     the table at the end                 assert.go   budgets
//	chart.go    charts as data                       draw.go     charts as SVG and PNG
//	html.go     report.html                          compare.go  two reports
package report
