package bench

import (
	"cmp"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"time"

	"linecard.example/bench/relay"
	"linecard.example/bench/report"
)

const (
	relayAllocations = 4000
	relayMost        = 8000
	relayTime        = 2 * time.Second
	relayRounds      = 5
	relayFew         = 50   // clients of most loads
	relaySize        = 200  // bytes of a packet: a voice frame
	relayWindow      = 4    // packets that a client has under way, flat out
	relayStarts      = 3    // of processes whose memory is read, if there are as many rounds
	relayTouch       = 8000 // packets a second that allocations have had when memory is read

	goalRelayFlat   = 0.7   // times coturn's CPU, flat out
	goalRelayPaced  = 1     // the same at 10,000 packets a second
	goalRelayMemory = 13000 // bytes of an allocation
)

// relayLoad is one kind of load.
type relayLoad struct {
	key, name string
	o         relay.Options
	goal      float64 // of turnd's CPU, times coturn's; 0: none
}

// relayLoads are all of them, for so many allocations at most.
func relayLoads(most int) []relayLoad {
	few, many := min(relayFew, most), max(1, most/4)
	return []relayLoad{
		{"flat", fmt.Sprintf("flat out, %d clients, %d packets of each under way", few, relayWindow), relay.Options{Sessions: few, Window: relayWindow}, goalRelayFlat},
		{"paced", fmt.Sprintf("10,000 packets/s, %d clients", few), relay.Options{Sessions: few, Rate: 10000}, goalRelayPaced},
		{"slow", fmt.Sprintf("1,000 packets/s, %d clients", few), relay.Options{Sessions: few, Rate: 1000}, 0},
		{"many", fmt.Sprintf("10,000 packets/s, %d clients", many), relay.Options{Sessions: many, Rate: 10000}, 0},
	}
}

// relay measures what a relayed packet and an allocation cost turnd, beside coturn with the same client where coturn is installed, and beside
// packets that nobody relays.
func (r *run) relay() (err error) {
	if r.o.Shape != Apart || r.o.remote() {
		return fmt.Errorf("%w: relay needs --shape apart, and processes here", errOptions)
	}
	r.o.Relay = true
	allocations := cmp.Or(r.o.Sessions, relayAllocations)
	if err := readHost().relays(allocations); err != nil {
		return err
	}
	r.progress.say("relay: %d allocations", allocations)
	if r.sys, err = startSystem(r.ctx, r.o, 1); err != nil {
		return err
	}
	servers, err := r.relayServers()
	if err != nil {
		return err
	}
	for _, s := range servers {
		defer func() { err = errors.Join(err, s.daemon.stop()) }()
	}
	r.rep.Title = fmt.Sprintf("Packets of %d bytes between clients of a relay and peers, by UDP, in channels", relaySize)
	r.add(report.Figure{Key: "allocations", Name: "allocations, at most", Value: float64(allocations)})
	for _, s := range servers {
		if err := r.relayMemory(s, allocations); err != nil {
			return err
		}
	}
	for _, s := range servers {
		if err := s.start(r.ctx); err != nil {
			return err
		}
	}
	if err := r.relayAlone(servers[0]); err != nil {
		return err
	}
	loads := relayLoads(allocations)
	results, err := r.relayRuns(servers, loads)
	if err != nil {
		return err
	}
	for _, l := range loads {
		r.relayFigures(l, servers, results)
	}
	r.relayOthers(results)
	return nil
}

// relays says what so many allocations lack here.
func (h host) relays(allocations int) error {
	if allocations > relayMost {
		return fmt.Errorf("%w: %d allocations: want %d at most, since each server has 10,000 ports for them", errOptions, allocations, relayMost)
	}
	if need := uint64(2*allocations + engineSpare); h.hardFiles > 0 && h.hardFiles < need {
		return fmt.Errorf("%w: open files: the hard limit is %d, the clients and peers of %d allocations need %d", errMachine, h.hardFiles, allocations, need)
	}
	return nil
}

// relayAlone ends the rest of linecard: turnd has its secrets from it by now, and its ticks, 4 % of a processor, would be noise to all.
func (r *run) relayAlone(ours *turnServer) error {
	for _, d := range slices.Backward(r.sys.daemons) {
		if d == ours.daemon {
			continue
		}
		if err := d.stop(); err != nil {
			return err
		}
	}
	return nil
}

// relayServers returns what is measured, not running: turnd, and coturn if it is installed.
func (r *run) relayServers() ([]*turnServer, error) {
	ours := r.sys.turnd()
	if err := ours.daemon.stop(); err != nil {
		return nil, err
	}
	exe, err := exec.LookPath("turnserver")
	if err != nil {
		r.rep.Note("coturn is not installed: nothing to compare with")
		return []*turnServer{ours}, nil
	}
	theirs, err := r.sys.coturn(exe)
	return []*turnServer{ours, theirs}, err
}

// relayMemory reports what a server's fresh processes hold, and what an allocation adds that has a channel and has relayed packets: the difference
// between few of them and many.
func (r *run) relayMemory(s *turnServer, most int) error {
	var base, whole, each []float64
	few := max(1, most/20)
	for range min(relayStarts, r.relayRoundCount()) {
		if err := s.start(r.ctx); err != nil {
			return err
		}
		o := s.options(relay.Options{Sessions: most, Size: relaySize, Rate: relayTouch, Time: r.relayTime()})
		none, some, all, err := relay.Hold(o, few)
		if err != nil {
			return fmt.Errorf("%s: memory: %w", s.name, err)
		}
		base, whole = append(base, float64(none.PSS)), append(whole, float64(none.RSS))
		if most > few {
			each = append(each, float64(all.PSS-some.PSS)/float64(most-few))
		}
		if err := s.daemon.stop(); err != nil {
			return err
		}
	}
	f := report.Figure{Key: s.key + "_allocation_bytes", Name: fmt.Sprintf("%s: memory of an allocation, from %d to %d", s.name, few, most), Unit: "B", Samples: each, Better: report.Less}
	if s.key == "turnd" {
		f.Goal = goalRelayMemory
	}
	r.add(f)
	r.add(report.Figure{Key: s.key + "_base_bytes", Name: "  its process when it has started", Unit: "B", Samples: base, Better: report.Less})
	r.add(report.Figure{Key: s.key + "_base_resident_bytes", Name: "  the same with all pages that others map too", Unit: "B", Samples: whole, Better: report.Less})
	return nil
}

// relayTime is how long each load is on in each round.
func (r *run) relayTime() time.Duration { return cmp.Or(r.o.Hold, relayTime) }

func (r *run) relayRoundCount() int { return cmp.Or(r.o.Rounds, relayRounds) }

// relayRuns are the results of all rounds, by load and server; "direct" is nobody.
type relayRuns map[[2]string][]relay.Result

// relayRuns puts every load on nobody and on every server, one after the other, in rounds.
func (r *run) relayRuns(servers []*turnServer, loads []relayLoad) (relayRuns, error) {
	all := relayRuns{}
	rounds := r.relayRoundCount()
	for round := range rounds {
		r.progress.say("relay: round %d of %d", round+1, rounds)
		for _, l := range loads {
			o := l.o
			o.Size, o.Time, o.Warm = relaySize, r.relayTime(), r.relayTime()/4
			direct := o
			direct.Direct = true
			list := []relay.Options{direct}
			names := []string{"direct"}
			for _, s := range servers {
				list, names = append(list, s.options(o)), append(names, s.key)
			}
			for i := range list {
				at := i
				if round%2 == 1 { // what follows what is no server's part
					at = len(list) - 1 - i
				}
				if err := r.ctx.Err(); err != nil {
					return nil, err
				}
				res, err := relay.Run(list[at])
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", names[at], l.key, err)
				}
				key := [2]string{l.key, names[at]}
				all[key] = append(all[key], res)
			}
		}
	}
	return all, nil
}

// of returns a value of each round.
func (all relayRuns) of(load, server string, f func(relay.Result) float64) (list []float64) {
	for _, res := range all[[2]string{load, server}] {
		list = append(list, f(res))
	}
	return list
}

// relayFigures reports what the rounds of a load took.
func (r *run) relayFigures(l relayLoad, servers []*turnServer, all relayRuns) {
	for _, q := range relayQuantiles {
		r.add(report.Figure{Key: "direct_" + l.key + "_" + q.key + "_us", Name: fmt.Sprintf("%s: round trip without a relay, %s", l.name, q.name), Unit: "us",
			Samples: all.of(l.key, "direct", func(res relay.Result) float64 { return micros(q.of(res)) }), Better: report.Less})
	}
	var theirs *turnServer
	for _, s := range servers[1:] {
		theirs = s
	}
	for _, s := range servers {
		key, name := s.key+"_"+l.key, s.name+", "+l.name
		cpu := all.of(l.key, s.key, func(res relay.Result) float64 { return micros(res.PerPacket()) })
		goal := 0.0
		if s == servers[0] && theirs != nil {
			goal = l.goal * middle(all.of(l.key, theirs.key, func(res relay.Result) float64 { return micros(res.PerPacket()) }))
		}
		r.add(report.Figure{Key: key + "_cpu_us", Name: name + ": server CPU for a packet", Unit: "us", Samples: cpu, Goal: goal, Better: report.Less})
		r.add(report.Figure{Key: key + "_rate", Name: "  packets per second", Unit: "1/s", Samples: all.of(l.key, s.key, relay.Result.Rate), Better: report.More})
		r.add(report.Figure{Key: key + "_lost", Name: "  lost, of a million", Samples: all.of(l.key, s.key, relayLost), Better: report.Less})
		r.add(report.Figure{Key: key + "_switches", Name: "  context switches of the server for a packet", Samples: all.of(l.key, s.key, relaySwitches), Better: report.Less})
		for _, q := range relayQuantiles {
			goal := 0.0
			if s == servers[0] && theirs != nil && q.key == "p99" {
				goal = middle(all.added(l.key, theirs.key, q.of))
			}
			r.add(report.Figure{Key: key + "_added_" + q.key + "_us", Name: "  added to a round trip, two packets, " + q.name, Unit: "us",
				Samples: all.added(l.key, s.key, q.of), Goal: max(0, goal), Better: report.Less})
		}
	}
	if theirs != nil {
		ours, other := all[[2]string{l.key, servers[0].key}], all[[2]string{l.key, theirs.key}]
		var ratio []float64
		for i := range ours {
			ratio = append(ratio, micros(ours[i].PerPacket())/micros(other[i].PerPacket()))
		}
		r.add(report.Figure{Key: theirs.key + "_" + l.key + "_cpu_ratio", Name: l.name + ": " + servers[0].name + "'s CPU by " + theirs.name + "'s, round by round", Samples: ratio, Goal: l.goal, Better: report.Less})
	}
}

// relayQuantiles are those of round trips that are reported.
var relayQuantiles = []struct {
	key, name string
	of        func(relay.Result) time.Duration
}{
	{"p50", "median", func(res relay.Result) time.Duration { return res.P50 }},
	{"p99", "99th percentile", func(res relay.Result) time.Duration { return res.P99 }},
	{"p999", "99.9th percentile", func(res relay.Result) time.Duration { return res.P999 }},
}

// added is how much longer round trips took than without a relay, in microseconds: the quantile of each round less the same of the round's direct run.
func (all relayRuns) added(load, server string, q func(relay.Result) time.Duration) []float64 {
	list := all.of(load, server, func(res relay.Result) float64 { return micros(q(res)) })
	for i, direct := range all[[2]string{load, "direct"}] {
		list[i] -= micros(q(direct))
	}
	return list
}

// relayLost is how many of a million packets to peers did not come back.
func relayLost(res relay.Result) float64 {
	return 1e6 * float64(res.Lost) / max(1, float64(res.Packets)/2+float64(res.Lost))
}

func relaySwitches(res relay.Result) float64 {
	return float64(res.Switches) / max(1, float64(res.Packets))
}

// relayOthers reports how much of the machine's CPU was neither the server's nor the client's.
func (r *run) relayOthers(all relayRuns) {
	var list []float64
	for _, results := range all {
		for _, res := range results {
			list = append(list, res.Others.Seconds()/res.Time.Seconds()/float64(runtime.NumCPU()))
		}
	}
	r.add(report.Figure{Key: "others", Name: "share of the machine used by others, of all runs", Samples: list, Better: report.Less})
}
