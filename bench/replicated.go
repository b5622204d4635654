package bench

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"linecard.example/bench/report"
	"linecard.example/bench/swarm"
)

const (
	clusterPairs   = 500
	clusterRate    = 1000 // messages a second of a moderate load
	clusterEvents  = 50
	defaultShards  = 16
	balanceLimit   = 90 * time.Second // for leaders to be where they shall be, or replicas to be there
	goalReplicated = 20
	goalPlanned    = 300
	goalUnplanned  = 2000
)

// cluster measures groups of three: what idle ones hold and use, what a message costs all processes, how long it waits when a process
// ends, and how fast one starts again.
func (r *run) cluster() error {
	if r.o.Shape != Replicas || r.o.remote() {
		return fmt.Errorf("%w: cluster needs --shape replicas, and processes here that it can end", errOptions)
	}
	pairs := cmp.Or(r.o.Sessions, clusterPairs)
	if err := r.up(2*pairs, 0); err != nil {
		return err
	}
	r.rep.Title = fmt.Sprintf("Three replicas of each group on three routers and three offlines: %d pairs, %d-byte bodies, on a majority's disks before the ack", pairs, loadSize)
	if err := r.balanced(true); err != nil {
		return err
	}
	if err := r.idleGroups(); err != nil {
		return err
	}
	all := swarm.Range{Count: 2 * pairs}
	if _, _, err := r.open("open", swarm.Open{Range: all, Mode: swarm.Register}); err != nil {
		return err
	}
	r.add(report.Figure{Key: "pairs", Name: "pairs", Value: float64(pairs)})
	if err := r.replicated(all); err != nil {
		return err
	}
	if err := r.failOver(all); err != nil {
		return err
	}
	return r.replay(all)
}

func (r *run) shards() int { return cmp.Or(r.o.Shards, defaultShards) }

// balanced waits until every group has its replicas, all of them near, and, if leaders shall be where they are wanted, until each member
// leads its part.
func (r *run) balanced(leaders bool) error {
	members, least := r.sys.members(), 0
	if leaders {
		least = r.shards() / machines
	}
	for end := time.Now().Add(balanceLimit); ; {
		led, why := 0, ""
		for _, d := range members {
			s, err := d.stand()
			if err != nil {
				return err
			}
			led += s.leads
			if s.leads < least || s.voters < machines || s.reachable < machines || s.lag > nearEntries {
				why = fmt.Sprintf("%s: %+v", d.name, s)
			}
		}
		if led == 2*r.shards() && why == "" {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w: %d groups of %d have leaders; %s", errOptions, led, 2*r.shards(), why)
		}
		if err := r.rest(lookEvery); err != nil {
			return err
		}
	}
}

// lookEvery is the time between two looks at the members: pages of metrics are no small part of what an idle process does.
const lookEvery = 10 * pollEvery

// nearEntries is how far a replica may be behind and count as near.
const nearEntries = 64

// idleGroups reports what the members hold and use while nothing happens.
func (r *run) idleGroups() error {
	ticks, err := r.watch(func() error { return r.rest(min(2*idleFor, 4*r.pause())) })
	if err != nil {
		return err
	}
	w := window{ticks[0], ticks[len(ticks)-1]}
	full, err := r.sys.look(true)
	if err != nil {
		return err
	}
	c, members := counters{}, r.sys.members()
	for _, d := range members {
		m, err := scrape(d.admin)
		if err != nil {
			return err
		}
		c["go_goroutines"] += m.sum("go_goroutines")
	}
	cpu := w.part("router").CPU() + w.part("offline").CPU()
	processes, groups := float64(len(members)), float64(2*r.shards()*machines)
	memory := float64(full.part("router").Memory.PSS + full.part("offline").Memory.PSS)
	cores := micros(cpu) / micros(w.wall())
	r.add(report.Figure{Key: "replicas", Name: "replicas of groups, over six processes", Value: groups})
	r.add(report.Figure{Key: "idle_process_cores", Name: "idle: CPU of a router or offline process", Unit: "cores", Value: cores / processes, Better: report.Less})
	r.add(report.Figure{Key: "idle_group_cores", Name: "  for each replica in it, the process included", Unit: "cores", Value: cores / groups, Better: report.Less})
	r.add(report.Figure{Key: "group_goroutines", Name: "  goroutines for each replica, the process included", Value: c["go_goroutines"] / groups, Better: report.Less})
	r.add(report.Figure{Key: "group_bytes", Name: "  memory for each replica, the process included", Unit: "B", Value: memory / groups, Better: report.Less})
	r.add(report.Figure{Key: "process_bytes", Name: "  memory of a router or offline process", Unit: "B", Value: memory / processes, Better: report.Less})
	return nil
}

// replicated measures messages flat out and at a moderate rate.
func (r *run) replicated(all swarm.Range) error {
	rate := cmp.Or(r.o.Rate, min(clusterRate, float64(5*all.Count/2)))
	t := report.Table{Title: "Per message", Header: routeHeader}
	for _, v := range []variant{{"flat", "flat out", 0, 1, goalReplicated}, {"paced", fmt.Sprintf("at %.0f/s", rate), rate, 1, 0}} {
		before, err := r.sys.commits()
		if err != nil {
			return err
		}
		l, err := r.load(v.name, swarm.Pairs{
			Range: all, Size: loadSize, InFlight: inFlight, Rate: v.rate, AckEvery: v.ackEvery,
			Duration: r.warmup() + cmp.Or(r.o.Hold, loadFor), Warmup: r.warmup(),
		})
		if err != nil {
			return err
		}
		after, err := r.sys.commits()
		if err != nil {
			return err
		}
		r.routed(v, l)
		for _, p := range []int{50, 99} {
			r.add(report.Figure{Key: fmt.Sprintf("%s_commit_p%d_ms", v.key, p), Name: fmt.Sprintf("  a pack from submitted to applied, %d %% within", p), Unit: "ms",
				Value: 1000 * after.since(before).at(float64(p)/100), Better: report.Less})
		}
		t.Rows = append(t.Rows, l.row(v.name))
	}
	r.rep.Tables = append(r.rep.Tables, t)
	return nil
}

// buckets is a histogram of the servers: how many observations were at most so many seconds, ascending.
type buckets []bucket

type bucket struct{ most, count float64 }

// commits returns how long packs of all queues took to commit.
func (s *system) commits() (all buckets, err error) {
	sums := map[float64]float64{}
	for _, addr := range s.byPart()["offline"] {
		text, err := metricsPage(addr)
		if err != nil {
			return nil, err
		}
		eachSeries(text, func(name, labels string, v float64) {
			_, le, ok := strings.Cut(labels, `le="`)
			if name != "linecard_offline_shard_commit_seconds_bucket" || !ok {
				return
			}
			if most, err := strconv.ParseFloat(strings.TrimSuffix(le, `"`), 64); err == nil { // +Inf, too
				sums[most] += v
			}
		})
	}
	for most, count := range sums {
		all = append(all, bucket{most, count})
	}
	slices.SortFunc(all, func(a, b bucket) int { return cmp.Compare(a.most, b.most) })
	return all, nil
}

// since returns what was observed after before.
func (b buckets) since(before buckets) (all buckets) {
	for i := range b {
		all = append(all, b[i])
		if i < len(before) {
			all[i].count -= before[i].count
		}
	}
	return all
}

// at returns below what a part of the observations is, linear within a bucket; NaN without observations.
func (b buckets) at(part float64) float64 {
	low, under := 0.0, 0.0
	for _, x := range b {
		want := part * b[len(b)-1].count
		if x.count >= want && x.count > under {
			return low + (min(x.most, 2*low+1)-low)*(want-under)/(x.count-under)
		}
		low, under = x.most, x.count
	}
	return nan
}
