package bench

import (
	"cmp"
	"fmt"
	"math"

	"linecard.example/bench/meter"
	"linecard.example/bench/report"
	"linecard.example/bench/swarm"
)

const (
	slowClients  = 5000
	slowTalkers  = 50       // pairs: 100 others
	slowSize     = 4 << 10  // bytes of a message for a slow client
	slowMessages = 32       // for each: twice what the servers may hold of it in memory
	goalSlow     = 64 << 10 // bytes of a slow client in all servers together
	goalSlowCPU  = 1.2

	// By default the servers close a client that acks nothing for 45 s, and this takes longer.
	gatewayPatience = "ack_timeout = \"3m\"\n"
	offlinePatience = "unresponsive = \"1h\"\n"

	restLooks = 12 // so many looks in a row that find no less held than before: the servers are at rest
	restLimit = 90 // looks at most
	restShare = 0.99
)

// held is what the servers hold at a moment.
type held struct {
	servers parts
	heaps   map[string]float64 // living, by part
	kernel  meter.Kernel
}

// slow has clients that never read, on connections as phones far away have them, get more than the servers may hold of it, and looks at
// what that costs the servers' memory and the messages of others.
func (r *run) slow() error {
	n := cmp.Or(r.o.Sessions, slowClients)
	talkers := swarm.Range{Count: 2 * slowTalkers}
	victims := swarm.Range{From: talkers.Count, Count: 2 * n}
	r.patience()
	if err := r.up(talkers.Count+2*n, talkers.Count); err != nil {
		return err
	}
	r.rep.Title = fmt.Sprintf("%d clients that never read, %d that talk", n, talkers.Count)
	deaf, err := r.openSlow(victims)
	if err != nil {
		return err
	}
	talk := swarm.Pairs{Range: talkers, Size: loadSize, InFlight: inFlight, Warmup: r.warmup(), Duration: r.warmup() + cmp.Or(r.o.Hold, loadFor)}
	quiet, err := r.load("talk, quiet", talk)
	if err != nil {
		return err
	}
	before, err := r.rested() // what the talk has left is not theirs
	if err != nil {
		return err
	}
	if err := r.fleet.Slow(r.ctx, swarm.Slow{Range: deaf}); err != nil {
		return err
	}
	filled, err := r.load("fill", swarm.Pairs{Range: victims, Size: slowSize, Messages: slowMessages, Blind: true})
	if err != nil {
		return err
	}
	burst, err := r.sys.look(true)
	if err != nil {
		return err
	}
	full, err := r.rested()
	if err != nil {
		return err
	}
	beside, err := r.load("talk, beside slow clients", talk)
	if err != nil {
		return err
	}
	c, err := r.sys.counters()
	if err != nil {
		return err
	}
	r.add(report.Figure{Key: "slow_clients", Name: "clients that never read", Value: float64(n)})
	r.add(report.Figure{Key: "slow_left", Name: "  of them there to the end", Value: c.sum("linecard_gateway_sessions") - float64(talkers.Count+n), Better: report.More})
	r.add(report.Figure{Key: "slow_messages", Name: fmt.Sprintf("messages of %s stored for them", report.Bytes(slowSize)), Value: float64(filled.traffic.Acked)})
	r.slowMemory(float64(n), before, full, burst)
	r.slowTalk(quiet, beside)
	return nil
}

// patience has the servers that are started keep clients for as long as the run takes.
func (r *run) patience() {
	if r.o.remote() {
		return
	}
	more := map[string]string{"gateway": gatewayPatience, "offline": offlinePatience}
	for section, lines := range r.o.Settings {
		more[section] += lines
	}
	r.o.Settings = more
}

// openSlow opens pairs whose recipients are far away, and returns these.
func (r *run) openSlow(pairs swarm.Range) (far swarm.Range, err error) {
	if _, _, err := r.open("open", swarm.Open{Range: swarm.Range{Count: pairs.From + pairs.Count}, Mode: swarm.Register}); err != nil {
		return far, err
	}
	far = swarm.Range{From: pairs.From + 1, Count: pairs.Count - 1, Step: 2}
	if err := r.leave(far); err != nil {
		return far, err
	}
	_, _, err = r.open("far away", swarm.Open{Range: far, Mode: swarm.Bind, Far: true})
	return far, err
}

// rested waits until the servers hold no less from look to look, and returns what they hold then: what a burst has left they give back by
// themselves, when they have been quiet for some seconds. A collection forced from outside would give nothing back.
func (r *run) rested() (h held, err error) {
	least := math.Inf(1)
	for looks, calm := 0, 0; calm < restLooks && looks < restLimit; looks++ {
		if err := r.rest(r.pause()); err != nil {
			return h, err
		}
		if h.servers, err = r.sys.look(true); err != nil {
			return h, err
		}
		calm++
		if pss := float64(h.servers.memory().PSS); pss < restShare*least {
			least, calm = pss, 0
		}
	}
	if h.kernel, err = meter.ReadKernel(); err != nil {
		return h, err
	}
	h.heaps, err = r.sys.living()
	return h, err
}

// slowMemory reports what the servers hold for each of n slow clients.
func (r *run) slowMemory(n float64, before, full held, burst parts) {
	each := func(more, less float64) float64 { return (more - less) / n }
	r.add(report.Figure{Key: "slow_bytes_per_client", Name: "memory of all servers per slow client, at rest", Unit: "B",
		Value: each(pss(full.servers), pss(before.servers)), Goal: goalSlow, Better: report.Less})
	r.add(report.Figure{Key: "slow_burst_bytes_per_client", Name: "  at the end of the burst, with what went through", Unit: "B",
		Value: each(pss(burst), pss(before.servers)), Better: report.Less})
	heap := 0.0
	t := report.Table{Title: "Memory of the servers at rest (proportional set size)",
		Header: []string{"part", "before", "with what slow clients do not read", "per slow client", "of it living heap"}}
	for _, p := range full.servers {
		was, living := before.servers.part(p.Name).Memory.PSS, each(full.heaps[p.Name], before.heaps[p.Name])
		heap += living
		t.Rows = append(t.Rows, []string{p.Name, report.Bytes(float64(was)), report.Bytes(float64(p.Memory.PSS)),
			fmt.Sprintf("%.0f B", each(float64(p.Memory.PSS), float64(was))), fmt.Sprintf("%.0f B", living)})
	}
	r.rep.Tables = append(r.rep.Tables, t)
	r.add(report.Figure{Key: "slow_heap_bytes_per_client", Name: "  living heap of all servers, at rest", Unit: "B", Value: heap, Better: report.Less})
	r.add(report.Figure{Key: "slow_kernel_bytes_per_client", Name: "  kernel memory, both ends", Unit: "B",
		Value: float64(full.kernel.Since(before.kernel).Total()) / n, Better: report.Less})
}

// slowTalk compares what messages of others cost.
func (r *run) slowTalk(quiet, beside loaded) {
	q, b := report.Median(quiet.cpu()), report.Median(beside.cpu())
	r.add(report.Figure{Key: "quiet_cpu_us", Name: "talk of others: server CPU per message without slow clients", Unit: "us", Samples: quiet.cpu(), Better: report.Less})
	r.add(report.Figure{Key: "beside_cpu_us", Name: "  with them", Unit: "us", Samples: beside.cpu(), Better: report.Less})
	r.add(report.Figure{Key: "cpu_ratio", Name: "  ratio", Value: b / q, Goal: goalSlowCPU, Better: report.Less})
}
