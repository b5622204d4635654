package bench

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"linecard.example/bench/report"
	"linecard.example/bench/swarm"
)

const (
	failBefore = 500 * time.Millisecond  // of load before a process ends
	failAfter  = 2500 * time.Millisecond // and behind that
)

var nan = math.NaN()

// ending is a way in which processes end.
type ending struct {
	key, name string
	goal      float64 // ms
	end       func(*daemon) error
}

// failOver ends processes that lead, one after the other, under a moderate load on all shards. What is reported of each is how long a message
// waited for its ack that waited longest: from when it was due, through all refusals and whatever the client waits before it says it again.
func (r *run) failOver(all swarm.Range) error {
	r.rec.pause() // processes are meant to be gone
	defer r.rec.resume()
	t := report.Table{Title: "Processes that end under load: the longest wait for an ack", Header: []string{"how", "which", "times", "median", "longest", "refusals for each", "said again", "delivered again"}}
	for _, e := range []ending{
		{"stop", "ended in order", goalPlanned, (*daemon).stop},
		{"kill", "killed", goalUnplanned, func(d *daemon) error { d.kill(); return nil }},
	} {
		waits, err := r.endMany(e, all, &t)
		if err != nil {
			return err
		}
		slices.Sort(waits)
		r.add(report.Figure{Key: e.key + "_events", Name: "processes " + e.name, Value: float64(len(waits))})
		r.add(report.Figure{Key: e.key + "_p50_ms", Name: "  the longest wait for an ack, median over the processes", Unit: "ms", Value: report.Median(waits), Better: report.Less})
		r.add(report.Figure{Key: e.key + "_max_ms", Name: "  the longest of all", Unit: "ms", Value: waits[len(waits)-1], Goal: e.goal, Better: report.Less})
	}
	r.rep.Tables = append(r.rep.Tables, t)
	return nil
}

// endMany ends processes in turns, as many as are asked for, and brings each back.
func (r *run) endMany(e ending, all swarm.Range, t *report.Table) (waits []float64, err error) {
	members, byPart := r.sys.members(), map[string][]swarm.Traffic{}
	n := cmp.Or(r.o.Events, clusterEvents)
	for next := 0; len(waits) < n; next++ {
		d := members[next%len(members)]
		s, err := d.stand()
		if err != nil {
			return nil, err
		}
		if s.leads == 0 { // it was back too short a time ago
			if err := r.rest(pollEvery); err != nil {
				return nil, err
			}
			continue
		}
		got, err := r.endOne(e, d, all)
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", d.name, e.name, err)
		}
		waits = append(waits, millis(got.Ack.Max()))
		byPart[d.part] = append(byPart[d.part], got)
		r.progress.say("%s %s, %d of %d: an ack took %.0f ms at most; refused %s", d.name, e.name, len(waits), n, waits[len(waits)-1], reasons(got.Refused))
	}
	for _, part := range []string{"router", "offline"} {
		t.Rows = append(t.Rows, endedRow(e.name, part, byPart[part]))
	}
	return waits, nil
}

func endedRow(how, part string, list []swarm.Traffic) []string {
	if len(list) == 0 {
		return []string{how, part, "0"}
	}
	var waits []float64
	var refused, resent, doubled uint64
	for _, got := range list {
		waits = append(waits, millis(got.Ack.Max()))
		refused, resent, doubled = refused+sum(got.Refused), resent+got.Resent, doubled+got.Doubled
	}
	slices.Sort(waits)
	per := func(v uint64) string { return fmt.Sprintf("%.1f", float64(v)/float64(len(list))) }
	return []string{how, part, fmt.Sprint(len(list)), fmt.Sprintf("%.0f ms", report.Median(waits)), fmt.Sprintf("%.0f ms", waits[len(waits)-1]), per(refused), per(resent), per(doubled)}
}

// endOne ends a process under load, brings it back, and waits until the cluster is whole again.
func (r *run) endOne(e ending, d *daemon, all swarm.Range) (swarm.Traffic, error) {
	rate := min(clusterRate, float64(5*all.Count/2))
	done := r.beginTalk(r.ctx, swarm.Pairs{Range: all, Size: loadSize, InFlight: 32, Rate: rate, Duration: failBefore + failAfter})
	if err := r.rest(failBefore); err != nil {
		return swarm.Traffic{}, err
	}
	err := e.end(d)
	got := <-done
	switch {
	case err != nil:
		return got.traffic, err
	case got.err != nil:
		return got.traffic, got.err
	}
	once := got.traffic
	once.Doubled = 0 // acks of deliveries may be lost with a leader: at least once, in order
	if err := faults(once); err != nil {
		return got.traffic, err
	}
	if err := d.start(); err != nil {
		return got.traffic, err
	}
	if err := d.ready(r.ctx); err != nil {
		return got.traffic, err
	}
	return got.traffic, r.balanced(false)
}
