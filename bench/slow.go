package bench

import (
	"cmp"
	"fmt"

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
)

// slow has clients that never read get more than the servers may hold of it, and looks at what that costs the servers' memory and the
// messages of others.
func (r *run) slow() error {
	n := cmp.Or(r.o.Sessions, slowClients)
	talkers := swarm.Range{Count: 2 * slowTalkers}
	victims := swarm.Range{From: talkers.Count, Count: 2 * n}
	if err := r.up(talkers.Count+2*n, nil); err != nil {
		return err
	}
	r.rep.Title = fmt.Sprintf("%d clients that never read, %d that talk", n, talkers.Count)
	if _, _, err := r.open("open", swarm.Open{Range: swarm.Range{Count: talkers.Count + 2*n}, Mode: swarm.Register}); err != nil {
		return err
	}
	talk := swarm.Pairs{Range: talkers, Size: loadSize, InFlight: inFlight, Warmup: r.warmup(), Duration: r.warmup() + cmp.Or(r.o.Hold, loadFor)}
	quiet, err := r.load("talk, quiet", talk)
	if err != nil {
		return err
	}
	if _, err := r.swept(); err != nil { // what the talk has left is not theirs
		return err
	}
	before, err := r.swept()
	if err != nil {
		return err
	}
	kernel, err := meter.ReadKernel()
	if err != nil {
		return err
	}
	deaf := swarm.Range{From: victims.From + 1, Count: victims.Count - 1, Step: 2}
	if err := r.fleet.Slow(r.ctx, swarm.Slow{Range: deaf}); err != nil {
		return err
	}
	filled, err := r.load("fill", swarm.Pairs{Range: victims, Size: slowSize, Messages: slowMessages, Blind: true})
	if err != nil {
		return err
	}
	asIs, err := r.sys.look(true)
	if err != nil {
		return err
	}
	full, err := r.swept()
	if err != nil {
		return err
	}
	heaps, err := r.sys.heaps()
	if err != nil {
		return err
	}
	now, err := meter.ReadKernel()
	if err != nil {
		return err
	}
	beside, err := r.load("talk, beside slow clients", talk)
	if err != nil {
		return err
	}
	q, b := report.Median(quiet.cpu()), report.Median(beside.cpu())
	r.add(report.Figure{Key: "slow_clients", Name: "clients that never read", Value: float64(n)})
	r.add(report.Figure{Key: "slow_messages", Name: fmt.Sprintf("messages of %s stored for them", report.Bytes(slowSize)), Value: float64(filled.traffic.Acked)})
	r.add(report.Figure{Key: "slow_bytes_per_client", Name: "memory of all servers per slow client, after forced collections", Unit: "B",
		Value: float64(full.memory().PSS-before.memory().PSS) / float64(n), Goal: goalSlow, Better: report.Less})
	r.add(report.Figure{Key: "slow_asis_bytes_per_client", Name: "  as it is, with the garbage of what went through", Unit: "B",
		Value: float64(asIs.memory().PSS-before.memory().PSS) / float64(n), Better: report.Less})
	t := report.Table{Title: "Memory of the servers (proportional set size, after forced collections)", Header: []string{"part", "before", "with what slow clients do not read", "per slow client", "of it live heap, all"}}
	for _, p := range full {
		was := before.part(p.Name).Memory.PSS
		t.Rows = append(t.Rows, []string{p.Name, report.Bytes(float64(was)), report.Bytes(float64(p.Memory.PSS)), fmt.Sprintf("%.0f B", float64(p.Memory.PSS-was)/float64(n)), report.Bytes(heaps[p.Name])})
	}
	r.rep.Tables = append(r.rep.Tables, t)
	r.add(report.Figure{Key: "slow_kernel_bytes_per_client", Name: "  kernel memory, both ends", Unit: "B", Value: float64(now.Since(kernel).Total()) / float64(n), Better: report.Less})
	r.add(report.Figure{Key: "quiet_cpu_us", Name: "talk of others: server CPU per message without slow clients", Unit: "us", Samples: quiet.cpu(), Better: report.Less})
	r.add(report.Figure{Key: "beside_cpu_us", Name: "  with them", Unit: "us", Samples: beside.cpu(), Better: report.Less})
	r.add(report.Figure{Key: "cpu_ratio", Name: "  ratio", Value: b / q, Goal: goalSlowCPU, Better: report.Less})
	return nil
}

// swept has the servers collect their garbage, twice, since what the first collection finds out of use the second returns, and reads what
// they hold then.
func (r *run) swept() (parts, error) {
	for range 2 {
		for _, addr := range r.sys.admin() {
			if err := collect(addr); err != nil {
				return nil, err
			}
		}
	}
	return r.sys.look(true)
}
