package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"linecard.example/bench/report"
	"linecard.example/bench/swarm"
)

const (
	stormSessions = 10000
	stormPairs    = 50   // that talk on
	stormRate     = 1000 // their messages per second: little, so that what they wait for is the storm
	quietFor      = 6 * time.Second
	idleFor       = 3 * time.Second
	stormAtOnce   = 4096 // handshakes under way, of all clients: more than the servers do in the time that one may take
	finishEvery   = time.Second
	goalResume    = 130
	goalRatio     = 5
)

// storm cuts all sessions but those of a few pairs at once and has them come back by ticket: first while nobody talks, which tells what a
// resumption costs, then while the pairs talk on.
func (r *run) storm() error {
	n := cmp.Or(r.o.Sessions, stormSessions)
	talkers := swarm.Range{Count: 2 * min(stormPairs, max(1, n/10))}
	rest := swarm.Range{From: talkers.Count, Count: n}
	r.handshakes = stormAtOnce
	if err := r.up(talkers.Count+n, talkers.Count); err != nil { // talkers wait for the servers, not for clients that come back
		return err
	}
	r.rep.Title = fmt.Sprintf("%d sessions cut at once and back by ticket, %d pairs talking on", n, talkers.Count/2)
	if _, _, err := r.open("open", swarm.Open{Range: swarm.Range{Count: talkers.Count + n}, Mode: swarm.Register}); err != nil {
		return err
	}
	talk := swarm.Pairs{Range: talkers, Size: loadSize, InFlight: 32, Rate: min(stormRate, float64(10*talkers.Count)), Duration: cmp.Or(r.o.Hold, quietFor)}
	if err := r.resume(rest); err != nil {
		return err
	}
	quiet, err := r.load("talk, quiet", talk)
	if err != nil {
		return err
	}
	back, during, err := r.cut(rest, talk)
	if err != nil {
		return err
	}
	r.cameBack(n, back)
	r.beside("storm", "during the storm", quiet.traffic.Ack, during)
	if r.plan.here {
		if err := r.strangers(talk, quiet.traffic.Ack); err != nil {
			return err
		}
	}
	return allBack(n, back)
}

// allBack fails unless all of n sessions were cut and are back.
func allBack(n int, back swarm.Storm) error {
	if back.Lost != n {
		return fmt.Errorf("%w: %d of %d sessions were cut", errOptions, back.Lost, n)
	}
	if back.Bound != n {
		return fmt.Errorf("%w: %d of %d", errNotBack, back.Bound, n)
	}
	return nil
}

// resume makes a storm beside which nobody talks, for what it costs: beside others, whose messages are packed together more the more is to
// do, nobody could tell what is whose. The storm is over in seconds for all but those who were refused and wait for their turn, so that what
// the servers use while nothing happens, measured before, would be a good part of it.
func (r *run) resume(rest swarm.Range) error {
	var back swarm.Storm
	still, err := r.watch(func() error { return r.rest(idleFor) })
	if err != nil {
		return err
	}
	idle := window{still[0], still[len(still)-1]}.cores()
	before := r.rec.last().clients.Binds
	r.rec.begin("storm, quiet", float64(rest.Count), "sessions back", func(c swarm.Counters) float64 { return float64(c.Binds - before) })
	ticks, err := r.watch(func() (err error) {
		back, err = r.fleet.Cut(r.ctx, swarm.Cut{Range: rest, Mode: swarm.Resume, Reset: true})
		return err
	})
	if err != nil {
		return err
	}
	r.rec.end(float64(back.Bound), "")
	w := window{ticks[0], ticks[len(ticks)-1]}
	n := float64(back.Bound)
	r.add(report.Figure{Key: "idle_cores", Name: "server CPU while nothing happens", Unit: "cores", Value: idle, Better: report.Less})
	r.add(report.Figure{Key: "resume_cpu_us", Name: "server CPU per session that comes back while nobody talks, the end of the old one in it, less the idle CPU of that time",
		Unit: "us", Value: w.per(n) - idle*micros(w.wall())/n, Goal: goalResume, Better: report.Less})
	r.add(report.Figure{Key: "resume_seconds", Name: "  the time it took", Unit: "s", Value: w.wall().Seconds(), Better: report.Less})
	r.add(report.Figure{Key: "resume_retries", Name: "  attempts beyond the first", Value: float64(back.Attempts) - float64(back.Lost), Better: report.Less})
	return allBack(rest.Count, back)
}

// cut makes the storm, while the talkers go on by one schedule from its beginning to its end: what is late is late from its time, and
// no quiet time is in it.
func (r *run) cut(rest swarm.Range, talk swarm.Pairs) (back swarm.Storm, during swarm.Histogram, err error) {
	others := r.rec.last().clients.Binds
	r.rec.begin("storm", float64(rest.Count), "sessions back", func(c swarm.Counters) float64 { return float64(c.Binds - others) })
	talk.Duration = backLimit
	_, err = r.watch(func() (err error) {
		ctx, cancel := context.WithTimeout(r.ctx, backLimit)
		defer cancel()
		talked := r.beginTalk(ctx, talk)
		if back, err = r.fleet.Cut(ctx, swarm.Cut{Range: rest, Mode: swarm.Resume, Reset: true}); err != nil {
			cancel()
			return errors.Join(err, (<-talked).err)
		}
		for {
			if err := r.fleet.Finish(ctx, talk.Range); err != nil {
				cancel()
				return errors.Join(err, (<-talked).err)
			}
			select {
			case got := <-talked:
				during = got.traffic.Ack
				return errors.Join(got.err, faults(got.traffic))
			case <-time.After(finishEvery): // it may not have begun when it was told to end
			}
		}
	})
	r.rec.end(float64(back.Bound), "")
	return back, during, err
}

// talked is how talk that was begun in the background ended.
type talked struct {
	traffic swarm.Traffic
	err     error
}

func (r *run) beginTalk(ctx context.Context, talk swarm.Pairs) <-chan talked {
	done := make(chan talked, 1)
	go func() {
		t, err := r.fleet.Pairs(ctx, talk)
		done <- talked{t, err}
	}()
	return done
}

func (r *run) cameBack(n int, back swarm.Storm) {
	seconds := func(p float64) float64 { return back.Back.At(p).Seconds() }
	r.add(report.Figure{Key: "sessions", Name: "sessions cut", Value: float64(back.Lost)})
	r.add(report.Figure{Key: "back_p50_s", Name: "half of them back after", Unit: "s", Value: seconds(50), Better: report.Less})
	r.add(report.Figure{Key: "back_p99_s", Name: "99 % back after", Unit: "s", Value: seconds(99), Better: report.Less})
	r.add(report.Figure{Key: "back_all_s", Name: "all back after", Unit: "s", Value: back.Back.Max().Seconds(), Better: report.Less})
	r.add(report.Figure{Key: "resumed", Name: "back by ticket", Value: float64(back.Resumed), Better: report.More})
	r.add(report.Figure{Key: "retries", Name: "attempts beyond the first", Value: float64(back.Attempts) - float64(back.Lost), Better: report.Less})
	if len(back.Closes) > 0 {
		r.rep.Note("attempts failed: " + reasons(back.Closes))
	}
	line := report.Series{Name: "back"}
	for _, p := range steps {
		line.Points = append(line.Points, [2]float64{seconds(p), float64(n) * p / 100})
	}
	r.rep.Charts = append(r.rep.Charts, report.Chart{Name: "storm-back", Title: "Sessions back after the cut", X: "seconds", Y: "sessions", Series: []report.Series{line}})
}

// beside compares the latency of those who talk on with that of before.
func (r *run) beside(key, when string, quiet, during swarm.Histogram) {
	if key == "storm" {
		r.latencies("quiet", "talk before: due to acked", quiet, 0, 0)
	}
	r.latencies(key, "talk "+when+": due to acked", during, 0, 0)
	if q := quiet.At(99); q > 0 {
		r.add(report.Figure{Key: key + "_p99_ratio", Name: "  its 99th percentile, times the quiet one", Value: float64(during.At(99)) / float64(q), Goal: goalRatio, Better: report.Less})
	}
	r.rep.Charts = append(r.rep.Charts, report.Chart{
		Name: "storm-latency-" + key, Title: "Latency of those who talk on, " + when, X: "ms", Y: "% of messages at most", LogX: true,
		Series: []report.Series{curve("before", quiet), curve(when, during)},
	})
}
