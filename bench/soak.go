package bench

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"linecard.example/bench/meter"
	"linecard.example/bench/report"
	"linecard.example/bench/swarm"
)

const (
	soakSessions = 2000
	soakHold     = 2 * time.Minute
	soakRate     = 1000
	soakRound    = 5 * time.Second
	// soakWarm is the part of the time in which caches may still fill: what grows later is a leak, if it grows by more than the allowance.
	soakWarm = 0.5
)

var errLeak = errors.New("leak")

// resource is what must not grow for ever.
type resource struct {
	key, name string
	grown     float64 // allowed growth of the second half, as a part of what there was
	slack     float64 // and this much in any case
	values    [][2]float64
}

// soak has sessions talk, fall, come back and leave for a bounded time, and looks whether anything grows that should not.
func (r *run) soak() error {
	n := cmp.Or(r.o.Sessions, soakSessions)
	n -= n % 4
	hold := cmp.Or(r.o.Hold, soakHold)
	if err := r.up(n, 0); err != nil {
		return err
	}
	r.rep.Title = fmt.Sprintf("%d sessions talk, fall and come back for %v", n, hold)
	if _, _, err := r.open("open", swarm.Open{Range: swarm.Range{Count: n}, Mode: swarm.Register}); err != nil {
		return err
	}
	watched := []*resource{
		{key: "memory", name: "memory of all servers", grown: 0.15, slack: 16 << 20},
		{key: "goroutines", name: "goroutines", grown: 0.10, slack: 20},
		{key: "files", name: "open files", grown: 0.05, slack: 20},
	}
	var sent uint64
	var cuts int
	from := time.Now()
	for time.Since(from) < hold {
		t, back, err := r.soakRound(n, min(soakRound, max(time.Second, hold/6)))
		if err != nil {
			return err
		}
		sent, cuts = sent+t.Delivered, cuts+back
		if err := r.note(watched, time.Since(from).Seconds()); err != nil {
			return err
		}
		r.progress.say("soak: %.0f of %.0f s, %d messages, %d sessions cut and back", time.Since(from).Seconds(), hold.Seconds(), sent, cuts)
	}
	r.add(report.Figure{Key: "sessions", Name: "sessions", Value: float64(n)})
	r.add(report.Figure{Key: "seconds", Name: "time", Unit: "s", Value: time.Since(from).Seconds()})
	r.add(report.Figure{Key: "messages", Name: "messages delivered, none lost", Value: float64(sent)})
	r.add(report.Figure{Key: "cuts", Name: "sessions cut and back", Value: float64(cuts)})
	return r.leaks(watched)
}

// soakRoles divides n sessions, four or a multiple of it.
func soakRoles(n int) (talking, cut, leaving swarm.Range) {
	return swarm.Range{Count: n / 2}, swarm.Range{From: n / 2, Count: n / 4}, swarm.Range{From: n / 4 * 3, Count: n / 4}
}

// soakRound has the first half talk while nothing else happens, cuts a quarter, and has another quarter leave and return.
func (r *run) soakRound(n int, d time.Duration) (swarm.Traffic, int, error) {
	talking, falling, leaving := soakRoles(n)
	l, err := r.load("talk", swarm.Pairs{Range: talking, Size: loadSize, Rate: soakRate, Duration: d})
	if err != nil {
		return l.traffic, 0, err
	}
	cut, err := r.fleet.Cut(r.ctx, swarm.Cut{Range: falling, Mode: swarm.Resume})
	if err != nil {
		return l.traffic, 0, err
	}
	if cut.Bound != n/4 {
		return l.traffic, 0, fmt.Errorf("%w: %d of %d", errNotBack, cut.Bound, n/4)
	}
	if err := r.fleet.Hangup(r.ctx, leaving); err != nil {
		return l.traffic, 0, err
	}
	_, _, err = r.open("return", swarm.Open{Range: leaving, Mode: swarm.Bind})
	return l.traffic, cut.Bound, err
}

// note takes a value of each resource.
func (r *run) note(watched []*resource, at float64) error {
	full, err := r.sys.look(true)
	if err != nil {
		return err
	}
	c, err := r.sys.counters()
	if err != nil {
		return err
	}
	pids, err := r.sys.pids()
	if err != nil {
		return err
	}
	files := 0
	for _, pid := range pids {
		files += meter.OpenFiles(pid)
	}
	for i, v := range []float64{float64(full.memory().PSS), c.sum("go_goroutines"), float64(files)} {
		watched[i].values = append(watched[i].values, [2]float64{at, v})
	}
	return nil
}

// leaks reports how fast each resource grew in the second half, and fails for what grew more than it may.
func (r *run) leaks(watched []*resource) error {
	var leaking []string
	for _, w := range watched {
		late := w.values[int(float64(len(w.values))*soakWarm):]
		first, last := ends(late)
		slope := slopeOf(late) * 3600
		r.add(report.Figure{Key: w.key + "_first", Name: w.name + ", after half the time", Value: first})
		r.add(report.Figure{Key: w.key + "_last", Name: "  at the end", Value: last, Better: report.Less})
		r.add(report.Figure{Key: w.key + "_per_hour", Name: "  growth by the hour, from the second half", Value: slope})
		if last-first > first*w.grown+w.slack {
			leaking = append(leaking, fmt.Sprintf("%s grew from %.0f to %.0f", w.name, first, last))
		}
		r.rep.Charts = append(r.rep.Charts, report.Chart{Name: "soak-" + w.key, Title: strings.ToUpper(w.name[:1]) + w.name[1:], X: "seconds", Y: w.name, Series: []report.Series{{Name: w.name, Points: w.values}}})
	}
	r.add(report.Figure{Key: "leaks", Name: "leaks", Value: float64(len(leaking)), Better: report.Less})
	if len(leaking) > 0 {
		return fmt.Errorf("%w: %s", errLeak, strings.Join(leaking, "; "))
	}
	return nil
}

// ends returns the medians of the first and the last third, so that one odd value decides nothing.
func ends(values [][2]float64) (first, last float64) {
	third := max(1, len(values)/3)
	mid := func(part [][2]float64) float64 {
		var v []float64
		for _, p := range part {
			v = append(v, p[1])
		}
		slices.Sort(v)
		return report.Median(v)
	}
	return mid(values[:third]), mid(values[len(values)-third:])
}

// slopeOf is the slope of the line through the points that fits best; 0 for fewer than two.
func slopeOf(points [][2]float64) float64 {
	if len(points) < 2 {
		return 0
	}
	var mx, my, above, below float64
	for _, p := range points {
		mx, my = mx+p[0]/float64(len(points)), my+p[1]/float64(len(points))
	}
	for _, p := range points {
		above += (p[0] - mx) * (p[1] - my)
		below += (p[0] - mx) * (p[0] - mx)
	}
	if below == 0 {
		return 0
	}
	return above / below
}
