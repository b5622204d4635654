package report

import (
	"math"
	"slices"
	"time"

	"linecard.example/bench/meter"
)

// Schema is the version of the JSON form.
const Schema = 1

// Better says which way a figure should go.
type Better string

// The ways. A figure without one describes the run.
const (
	Less Better = "less"
	More Better = "more"
)

// Report is one run of one scenario, or of all.
type Report struct {
	Schema   int            `json:"schema"`
	Scenario string         `json:"scenario"`
	Title    string         `json:"title"`
	Command  []string       `json:"command"`
	Started  time.Time      `json:"started"`
	Seconds  float64        `json:"seconds"`
	Machine  meter.Machine  `json:"machine"`
	Software meter.Software `json:"software"`
	Figures  []Figure       `json:"figures"`
	Tables   []Table        `json:"tables"`
	Charts   []Chart        `json:"charts"`
	Notes    []string       `json:"notes"`
}

// Figure is one measured number.
type Figure struct {
	Scenario string    `json:"scenario"`
	Key      string    `json:"key"`  // stable, of a-z 0-9 and _
	Name     string    `json:"name"` // for readers
	Unit     string    `json:"unit"`
	Value    float64   `json:"value"`             // the median where there are samples
	Samples  []float64 `json:"samples,omitempty"` // repeated measurements of this run, ascending
	Goal     float64   `json:"goal,omitempty"`
	Better   Better    `json:"better,omitempty"`
}

// Low and High are the ends of the samples, the value itself where there are none.
func (f Figure) Low() float64 {
	if len(f.Samples) == 0 {
		return f.Value
	}
	return f.Samples[0]
}

// High is the largest sample.
func (f Figure) High() float64 {
	if len(f.Samples) == 0 {
		return f.Value
	}
	return f.Samples[len(f.Samples)-1]
}

// Missed reports whether the figure has a goal and is on the wrong side of it.
func (f Figure) Missed() bool {
	return f.Goal != 0 && (f.Better == Less && f.Value > f.Goal || f.Better == More && f.Value < f.Goal)
}

// Table is rows of text, for what is no single number.
type Table struct {
	Title  string     `json:"title"`
	Header []string   `json:"header"`
	Rows   [][]string `json:"rows"`
}

// New starts the report of a run on this machine. It takes a tenth of a second, for the machine's yardstick.
func New(scenario, title string, command []string) *Report {
	return &Report{
		Schema: Schema, Scenario: scenario, Title: title, Command: command, Started: time.Now().UTC().Truncate(time.Second),
		Machine: meter.ReadMachine(), Software: meter.ReadSoftware(), Notes: []string{},
	}
}

// Add adds a figure. Of samples it takes over and sorts the slice, and the value becomes their median. What could not be measured, a
// value that is no number, is left out, and a note says so.
func (r *Report) Add(f Figure) {
	f.Samples = slices.DeleteFunc(f.Samples, notFinite)
	if len(f.Samples) > 0 {
		slices.Sort(f.Samples)
		f.Value = Median(f.Samples)
	}
	if notFinite(f.Value) {
		r.Note(f.Scenario + ": " + f.Name + " could not be measured")
		return
	}
	r.Figures = append(r.Figures, f)
}

// Note adds a sentence that a reader of the figures must know.
func (r *Report) Note(text string) { r.Notes = append(r.Notes, text) }

// Figure returns the figure of a key; scenario may be "" when the report has only one.
func (r *Report) Figure(scenario, key string) (Figure, bool) {
	for _, f := range r.Figures {
		if f.Key == key && (scenario == "" || f.Scenario == scenario) {
			return f, true
		}
	}
	return Figure{}, false
}

// Merge appends what another report found, a scenario of `all` or the same run on another machine.
func (r *Report) Merge(o *Report) {
	r.Figures = append(r.Figures, o.Figures...)
	r.Tables = append(r.Tables, o.Tables...)
	r.Charts = append(r.Charts, o.Charts...)
	r.Notes = append(r.Notes, o.Notes...)
	r.Seconds += o.Seconds
}

// Median of sorted numbers; of an even count the lower one of the middle, so that it is one of them.
func Median(sorted []float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	return sorted[(len(sorted)-1)/2]
}

func notFinite(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }
