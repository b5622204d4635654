package bench

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"linecard.example/bench/meter"
	"linecard.example/bench/report"
	"linecard.example/bench/swarm"
)

const (
	loadWindows = 3
	loadWarmup  = 2 * time.Second
	loadFor     = 12 * time.Second // beside the warm-up
	loadSize    = 80               // bytes of a message's body
)

// loaded is what a load of messages cost.
type loaded struct {
	traffic swarm.Traffic
	windows []window
	inner   map[string]float64 // what the servers counted about themselves, per message
}

// rates returns messages per second in each window, ascending.
func (l loaded) rates() []float64 {
	return l.each(func(w window) float64 { return float64(w.messages()) / w.wall().Seconds() })
}

// cpu returns the servers' microseconds per message in each window, ascending.
func (l loaded) cpu() []float64 {
	return l.each(func(w window) float64 { return w.per(float64(w.messages())) })
}

func (l loaded) each(f func(w window) float64) (all []float64) {
	for _, w := range l.windows {
		all = append(all, f(w))
	}
	slices.Sort(all)
	return all
}

func (w window) messages() uint64 { return w.last.clients.Acked - w.first.clients.Acked }

// load has pairs talk and measures the servers after the warm-up. Whatever is lost, doubled, out of order or corrupt fails the run.
func (r *run) load(name string, p swarm.Pairs) (l loaded, err error) {
	total := p.Rate * p.Duration.Seconds()
	if p.Messages > 0 {
		total = float64(p.Messages * p.Count / 2)
	}
	before := r.rec.last().clients.Acked
	r.rec.begin(name, total, "messages", func(c swarm.Counters) float64 { return float64(c.Acked - before) })
	finish := r.profiles(name, p.Duration-p.Warmup)
	was, switches, err := r.inner()
	if err != nil {
		return l, err
	}
	from := time.Now()
	ticks, err := r.watch(func() (err error) {
		l.traffic, err = r.fleet.Pairs(r.ctx, p)
		return err
	})
	if err != nil {
		return l, err
	}
	r.rec.end(float64(l.traffic.Acked), fmt.Sprintf(", %d lost", l.traffic.Lost+l.traffic.Unacked))
	now, after, err := r.inner()
	if err != nil {
		return l, err
	}
	n := float64(l.traffic.Acked)
	l.inner = map[string]float64{
		"packs": now.since(was, "linecard_offline_shard_pack_commands_count") / n, "commands": now.since(was, "linecard_offline_shard_pack_commands_sum") / n,
		"outboxes": now.since(was, "linecard_gateway_outboxes_total") / n, "switches": float64(after-switches) / n,
		"receipts": float64(l.traffic.Receipts) / n,
	}
	inside := ticks
	if p.Messages == 0 {
		inside = r.rec.between(from.Add(p.Warmup), from.Add(p.Duration))
	}
	if len(inside) < 2 {
		inside = ticks // too short a load for windows within it
	}
	l.windows = windowsOf(inside, loadWindows)
	finish(report.Median(l.cpu()))
	return l, faults(l.traffic)
}

// warmup is the part of a load that is not measured; a short load, which is a test, has a short one.
func (r *run) warmup() time.Duration { return min(loadWarmup, cmp.Or(r.o.Hold, loadWarmup)) }

// inner reads the servers' own counters.
func (r *run) inner() (counters, int64, error) {
	c, err := r.sys.counters()
	if err != nil {
		return nil, 0, err
	}
	pids, err := r.sys.pids()
	return c, meter.Switches(pids), err
}

// steps are the percentiles of a latency's curve.
var steps = []float64{0, 1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99, 99.5, 99.9, 99.99, 100}

// curve is a chart's line of a histogram: how many percent took at most so many milliseconds.
func curve(name string, h swarm.Histogram) report.Series {
	s := report.Series{Name: name}
	for _, p := range steps {
		s.Points = append(s.Points, [2]float64{millis(h.At(p)), p})
	}
	return s
}

// latencies adds the percentiles of a histogram as figures; goals are of the median and the 99th percentile, 0 for none.
func (r *run) latencies(key, name string, h swarm.Histogram, goal50, goal99 float64) {
	if h.Count() == 0 {
		return
	}
	for _, p := range []struct {
		key, name string
		at, goal  float64
	}{{"p50", "median", 50, goal50}, {"p99", "99th percentile", 99, goal99}, {"p999", "99.9th percentile", 99.9, 0}} {
		r.add(report.Figure{Key: key + "_" + p.key + "_ms", Name: name + ", " + p.name, Unit: "ms", Value: millis(h.At(p.at)), Goal: p.goal, Better: report.Less})
	}
}
