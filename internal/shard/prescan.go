package shard

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
	"linecard.example/internal/stanza"
)

// Pebble takes the first chunk of its newest WAL, or of its manifest, that does not check for the end of the file: so it must, since a
// power loss leaves such ends. But a flipped bit in the middle looks the same, and all that was synced after it would be dropped without
// a word. Therefore both are read here before Pebble opens them, which would remove the evidence.

// errTorn says that a file of a database is damaged where no power loss could have done it.
var errTorn = errors.New("shard: damaged in the middle")

// Chunks, as Pebble's package record describes them.
const (
	walBlock     = 32 << 10
	chunkHeader  = 7               // checksum 4, length 2, type 1
	chunkRecycle = chunkHeader + 4 // and the number of the log
	chunkFull    = 1               // then first, middle, last
	recycleFull  = chunkFull + 4   // the same with the longer header
	recycleLast  = recycleFull + 3 //
	batchHeader  = 8 + 4           // sequence number, count
	keyKindSet   = 1               // pebble.InternalKeyKindSet
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chunkSum is Pebble's masked checksum.
func chunkSum(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return c>>15 | c<<17 + 0xa282ead8
}

// chunks calls each for every chunk that checks, in order: kind is 0 full, 1 first, 2 middle, 3 last; gaps counts what before it did not
// check. log is the number that chunks of a WAL carry; those of another, which the file held before it was reused, are skipped as a
// whole: what looks like a chunk within them is what somebody sent. 0: a manifest, whose chunks carry none.
// whole reports whether the first chunk that did not check lies wholly within the file, so that it was not cut off.
func chunks(b []byte, log uint32, each func(offset int, kind byte, payload []byte, gaps int)) (whole bool) {
	gaps, lost := 0, false
	for start := 0; start < len(b); start += walBlock {
		block := b[start:min(start+walBlock, len(b))]
		for at := 0; at+chunkHeader <= len(block); {
			payload, kind, ok := chunkAt(block, at, log)
			step := 1 // the length may be what is damaged: look for the next that checks
			switch {
			case ok:
				each(start+at, kind, payload, gaps)
				at, lost = at+chunkSize(block, at), false
				continue
			case kind == padding && at+chunkRecycle > len(block):
				at = len(block)
				continue
			case kind == stale:
				step = chunkSize(block, at)
			}
			if !lost {
				gaps, lost = gaps+1, true
				whole = whole || gaps == 1 && kind == broken && at+chunkSize(block, at) <= len(block)
			}
			at += step
		}
	}
	return whole
}

// What chunkAt returns as the kind of what is no chunk of this file.
const (
	padding = 0xff // zeros
	stale   = 0xfe // a chunk that checks, of an earlier life of the file
	broken  = 0xfd // anything else
)

// chunkAt returns the chunk that begins at an offset of a block, if it checks and is of the log.
func chunkAt(block []byte, at int, log uint32) (payload []byte, kind byte, ok bool) {
	size, kind := chunkSize(block, at), block[at+6]
	switch {
	case kind == 0 && size == chunkHeader:
		return nil, padding, false
	case at+size > len(block) || kind < chunkFull || kind > recycleLast || (kind >= recycleFull) != (log != 0):
		return nil, broken, false
	case chunkSum(block[at+6:at+size]) != binary.LittleEndian.Uint32(block[at:]):
		return nil, broken, false
	case log != 0 && binary.LittleEndian.Uint32(block[at+chunkHeader:]) != log:
		return nil, stale, false
	case log != 0:
		return block[at+chunkRecycle : at+size], kind - recycleFull, true
	}
	return block[at+chunkHeader : at+size], kind - chunkFull, true
}

// chunkSize returns the size of a chunk with its header, as it says itself.
func chunkSize(block []byte, at int) int {
	size := int(binary.LittleEndian.Uint16(block[at+4:]))
	if kind := block[at+6]; kind >= recycleFull && kind <= recycleLast {
		return size + chunkRecycle
	}
	return size + chunkHeader
}

// checkManifest refuses a manifest with damage that is not a torn end: something follows it, or the record is all there. A manifest is
// synced record by record.
func (h *Host) checkManifest(dir string) error {
	desc, err := pebble.Peek(dir, h.cfg.FS)
	if err != nil || !desc.Exists {
		return nil //nolint:nilerr // Open reports it
	}
	b, err := readAll(h.cfg.FS, desc.ManifestFilename)
	if err != nil {
		return fmt.Errorf("shard: reading %s: %w", desc.ManifestFilename, err)
	}
	follows := false
	if whole := chunks(b, 0, func(_ int, _ byte, _ []byte, gaps int) { follows = follows || gaps > 0 }); whole || follows {
		return h.report("", fmt.Errorf("%w: %s", errTorn, desc.ManifestFilename))
	}
	return nil
}

// orphan is a log entry that stands behind damage: Pebble would not see it.
type orphan struct {
	g      stanza.Group
	index  uint64 // the first of its batch
	file   string
	offset int
}

// checkWALs refuses a WAL with damage in the middle. What stands behind a chunk that does not check is legitimate only if it was never
// synced, which after a power loss may be the case for the last append of each group, and no more: raft appends to a group only when
// the append before is synced. So an entry behind the damage whose predecessor is missing proves that something synced is lost.
func (h *Host) checkWALs(dir string) error {
	names, err := h.list(dir, ".log")
	if err != nil {
		return nil //nolint:nilerr // Open reports it
	}
	numbers := map[string]uint64{}
	names = slices.DeleteFunc(names, func(name string) bool {
		n, err := strconv.ParseUint(strings.TrimSuffix(name, ".log"), 10, 64)
		numbers[name] = n
		return err != nil
	})
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(numbers[a], numbers[b]) }) // their width grows
	scan := walScan{have: map[stanza.Group]uint64{}}
	for _, name := range names {
		file := path.Join(dir, name)
		b, err := readAll(h.cfg.FS, file)
		if err != nil {
			return fmt.Errorf("shard: reading %s: %w", file, err)
		}
		scan.file(b, uint32(numbers[name]), file)
	}
	if len(scan.orphans) == 0 {
		return nil
	}
	return h.checkOrphans(dir, scan.have, scan.orphans)
}

// walScan goes through the WALs in order.
type walScan struct {
	have    map[stanza.Group]uint64 // the last index before any damage
	next    uint64                  // the sequence number of Pebble's that follows what stands before any damage; 0: unknown
	orphans []orphan
}

// file notes what stands in a WAL before any damage, and what stands behind it.
func (w *walScan) file(b []byte, number uint32, file string) {
	var record []byte
	open, before, end := false, 0, 0
	chunks(b, number, func(offset int, kind byte, payload []byte, gaps int) {
		open = open && gaps == before
		before = gaps
		switch kind {
		case 0, 1:
			record, open = append(record[:0], payload...), true
		default:
			record = append(record, payload...)
		}
		if kind == 1 || kind == 2 || !open {
			return
		}
		open = false
		if gaps == 0 {
			end = offset + chunkRecycle + len(payload)
		}
		w.record(record, gaps > 0, orphan{file: file, offset: offset}, end)
	})
}

// record takes a record of a file, of which what is before end is whole. One that was found behind damage counts only if Pebble can
// have written it there: the remains of what the file held before are full of what clients sent, and a client may send something that
// looks like a record. Sequence numbers, one for each change, it does not know.
func (w *walScan) record(record []byte, behind bool, o orphan, end int) {
	if len(record) <= batchHeader {
		return
	}
	seq, count := binary.LittleEndian.Uint64(record), uint64(binary.LittleEndian.Uint32(record[8:]))
	if !behind {
		w.next = seq + count
	} else if w.next != 0 && (seq < w.next || end > 0 && seq-w.next > uint64(o.offset-end)) {
		return
	}
	seen := map[stanza.Group]bool{}
	entriesOf(record, func(g stanza.Group, index uint64, snapshot bool) {
		if snapshot {
			if !behind { // one that was received ends the log that was before it
				w.have[g] = max(w.have[g], index)
			}
			return
		}
		if !behind {
			w.have[g] = index
		} else if !seen[g] {
			o.g, o.index = g, index
			w.orphans = append(w.orphans, o)
		}
		seen[g] = true
	})
}

// entriesOf calls each for every log entry that a batch sets, and for every snapshot's metadata.
func entriesOf(batch []byte, each func(g stanza.Group, index uint64, snapshot bool)) {
	r, _ := pebble.ReadBatch(batch)
	for {
		kind, key, val, ok, err := r.Next()
		if !ok || err != nil {
			return
		}
		switch {
		case kind != keyKindSet || len(key) < 3:
		case len(key) == logKeyLen && key[0] == keyLog:
			each(stanza.Group(binary.BigEndian.Uint16(key[1:])), binary.BigEndian.Uint64(key[3:]), false)
		case len(key) == 3 && key[0] == keySnap:
			var m raft.SnapshotMeta
			if json.Unmarshal(val, &m) == nil {
				each(stanza.Group(binary.BigEndian.Uint16(key[1:])), m.Index, true)
			}
		}
	}
}

// checkOrphans opens the database without changing it where the WALs alone do not tell what is there.
func (h *Host) checkOrphans(dir string, have map[stanza.Group]uint64, orphans []orphan) error {
	var db *pebble.DB
	defer func() {
		if db != nil {
			db.Close()
		}
	}()
	for _, o := range orphans {
		last, known := have[o.g]
		if !known {
			if db == nil {
				var err error
				if db, err = openPebble(dir, &pebble.Options{FS: h.cfg.FS, ReadOnly: true, FormatMajorVersion: formatVersion, Logger: quietLogger{}}); err != nil {
					return fmt.Errorf("shard: opening %s: %w", dir, err)
				}
			}
			s, err := openLogStore(db, o.g, pebble.NoSync)
			if err == nil {
				var snaps *snapStore
				if snaps, err = openSnapStore(db, o.g, pebble.NoSync); err == nil {
					last = max(s.last, snaps.index.Load())
				}
			}
			if err != nil {
				return h.report("log", err)
			}
			have[o.g] = last
		}
		if o.index > last+1 {
			return h.report("", fmt.Errorf("%w: %s before byte %d: entry %d of %s is there, %d is the last before the damage", errTorn, o.file,
				o.offset, o.index, o.g, last))
		}
	}
	return nil
}

// quietLogger is for a database that is only looked at.
type quietLogger struct{}

// Infof implements pebble.Logger.
func (quietLogger) Infof(string, ...any) {}

// Fatalf implements pebble.Logger; openPebble turns it into an error.
func (quietLogger) Fatalf(format string, args ...any) { panic(fmt.Errorf(format, args...)) }

// openPebble is pebble.Open, with its panics about data as errors.
func openPebble(dir string, o *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("%v", r)
		}
	}()
	return pebble.Open(dir, o)
}

func readAll(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if info, err := f.Stat(); err == nil {
		b.Grow(int(info.Size()) + bytes.MinRead) // else it is copied again and again
	}
	_, err = b.ReadFrom(f)
	return b.Bytes(), errors.Join(err, f.Close())
}
