package shard

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/sstable"
	"github.com/hashicorp/raft"
	"linecard.example/internal/stanza"
)

// recvDir below the host's directory holds what is being received. Nothing in it outlives the process.
const recvDir = "recv"

// recvTable is how large a table of a received state is, about.
const recvTable = 64 << 20

// errNoSpaceToReceive refuses a stream while the disk is below its floor: it would need room beside what it replaces.
var errNoSpaceToReceive = errors.New("shard: too little free space to receive a state")

// receiver turns a stream into tables, which Pebble takes in at once: each first deletes its part of the group's range, and one more holds
// the applied index with the snapshot's metadata. It checks everything before it holds or writes anything because of it, and it holds one
// record. One goroutine.
type receiver struct {
	h    *Host
	g    stanza.Group
	dir  string
	skip bool // what is here is newer: nothing is kept of the stream
	err  error

	buf     []byte // not decoded yet: less than one item
	begun   bool   // the header was there
	ended   bool   // the end was
	applied uint64
	stamp   int64
	count   uint64
	hash    xxhash.Digest
	last    []byte // the key before, with its prefix
	key     []byte // scratch

	w     *sstable.Writer // of the table being written
	start []byte          // from where it deletes
	files []string        // finished
	limit uint64          // of a table
}

func newReceiver(h *Host, g stanza.Group) *receiver {
	r := &receiver{h: h, g: g, limit: recvTable}
	r.hash.Reset()
	return r
}

// Write takes the next piece of the stream. After an error the receiver is of no use but for remove.
func (r *receiver) Write(p []byte) (int, error) {
	if r.skip {
		return len(p), nil
	}
	if r.err == nil {
		r.err = r.take(p)
	}
	if r.err != nil {
		return 0, r.err
	}
	return len(p), nil
}

func (r *receiver) take(p []byte) error {
	r.buf = append(r.buf, p...)
	at := 0
	for {
		n, err := r.item(r.buf[at:])
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		at += n
	}
	r.buf = r.buf[:copy(r.buf, r.buf[at:])]
	return nil
}

// item decodes the header, a record or the end at the start of b, and returns its length; 0: not all of it is there.
func (r *receiver) item(b []byte) (n int, err error) {
	switch {
	case len(b) == 0:
		return 0, nil
	case r.ended:
		return 0, fmt.Errorf("%w: something follows its end", errStream)
	case !r.begun:
		return r.header(b)
	case b[0] == streamRecord:
		return r.record(b)
	case b[0] == streamLast:
		return r.end(b)
	}
	return 0, fmt.Errorf("%w: an item of kind %d", errStream, b[0])
}

func (r *receiver) header(b []byte) (int, error) {
	if len(b) < streamHeader {
		return 0, nil
	}
	h := b[:streamHeader]
	if string(h[:4]) != streamMagic || h[4] != streamVersion {
		return 0, fmt.Errorf("%w: magic %q, version %d", errStream, h[:4], h[4])
	}
	if g := stanza.Group(binary.BigEndian.Uint16(h[5:])); g != r.g {
		return 0, fmt.Errorf("%w: it is of %s, not of %s", errStream, g, r.g)
	}
	r.applied, r.stamp = binary.BigEndian.Uint64(h[7:]), int64(binary.BigEndian.Uint64(h[15:]))
	if r.applied == 0 || r.stamp < 0 {
		return 0, fmt.Errorf("%w: applied %d, stamp %d", errStream, r.applied, r.stamp)
	}
	_, _ = r.hash.Write(h) // never fails
	r.begun = true
	return streamHeader, r.table(groupStart(keyTable, r.g))
}

func (r *receiver) record(b []byte) (int, error) {
	k, n := binary.Uvarint(b[1:])
	if n == 0 {
		return 0, nil
	}
	v, m := uint64(0), 0
	if n > 0 {
		if v, m = binary.Uvarint(b[1+n:]); m == 0 {
			return 0, nil
		}
	}
	if n < 0 || m < 0 || k > maxStreamKey || v > maxStreamValue {
		return 0, fmt.Errorf("%w: a key of %d and a value of %d bytes", errStream, k, v)
	}
	at := 1 + n + m
	size := at + int(k) + int(v)
	if len(b) < size {
		return 0, nil
	}
	_, _ = r.hash.Write(b[:size]) // never fails
	r.count++
	return size, r.set(b[at:at+int(k)], b[at+int(k):size])
}

// set writes one record.
func (r *receiver) set(key, val []byte) error {
	p := groupPrefix(keyTable, r.g)
	r.key = append(append(r.key[:0], p[:]...), key...)
	if bytes.Compare(r.key, r.last) <= 0 {
		return fmt.Errorf("%w: keys do not ascend", errStream)
	}
	r.key, r.last = r.last, r.key
	if r.w.EstimatedSize() >= r.limit {
		if err := r.table(bytes.Clone(r.last)); err != nil {
			return err
		}
	}
	if err := r.w.Set(r.last, val); err != nil {
		return fmt.Errorf("shard: receiving %s: %w", r.g, err)
	}
	return nil
}

func (r *receiver) end(b []byte) (int, error) {
	if len(b) < streamEnd {
		return 0, nil
	}
	_, _ = r.hash.Write(b[:9]) // never fails
	if count := binary.BigEndian.Uint64(b[1:]); count != r.count {
		return 0, fmt.Errorf("%w: %d records, %d are announced", errStream, r.count, count)
	}
	if binary.BigEndian.Uint64(b[9:]) != r.hash.Sum64() {
		return 0, fmt.Errorf("%w: it does not check", errStream)
	}
	r.ended = true
	return streamEnd, nil
}

// table ends the table being written, if there is one, and begins the next, whose part of the group's range starts at from.
func (r *receiver) table(from []byte) error {
	if err := r.endTable(from); err != nil {
		return err
	}
	if r.h.StorageFull() {
		return errNoSpaceToReceive
	}
	r.start = from
	return r.create()
}

// create begins a file.
func (r *receiver) create() error {
	if len(r.files) == 0 {
		r.dir = path.Join(r.h.cfg.Dir, recvDir, fmt.Sprintf("%04x-%d", uint16(r.g), r.h.receipts.Add(1)))
		if err := r.h.cfg.FS.MkdirAll(r.dir, 0o700); err != nil {
			return fmt.Errorf("shard: receiving %s: %w", r.g, err)
		}
	}
	name := path.Join(r.dir, fmt.Sprintf("%06d.sst", len(r.files)))
	f, err := r.h.cfg.FS.Create(name)
	if err != nil {
		return fmt.Errorf("shard: receiving %s: %w", r.g, err)
	}
	r.files = append(r.files, name)
	o := r.h.stateOptions(nil, nil).EnsureDefaults().MakeWriterOptions(0, formatVersion.MaxTableFormat())
	r.w = sstable.NewWriter(objstorageprovider.NewFileWritable(f), o)
	return nil
}

// endTable ends the table being written, whose part of the range ends at to.
func (r *receiver) endTable(to []byte) error {
	if r.w == nil {
		return nil
	}
	err := r.w.DeleteRange(r.start, to)
	if err == nil {
		err = r.w.Close() // syncs
	} else {
		err = errors.Join(err, r.w.Close())
	}
	r.w = nil
	if err != nil {
		return fmt.Errorf("shard: receiving %s: %w", r.g, err)
	}
	return nil
}

// finish ends the tables after the last piece. Together they make the state that of m.
func (r *receiver) finish(m *raft.SnapshotMeta) error {
	switch {
	case r.skip:
		return nil
	case r.err != nil:
		return r.err
	case !r.ended:
		return fmt.Errorf("%w: it ends early, after %d records", errStream, r.count)
	case r.applied < m.Index:
		return fmt.Errorf("%w: its tables end at %d, the snapshot is at %d", errStream, r.applied, m.Index)
	}
	if err := r.endTable(groupEnd(keyTable, r.g)); err != nil {
		return err
	}
	meta, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("shard: receiving %s: %w", r.g, err)
	}
	if err := r.create(); err != nil {
		return err
	}
	err = r.w.Set(groupStart(keyApplied, r.g), encodeApplied(r.applied, r.stamp, meta))
	err = errors.Join(err, r.w.Close())
	r.w = nil
	if err != nil {
		return fmt.Errorf("shard: receiving %s: %w", r.g, err)
	}
	return nil
}

// remove ends the receiver and takes its files away; what Pebble took in is no file of its own any more.
func (r *receiver) remove() {
	if r.w != nil {
		_ = r.w.Close() // the file goes
		r.w = nil
	}
	if r.dir == "" {
		return
	}
	if err := r.h.cfg.FS.RemoveAll(r.dir); err != nil {
		r.h.cfg.Logger.Warn("received files were not removed", "dir", r.dir, "error", err)
	}
	r.dir = ""
}
