package shard

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble"
	"linecard.example/internal/stanza"
)

// Keys of the state database: a kind byte, the group (big-endian), and
const (
	keyTable   = 'T' // the machine's key
	keyApplied = 'A' // nothing: applied index F and last stamp, written with the last batch of each flush; after them, until the
	// next flush, the metadata of the snapshot with which a received state came
)

const tablePrefix = 3

// Tables is the key range of one group in the state database. Keys are the machine's own; the group's prefix is added and
// stripped. A copy of a Tables is the same tables. Reads are safe for concurrent use; they see committed batches at once.
type Tables struct {
	db *pebble.DB
	g  stanza.Group
}

func (t Tables) key(k []byte) []byte {
	p := groupPrefix(keyTable, t.g)
	return append(append(make([]byte, 0, tablePrefix+len(k)), p[:]...), k...)
}

func (t Tables) upper(k []byte) []byte {
	if k == nil {
		return groupEnd(keyTable, t.g)
	}
	return t.key(k)
}

// Get returns a copy of the value of key.
func (t Tables) Get(key []byte) (val []byte, ok bool, err error) {
	var buf [64]byte
	p := groupPrefix(keyTable, t.g)
	v, closer, err := t.db.Get(append(append(buf[:0], p[:]...), key...))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("shard: reading %s: %w", t.g, err)
	}
	val = append(make([]byte, 0, len(v)), v...)
	return val, true, closer.Close()
}

// Scan calls f with every key in [lower, upper) in ascending order until f returns false; nil upper means to the end. f borrows k
// and v for the length of the call.
func (t Tables) Scan(lower, upper []byte, f func(k, v []byte) bool) error {
	it, err := t.iter(lower, upper)
	if err != nil {
		return err
	}
	for ok := it.First(); ok && f(it.Key()[tablePrefix:], it.Value()); ok = it.Next() {
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return fmt.Errorf("shard: scanning %s: %w", t.g, err)
	}
	return nil
}

func (t Tables) iter(lower, upper []byte) (*pebble.Iterator, error) {
	it, err := t.db.NewIter(&pebble.IterOptions{LowerBound: t.key(lower), UpperBound: t.upper(upper)})
	if err != nil {
		return nil, fmt.Errorf("shard: scanning %s: %w", t.g, err)
	}
	return it, nil
}

// Ahead starts a batch of records written ahead of the applied index: neither logged nor synced, but never visible after a crash
// without everything committed before it. Only records that carry their log index may be written so.
func (t Tables) Ahead() *Batch { return &Batch{t: t, b: t.db.NewBatch()} }

// applied returns F and the last stamp up to F; 0, 0 if nothing was flushed yet.
func (t Tables) applied() (index uint64, stamp int64, err error) {
	return appliedIn(t.db, t.g)
}

// appliedIn is Tables.applied for any view of the state database.
func appliedIn(r pebble.Reader, g stanza.Group) (index uint64, stamp int64, err error) {
	v, closer, err := r.Get(groupStart(keyApplied, g))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("shard: reading the applied index of %s: %w", g, err)
	}
	index, stamp, _, err = decodeApplied(v, g)
	return index, stamp, errors.Join(err, closer.Close())
}

// encodeApplied makes the record of the applied index; meta is that of a received state, else empty.
func encodeApplied(index uint64, stamp int64, meta []byte) []byte {
	v := binary.BigEndian.AppendUint64(make([]byte, 0, 16+len(meta)), index)
	return append(binary.BigEndian.AppendUint64(v, uint64(stamp)), meta...)
}

// decodeApplied takes it apart; meta is a view of v.
func decodeApplied(v []byte, g stanza.Group) (index uint64, stamp int64, meta []byte, err error) {
	if len(v) < 16 {
		return 0, 0, nil, fmt.Errorf("shard: malformed applied index of %s", g)
	}
	return binary.BigEndian.Uint64(v), int64(binary.BigEndian.Uint64(v[8:])), v[16:], nil
}

// Batch collects changes of one group's tables that become visible, and after a crash remain, all or none. One goroutine.
type Batch struct {
	t     Tables
	b     *pebble.Batch
	err   error
	flush bool // the shard commits it
}

func (b *Batch) put(dst, k []byte) {
	p := groupPrefix(keyTable, b.t.g)
	copy(dst[copy(dst, p[:]):], k)
}

func (b *Batch) note(err error) {
	if b.err == nil {
		b.err = err
	}
}

// Set sets k to v; it copies both.
func (b *Batch) Set(k, v []byte) {
	d := b.b.SetDeferred(tablePrefix+len(k), len(v))
	b.put(d.Key, k)
	copy(d.Value, v)
	b.note(d.Finish())
}

// Delete removes k.
func (b *Batch) Delete(k []byte) {
	d := b.b.DeleteDeferred(tablePrefix + len(k))
	b.put(d.Key, k)
	b.note(d.Finish())
}

// DeleteRange removes every key in [lo, hi); nil hi means to the end of the group's tables.
func (b *Batch) DeleteRange(lo, hi []byte) {
	b.note(b.b.DeleteRange(b.t.key(lo), b.t.upper(hi), nil))
}

// Size returns the bytes collected.
func (b *Batch) Size() int { return b.b.Len() }

// Commit applies a batch started by Ahead; the batch is not usable afterwards. It panics on the batch that Machine.Flush gets.
func (b *Batch) Commit() error {
	if b.flush {
		panic("shard: Commit of the batch of a flush")
	}
	return b.commit()
}

func (b *Batch) commit() error {
	defer b.b.Close()
	if b.err == nil {
		b.note(b.b.Commit(pebble.NoSync))
	}
	if b.err != nil {
		return fmt.Errorf("shard: writing %s: %w", b.t.g, b.err)
	}
	return nil
}

// setApplied adds F and the last stamp up to it.
func (b *Batch) setApplied(index uint64, stamp int64) {
	p := groupPrefix(keyApplied, b.t.g)
	var v [16]byte
	binary.BigEndian.PutUint64(v[:], index)
	binary.BigEndian.PutUint64(v[8:], uint64(stamp))
	b.note(b.b.Set(p[:], v[:], nil))
}
