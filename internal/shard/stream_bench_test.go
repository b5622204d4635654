package shard

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
)

// BenchmarkState sends the state of one group, 200,000 records of 200 random bytes, on a real disk: read twice as for another
// replica, and received and taken in there, too.
func BenchmarkState(b *testing.B) {
	const records = 200_000
	open := func() *Host {
		cfg := testConfig(vfs.Default)
		cfg.Dir, cfg.Cache, cfg.LogMemTable, cfg.StateMemTable = b.TempDir(), 64<<20, 32<<20, 32<<20
		return openHost(b, cfg)
	}
	from := open()
	rng := rand.New(rand.NewPCG(1, 1))
	for i := 0; i < records; {
		batch := Tables{db: from.state, g: testGroup}.Ahead()
		for range 1000 {
			v := make([]byte, 200)
			for j := 0; j < len(v); j += 8 {
				binary.LittleEndian.PutUint64(v[j:], rng.Uint64())
			}
			batch.Set(binary.BigEndian.AppendUint64(nil, uint64(i)), v)
			i++
		}
		batch.setApplied(10, 1)
		if err := batch.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	if err := from.flushState(); err != nil {
		b.Fatal(err)
	}
	meta := &raft.SnapshotMeta{Version: 1, Index: 10, Term: 1, Configuration: seatConf, ConfigurationIndex: 1}
	send := func(b *testing.B, w io.Writer) {
		x, size, err := openStream(from.state, testGroup, 10, func() bool { return false })
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(size)
		if n, err := io.Copy(w, x); err != nil || n != size {
			b.Fatal(n, err)
		}
		if err := x.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("send", func(b *testing.B) {
		for b.Loop() {
			send(b, io.Discard)
		}
	})
	b.Run("send and take in", func(b *testing.B) {
		to := open()
		for b.Loop() {
			r := newReceiver(to, testGroup)
			send(b, r)
			if err := r.finish(meta); err != nil {
				b.Fatal(err)
			}
			if err := to.state.Ingest(r.files); err != nil {
				b.Fatal(err)
			}
			r.remove()
		}
	})
}
