package shard

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble"
	wal "github.com/cockroachdb/pebble/record"
	"github.com/cockroachdb/pebble/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"linecard.example/internal/stanza"
)

// batchOf returns the bytes of a batch with one log entry, as Pebble writes them.
func batchOf(t *testing.T, seq uint64, g stanza.Group, index uint64, data []byte) []byte {
	t.Helper()
	db, err := pebble.Open("", &pebble.Options{FS: vfs.NewMem()})
	must(t, err)
	defer db.Close()
	b := db.NewBatch()
	defer b.Close()
	must(t, b.Set(logKey(g, index), data, nil))
	r := bytes.Clone(b.Repr())
	binary.LittleEndian.PutUint64(r, seq)
	return r
}

// walOf returns a WAL with records.
func walOf(t *testing.T, number uint32, records ...[]byte) []byte {
	t.Helper()
	fs := vfs.NewMem()
	f, err := fs.Create("wal")
	must(t, err)
	w := wal.NewLogWriter(f, pebble.FileNum(number), wal.LogWriterConfig{WALFsyncLatency: prometheus.NewHistogram(prometheus.HistogramOpts{})})
	for _, r := range records {
		_, err := w.WriteRecord(r)
		must(t, err)
	}
	must(t, w.Close())
	b, err := readAll(fs, "wal")
	must(t, err)
	return b
}

// forged returns a chunk of the kind, for log number 7, around a record.
func forged(kind byte, rec []byte) []byte {
	b := binary.LittleEndian.AppendUint16(make([]byte, 4), uint16(len(rec)))
	b = append(b, kind)
	if kind >= recycleFull {
		b = binary.LittleEndian.AppendUint32(b, 7)
	}
	b = append(b, rec...)
	binary.LittleEndian.PutUint32(b, chunkSum(b[6:]))
	return b
}

// TestForgedRecord: what a client sends ends up in WALs, which are written over from the start, and what it sent is looked at when
// the node starts again after a kill. Chunks in it, with entries that would prove a loss, prove nothing.
func TestForgedRecord(t *testing.T) {
	far := func(seq uint64) []byte { return batchOf(t, seq, 1, 1<<40, nil) }
	for name, chunk := range map[string][]byte{
		"another format": forged(chunkFull, far(110)), "old sequence": forged(recycleFull, far(3)), "far sequence": forged(recycleFull, far(1<<40)),
	} {
		var sent [][]byte
		for i := range uint64(4) {
			sent = append(sent, batchOf(t, 50+i, 1, 20+i, bytes.Repeat(chunk, 60_000/len(chunk))))
		}
		file := slices.Clone(walOf(t, 3, sent...))
		for cut := 500; cut < 40_000; cut += 7_919 { // where the new life ends among the old
			fresh := walOf(t, 7, batchOf(t, 100, 1, 40, make([]byte, cut)), batchOf(t, 101, 1, 41, []byte("last")))
			end := 0
			chunks(fresh, 7, func(offset int, _ byte, payload []byte, _ int) { end = offset + chunkRecycle + len(payload) })
			scan := walScan{have: map[stanza.Group]uint64{}}
			scan.file(append(slices.Clone(fresh[:end]), file[end:]...), 7, "000007.log")
			if scan.have[1] != 41 || len(scan.orphans) > 0 {
				t.Errorf("%s, cut at %d: have %d, %d orphans", name, end, scan.have[1], len(scan.orphans))
			}
		}
	}
}
