package bench

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// lineEvery is how often progress writes a line where it cannot rewrite one.
const lineEvery = 5 * time.Second

// progress says on the console how far a phase is: count, rate, and time to its end.
type progress struct {
	w        io.Writer
	terminal bool
	clock    func() time.Time

	phase string
	unit  string
	total float64
	began time.Time
	wrote time.Time
	wide  int // of the line that stands on the terminal
}

// begin starts a phase of total units; 0: nobody knows how many.
func (p *progress) begin(phase string, total float64, unit string) {
	now := p.clock()
	*p = progress{w: p.w, terminal: p.terminal, clock: p.clock, phase: phase, unit: unit, total: total, began: now, wrote: now}
}

// at says that done units are done. Anybody may call it as often as they like.
func (p *progress) at(done float64, more string) {
	now := p.clock()
	if p.phase == "" || !p.terminal && now.Sub(p.wrote) < lineEvery {
		return
	}
	p.wrote = now
	p.write(p.line(done, now.Sub(p.began))+more, p.terminal)
}

// end closes a phase with what it came to.
func (p *progress) end(done float64, more string) {
	took := p.clock().Sub(p.began)
	text := fmt.Sprintf("%s: %.0f %s in %.1f s", p.phase, done, p.unit, took.Seconds())
	if took > 0 && done > 0 && p.unit != "s" {
		text += fmt.Sprintf(", %.0f/s", done/took.Seconds())
	}
	p.write(text+more, false)
	p.phase = ""
}

// say writes a line of its own.
func (p *progress) say(format string, args ...any) { p.write(fmt.Sprintf(format, args...), false) }

func (p *progress) line(done float64, took time.Duration) string {
	text := fmt.Sprintf("%s: %.0f", p.phase, done)
	if p.total > 0 {
		text += fmt.Sprintf(" of %.0f", p.total)
	}
	text += " " + p.unit
	rate := 0.0
	if took > 0 {
		rate = done / took.Seconds()
	}
	if p.unit != "s" {
		text += fmt.Sprintf(", %.0f/s", rate)
	}
	if p.total > done && rate > 0 {
		text += ", " + time.Duration((p.total-done)/rate*float64(time.Second)).Round(time.Second).String() + " to go"
	}
	return text
}

// write puts a line on the console, over the one that stands there; stay leaves the cursor on it, to be written over in turn.
func (p *progress) write(text string, stay bool) {
	wide := len(text)
	if p.terminal {
		text = "\r" + text + strings.Repeat(" ", max(0, p.wide-wide))
	}
	p.wide = 0
	if stay {
		p.wide = wide
	} else {
		text += "\n"
	}
	fmt.Fprint(p.w, text)
}
