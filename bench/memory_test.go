package bench

import (
	"runtime"
	"testing"
	"time"
)

const (
	idleSessions = 2000
	idleFor      = 5 * time.Second
)

// BenchmarkMemory reports what the server's processes hold, and burn, empty and with bound sessions that say nothing. The marginal
// bytes of a session are after a collection, which a page of the admin listener forces in both states: between collections a heap holds
// garbage too.
func BenchmarkMemory(b *testing.B) {
	s := start(b)
	fresh := s.idle()
	s.connectAll(newDevices(s, 0, idleSessions))
	full := s.idle()
	marginal := float64(full.swept.pss-fresh.swept.pss) / idleSessions
	b.ReportMetric(float64(fresh.asIs.pss)/(1<<20), "empty-MiB")
	b.ReportMetric(float64(full.asIs.pss)/(1<<20), "full-MiB")
	b.ReportMetric(marginal, "B/session")
	for _, m := range []struct {
		name string
		at   idleState
	}{{"empty server", fresh}, {"2,000 bound idle sessions", full}} {
		table.add(m.name+": RSS / PSS", "-", "%.1f / %.1f MiB", mib(m.at.asIs.rss), mib(m.at.asIs.pss))
		table.add("  the same after a forced collection", "-", "%.1f / %.1f MiB", mib(m.at.swept.rss), mib(m.at.swept.pss))
		table.add("  CPU while idle; others used", "-", "%.2f %% of a core; %.0f %%",
			100*float64(m.at.cost.server())/float64(m.at.cost.wall), m.at.cost.others(runtime.NumCPU()))
	}
	table.add("PSS per session, all parts, after collections, base not counted", "next issue", "%.0f B", marginal)
}

// idleState is a server that is asked nothing.
type idleState struct {
	asIs, swept memory
	cost        cost
}

func (s *system) idle() (m idleState) {
	s.b.Helper()
	s.rest(settleTime)
	m.cost = s.costOf(func() { s.rest(idleFor) })
	m.asIs = residents(s.Processes())
	for range 2 { // what the first one finds out of use, the second returns
		for _, role := range s.roles() {
			if status, page := s.Get(role, "/debug/pprof/heap?gc=1"); status != 200 {
				s.b.Fatal("collection: ", status, " ", page)
			}
		}
	}
	s.rest(settleTime)
	m.swept = residents(s.Processes())
	return m
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
