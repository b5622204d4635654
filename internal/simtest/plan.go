package simtest

import (
	"math/rand/v2"
	"slices"
	"time"

	"linecard.example/internal/stanza"
)

// plan is what a seed makes happen. It is drawn before anything starts.
type plan struct {
	climate  climate
	length   time.Duration // of the time with faults
	shards   int
	trailing uint64 // entries kept behind a snapshot: who lags more is sent the whole state
	accounts int
	pace     time.Duration // a device writes about so often
	events   []event
}

// event is one fault. do returns at once, and has World.begin do what takes time; everything heals by itself.
type event struct {
	at   time.Duration
	what string
	do   func(w *World)
}

// newPlan draws the plan of a seed.
func newPlan(seed uint64) plan {
	r := rand.New(rand.NewPCG(seed, 1))
	p := plan{shards: 1, length: time.Duration(4+r.IntN(9)) * time.Second, accounts: 2 + r.IntN(2), pace: time.Duration(40+r.IntN(400)) * time.Millisecond}
	p.climate = climate{raft: 2 * time.Millisecond, link: 2 * time.Millisecond, tail: 0.01}
	if r.IntN(4) == 0 {
		p.shards = 2 // receipts go from one group to another
	}
	p.trailing = []uint64{4, 20, 1 << 20}[r.IntN(3)]
	switch r.IntN(4) {
	case 0:
		p.climate.raft, p.climate.loss = 40*time.Millisecond, 0.02
	case 1:
		p.climate.link, p.climate.linkFailure = 30*time.Millisecond, 0.002
	case 2:
		p.climate.tail = 0.05
	}
	for range 2 + r.IntN(6) {
		e := kinds[r.IntN(len(kinds))](r)
		e.at = time.Duration(r.Int64N(int64(p.length)))
		p.events = append(p.events, e)
	}
	slices.SortStableFunc(p.events, func(a, b event) int { return int(a.at - b.at) })
	return p
}

// kinds draw one fault each. What is listed twice is drawn twice as often.
var kinds = []func(*rand.Rand) event{powerCut, powerCut, cutAtSync, cutAtSync, allOff, restart, partition, partition, slowAnswers, slowAnswers, deposed, deposed, gatewayDies, clockStep}

// span draws how long a fault lasts: mostly short against the timeouts, at times longer.
func span(r *rand.Rand) time.Duration {
	if r.IntN(4) == 0 {
		return time.Duration(r.Int64N(int64(8 * time.Second)))
	}
	return time.Duration(r.Int64N(int64(1500 * time.Millisecond)))
}

// someProcess draws a router or an offline, by its place in World.procs.
func someProcess(r *rand.Rand) int { return r.IntN(2 * machines) }

// powerCut takes the power from a process, and gives it back.
func powerCut(r *rand.Rand) event {
	n, silent, down := someProcess(r), r.IntN(4) == 0, span(r)
	return event{what: "power cut", do: func(w *World) {
		w.begin(func() { w.procs[n].bounce(down, func(p *process) { p.kill(silent) }) })
	}}
}

// cutAtSync takes the power from a process before one of its next syncs, so that it dies between two writes that belong together.
func cutAtSync(r *rand.Rand) event {
	n, sync, down := someProcess(r), 1+r.Int64N(60), span(r)
	return event{what: "power cut at a sync", do: func(w *World) {
		w.begin(func() {
			p, cut := w.procs[n], make(chan struct{})
			p.disk.CutIn(sync, func() { p.lose(); close(cut) })
			limit := time.NewTimer(3 * time.Second)
			defer limit.Stop()
			select {
			case <-cut:
				p.bounce(down, func(p *process) { p.kill(false) })
			case <-limit.C:
				p.disk.Spare()
			}
		})
	}}
}

// allOff takes the power from every process of a role at once.
func allOff(r *rand.Rand) event {
	first, down := machines*r.IntN(2), span(r)
	return event{what: "power cut of all", do: func(w *World) {
		for _, p := range w.procs[first : first+machines] {
			w.begin(func() { p.bounce(down, func(p *process) { p.kill(false) }) })
		}
	}}
}

// restart stops a process in order and starts it again.
func restart(r *rand.Rand) event {
	n, down := someProcess(r), span(r)
	return event{what: "restart", do: func(w *World) {
		w.begin(func() { w.procs[n].bounce(down, (*process).stop) })
	}}
}

// bounce ends a process and starts it again after a while.
func (p *process) bounce(down time.Duration, end func(*process)) {
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	end(p)
	time.Sleep(down) // in the bubble, as all of this package
	p.start()
}

// partition cuts some processes off from the others, in both directions or in one.
func partition(r *rand.Rand) event {
	var side [2*machines + gateways]bool
	whole := r.IntN(2) == 0 // machines, not processes
	lone := r.IntN(machines)
	for i := range side {
		if whole {
			side[i] = i >= gateways && (i-gateways)%machines == lone
		} else {
			side[i] = r.IntN(3) == 0
		}
	}
	out, in := true, true
	switch r.IntN(4) {
	case 0:
		out = false
	case 1:
		in = false
	}
	last := span(r)
	return event{what: "partition", do: func(w *World) {
		names := w.names()
		var ways []way
		for i, a := range names {
			for j, b := range names {
				if side[i] && !side[j] {
					if out {
						ways = append(ways, way{a, b})
					}
					if in {
						ways = append(ways, way{b, a})
					}
				}
			}
		}
		time.AfterFunc(last, w.weather.cut(ways))
	}}
}

// slowAnswers makes what goes to one process, or from it, slow, so that it learns late what the others have decided.
func slowAnswers(r *rand.Rand) event {
	n, to, all, d, last := someProcess(r), r.IntN(3) > 0, r.IntN(3) == 0, time.Duration(r.Int64N(int64(1200*time.Millisecond)))+1, span(r)
	return event{what: "slow", do: func(w *World) {
		name := w.procs[n].name
		var ways []way
		for i, other := range w.names() {
			if other == name || (!all && i < gateways) {
				continue
			}
			if to {
				ways = append(ways, way{other, name})
			} else {
				ways = append(ways, way{name, other})
			}
		}
		time.AfterFunc(last, w.weather.delay(ways, d))
	}}
}

// deposed has the others elect another leader of a directory while the leader hears late that they do not follow it any more, and one
// gateway hears late of the other. Meanwhile everybody adds to the directory, and asks it for what was added.
func deposed(r *rand.Rand) event {
	deaf, late := r.IntN(gateways), time.Duration(200+r.IntN(300))*time.Millisecond
	return event{what: "deposed", do: func(w *World) {
		leader := w.leaderOf(stanza.DirGroup(0))
		if leader == "" {
			return
		}
		var to, from, told []way
		for _, p := range w.procs[:machines] {
			if p.name != leader {
				to, from = append(to, way{p.name, leader}), append(from, way{leader, p.name})
				told = append(told, way{p.name, gatewayName(deaf)})
			}
		}
		w.rush(2 * time.Second)
		w.begin(func() {
			healTo, healTold := w.weather.delay(to, late), w.weather.cut(told)
			time.Sleep(late)
			healFrom := w.weather.cut(from)
			time.Sleep(1500 * time.Millisecond)
			healFrom()
			healTo()
			healTold()
		})
	}}
}

// gatewayDies ends a gateway with its sessions, and starts another run of it.
func gatewayDies(r *rand.Rand) event {
	n, down, run := r.IntN(gateways), span(r), r.Uint64()
	return event{what: "gateway dies", do: func(w *World) {
		w.mu.Lock()
		g := w.gws[n]
		up := g != nil && !g.dead
		if up {
			w.gws[n] = nil
		}
		w.mu.Unlock()
		if !up {
			return
		}
		w.begin(func() {
			g.crash()
			time.Sleep(down)
			w.startGateway(n, run)
		})
	}}
}

// clockStep starts a process again with its wall clock an hour forth or back.
func clockStep(r *rand.Rand) event {
	n, step, down := someProcess(r), time.Hour, span(r)
	if r.IntN(2) == 0 {
		step = -time.Hour
	}
	return event{what: "restart with another clock", do: func(w *World) {
		w.begin(func() {
			w.procs[n].bounce(down, func(p *process) {
				p.stop()
				p.skew += step
			})
		})
	}}
}
