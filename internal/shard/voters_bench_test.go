package shard

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
	"linecard.example/internal/stanza"
)

const benchGroups = 16

// seats are three hosts on files with the default timeouts, each with a replica of every group.
type seats struct {
	hosts  [3]*Host
	groups [3][benchGroups]*toyGroup
}

func openSeats(b *testing.B) *seats {
	b.Helper()
	s := new(seats)
	var trans [3][benchGroups]*raft.InmemTransport
	for i := range 3 {
		for g := range benchGroups {
			_, trans[i][g] = raft.NewInmemTransport(raft.ServerAddress(fmt.Sprint("n", i)))
			for j := range i {
				trans[i][g].Connect(trans[j][g].LocalAddr(), trans[j][g])
				trans[j][g].Connect(trans[i][g].LocalAddr(), trans[i][g])
			}
		}
	}
	for i := range 3 {
		cfg := testConfig(vfs.Default)
		cfg.Dir, cfg.NodeID, cfg.Heartbeat, cfg.Join = filepath.Join(b.TempDir(), "d"), fmt.Sprint("n", i), 0, i > 0
		cfg.Transport = func(g stanza.Group) (raft.Transport, raft.ServerAddress) {
			return trans[i][g.Shard()], raft.ServerAddress(cfg.NodeID)
		}
		s.hosts[i] = openHost(b, cfg)
		for g := range benchGroups {
			m := newToy()
			m.led = make(chan uint64, 1<<16)
			var err error
			if s.groups[i][g], err = Open[int, uint64](s.hosts[i], stanza.QueueGroup(g), m); err != nil {
				b.Fatal(err)
			}
		}
	}
	for _, h := range s.hosts {
		h.Want(func(stanza.Group) []string { return names([]int{0, 1, 2}) })
	}
	s.await(b, func(all []GroupStatus) bool {
		return !slices.ContainsFunc(all, func(x GroupStatus) bool {
			return len(x.Servers) != 3 || slices.ContainsFunc(x.Servers, func(r ServerStatus) bool { return !r.Voter })
		})
	})
	return s
}

// await waits until ok of the status of all that lead, who have to be as many as there are groups.
func (s *seats) await(b *testing.B, ok func([]GroupStatus) bool) {
	b.Helper()
	for limit := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) { // the status is looked at, nothing announces it
		var all []GroupStatus
		for _, h := range s.hosts {
			for _, x := range h.Status() {
				if x.Leading {
					all = append(all, x)
				}
			}
		}
		if len(all) == benchGroups && ok(all) {
			return
		}
		if time.Now().After(limit) {
			b.Fatalf("%d groups of %d are led", len(all), benchGroups)
		}
	}
}

// BenchmarkHandOver hands over all groups of whoever leads the first, and waits until all are led again.
func BenchmarkHandOver(b *testing.B) {
	s := openSeats(b)
	var all []float64
	for b.Loop() {
		one := slices.IndexFunc(s.hosts[:], func(h *Host) bool { return h.Status()[0].Leading })
		begun := time.Now()
		if err := s.hosts[one].HandOver(context.Background()); err != nil {
			b.Fatal(err)
		}
		s.await(b, func([]GroupStatus) bool { return true })
		all = append(all, float64(time.Since(begun).Microseconds())/1000)
	}
	slices.Sort(all)
	b.ReportMetric(all[len(all)/2], "p50-ms")
	b.ReportMetric(all[len(all)-1], "max-ms")
}

// BenchmarkStarved counts elections while twelve other processes do nothing but use the processors: a leader that is late is not a dead one.
func BenchmarkStarved(b *testing.B) {
	s := openSeats(b)
	term := func() (sum uint64) {
		for _, x := range s.hosts[0].Status() {
			sum += x.Term
		}
		return sum
	}
	for range 12 {
		spin := exec.Command("sh", "-c", "while :; do :; done")
		if err := spin.Start(); err != nil {
			b.Fatal(err)
		}
		defer func() { _, _ = spin.Process.Kill(), spin.Wait() }()
	}
	before := term()
	for b.Loop() {
		time.Sleep(10 * time.Second) // starved meanwhile: what is counted is elections
	}
	b.ReportMetric(float64(term()-before)/float64(b.N), "elections/10s")
}
