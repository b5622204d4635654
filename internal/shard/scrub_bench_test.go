package shard

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble"
	"linecard.example/internal/stanza"
)

// BenchmarkScrub measures one scrub of each of 16 groups on a real disk: time, CPU and bytes written. Between two of them, outside of
// the time, moved messages of 200 bytes are stored and deleted again, while waiting ones stay.
func BenchmarkScrub(b *testing.B) {
	for _, c := range []struct {
		name           string
		waiting, moved int
	}{{"idle", 0, 0}, {"100k waiting, idle", 100_000, 0}, {"100k waiting, 100k moved", 100_000, 100_000}} {
		b.Run(c.name, func(b *testing.B) {
			const groups = 16
			h := openHost(b, HostConfig{Dir: b.TempDir(), NodeID: "n", Bootstrap: true, Heartbeat: 20 * time.Millisecond})
			var gs []*Group[int, struct{}]
			var ms []*keeper
			for i := range groups {
				m := newKeeper()
				g, err := Open[int, struct{}](h, stanza.QueueGroup(i), m)
				if err != nil {
					b.Fatal(err)
				}
				<-m.led
				gs, ms = append(gs, g), append(ms, m)
			}
			rng := rand.New(rand.NewPCG(1, 2))
			// Keys of what moves lie among those of what waits, as they do in queues.
			each := func(first, n int, cmd func(key []byte) []byte) {
				for i := 0; i < n; i += groups * MaxPackCommands {
					for j, g := range gs {
						if err := g.Call(b.Context(), func() {
							for k := range MaxPackCommands {
								key := binary.BigEndian.AppendUint64(nil, uint64(first+2*(i/groups+k)))
								if !g.Propose(cmd(key), 0) {
									b.Error("not accepted")
								}
							}
						}); err != nil {
							b.Fatal(err)
						}
						for range MaxPackCommands {
							<-ms[j].done
						}
					}
				}
			}
			store := func(key []byte) []byte {
				v := make([]byte, 200)
				for i := range v {
					v[i] = byte(rng.Uint32())
				}
				return append(bytes.Clone(key), v...)
			}
			scrubAll := func() {
				for _, g := range gs {
					if _, err := g.scrub(h.cfg.Clock()); err != nil {
						b.Fatal(err)
					}
				}
			}
			written := func() uint64 { return filesWritten(h.log) + filesWritten(h.state) }
			each(0, c.waiting, store)
			scrubAll()
			var bytesOut uint64
			var cpu time.Duration
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				each(1, c.moved, store)
				each(1, c.moved, func(key []byte) []byte { return key })
				from, used := written(), cpuTime()
				b.StartTimer()
				scrubAll()
				b.StopTimer()
				bytesOut += written() - from
				cpu += cpuTime() - used
				b.StartTimer()
			}
			b.ReportMetric(float64(bytesOut)/float64(b.N)/1e6, "MB-written/op")
			b.ReportMetric(cpu.Seconds()*1000/float64(b.N), "cpu-ms/op")
		})
	}
}

// filesWritten returns the bytes that a database has written to files.
func filesWritten(db *pebble.DB) uint64 {
	m := db.Metrics()
	n := m.WAL.BytesWritten
	for _, l := range m.Levels {
		n += l.BytesFlushed + l.BytesCompacted
	}
	return n
}
