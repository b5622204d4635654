package shard

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"linecard.example/internal/stanza"
)

// BenchmarkIdleGroups shows what groups of three cost when nothing happens, in each of three processes that run as one here and lead a
// third of the groups each: share of a core, goroutines and connections.
func BenchmarkIdleGroups(b *testing.B) {
	for _, groups := range []int{1, 16, 64} {
		b.Run(fmt.Sprint("groups=", groups), func(b *testing.B) {
			heartbeat := 300 * time.Millisecond
			if groups > 16 {
				heartbeat = time.Second
			}
			none := runtime.NumGoroutine()
			ss := openStationsWith(b, groups, heartbeat)
			for g := range groups {
				handTo(b, stanza.Group(g), ss[g%3], ss...)
			}
			b.ResetTimer()
			for b.Loop() {
				cpu, began := cpuTime(), time.Now()
				time.Sleep(4 * time.Second) // what is measured is that nothing happens
				b.ReportMetric(100*float64(cpuTime()-cpu)/float64(time.Since(began))/3, "%core/process")
				b.ReportMetric(float64(runtime.NumGoroutine()-none)/3/float64(groups), "goroutines/group")
				b.ReportMetric(float64(ss[0].n.Connections())/float64(groups), "conns/group")
			}
		})
	}
}

// BenchmarkDial shows what a connection costs both ends together.
func BenchmarkDial(b *testing.B) {
	ca, all := newAuthority(b), new(members)
	from := newStation(b, ca, all, "n0")
	newStation(b, ca, all, "n1")
	cpu := cpuTime()
	for b.Loop() {
		c, err := from.n.dial(context.Background(), "n1", nil, 0)
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N)/1000, "cpu-us/op")
}

// BenchmarkCommandOfThree is BenchmarkCommand with three replicas over TLS, which run in one process: the CPU is that of all.
func BenchmarkCommandOfThree(b *testing.B) {
	const groups = 16
	for _, c := range []struct{ size, inFlight int }{{64, 4}, {8, 4}, {1, 4}} {
		b.Run(fmt.Sprintf("packs=%d/inflight=%d", c.size, c.inFlight), func(b *testing.B) {
			ca, all := newAuthority(b), new(members)
			var ms []*null
			for i := range 3 {
				s := newStation(b, ca, all, fmt.Sprint("n", i))
				h := openHost(b, HostConfig{Dir: b.TempDir(), NodeID: s.id, Bootstrap: true, Join: i > 0, PackCommands: c.size,
					PacksInFlight: c.inFlight, Network: s.n})
				for g := range groups {
					if i == 0 {
						ms = append(ms, openNull(b, h, stanza.Group(g), c.inFlight*c.size))
						continue
					}
					if _, err := Open[int, struct{}](h, stanza.Group(g), &null{led: make(chan struct{}, 1)}); err != nil {
						b.Fatal(err)
					}
					if err := ms[g].g.raft.AddVoter(raft.ServerID(s.id), raft.ServerAddress(s.id), 0, 10*time.Second).Error(); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ResetTimer()
			before := cpuTime()
			var wg sync.WaitGroup
			for i, m := range ms {
				wg.Go(func() { m.run(b, (b.N+i)/groups) })
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(cpuTime()-before)/float64(b.N)/1000, "cpu-us/op")
		})
	}
}
