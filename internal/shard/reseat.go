package shard

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
	"linecard.example/internal/stanza"
)

const (
	// reseatTerms is how far Reseat moves terms: further than elections can have moved them since the copy was made, so that whoever
	// knew the groups' last leaders takes the new ones for newer. A fence has 24 bits for the term: 255 times.
	reseatTerms = 1 << 16
	maxTerm     = 1<<24 - 1
)

// Reseat turns a copy of the databases below dir into those of a new node that is the only voter of every group in it: the end of a
// restore. The copy must be whole (see Inspect), closed, and nobody else's: the node that it was made of keeps its id and its votes.
// All of it is one synced write: after a crash it is done or not, and may be done again. fs nil is the disk.
func Reseat(fs vfs.FS, dir, nodeID string, now time.Time) (err error) {
	if fs == nil {
		fs = vfs.Default
	}
	logDir := path.Join(dir, "log")
	db, err := openPebble(logDir, &pebble.Options{FS: fs, ErrorIfNotExists: true, FormatMajorVersion: formatVersion, Logger: quietLogger{}})
	if err != nil {
		return fmt.Errorf("shard: opening %s: %w", logDir, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	state, err := openPebble(path.Join(dir, "state"), &pebble.Options{FS: fs, ReadOnly: true, FormatMajorVersion: formatVersion, Logger: quietLogger{}})
	if err != nil {
		return fmt.Errorf("shard: opening the state below %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, state.Close()) }()
	found := map[stanza.Group]bool{}
	for _, kind := range []byte{keyLog, keyStable, keySnap} {
		if err := groupsIn(db, kind, found); err != nil {
			return fmt.Errorf("shard: reading %s: %w", logDir, err)
		}
	}
	b := db.NewBatch()
	defer b.Close()
	for g := range found {
		if err := reseatGroup(db, b, Tables{db: state, g: g}, nodeID, now); err != nil {
			return fmt.Errorf("shard: restoring %s: %w", g, err)
		}
	}
	if err := b.Set([]byte(keyNode), []byte(nodeID), nil); err != nil {
		return fmt.Errorf("shard: writing the node id: %w", err)
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return fmt.Errorf("shard: writing %s: %w", logDir, err)
	}
	return nil
}

// reseatGroup appends to the group's log a configuration with one voter. raft takes the newest configuration in a log for the one that
// counts, committed or not, so the voter elects itself and commits all before it. Rejected: raft.RecoverCluster, which folds the log
// into a snapshot of its own and loses what is not in tables yet.
func reseatGroup(db *pebble.DB, b *pebble.Batch, t Tables, nodeID string, now time.Time) error {
	store, err := openLogStore(db, t.g, pebble.NoSync)
	if err != nil {
		return err
	}
	snaps, err := openSnapStore(db, t.g, pebble.NoSync)
	if err != nil {
		return err
	}
	flushed, _, err := t.applied()
	if err != nil {
		return err
	}
	last := max(store.last, snaps.index.Load())
	joins, err := getCopy(db, groupStart(keyJoin, t.g))
	switch {
	case err != nil:
		return err
	case last == 0 && joins == nil:
		return fmt.Errorf("%w: it has neither log nor snapshot", ErrLost)
	case last == 0: // it was dropped, or had just come: what is left are votes, of a node that is no more
		return errors.Join(b.Delete(groupStart(keyJoin, t.g), nil), b.DeleteRange(groupStart(keyStable, t.g), groupEnd(keyStable, t.g), nil))
	}
	stable := &stableStore{db: db, g: t.g}
	term, err := stable.GetUint64(keyTerm)
	if err != nil {
		return err
	}
	if term += reseatTerms; term > maxTerm {
		return fmt.Errorf("its term %d is too high for another restore", term-reseatTerms)
	}
	one := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(nodeID), Address: raft.ServerAddress(nodeID)}}}
	if flushed > last {
		// A received state is ahead of the log. New entries up to there would be taken for applied: they begin behind it.
		last = flushed
		if err := snapshotAt(b, t.g, last, term, one); err != nil {
			return err
		}
	}
	l := &raft.Log{Index: last + 1, Term: term, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(one), AppendedAt: now}
	v := make([]byte, logValueHeader+len(l.Data))
	putLogValue(v, l)
	return errors.Join(b.Set(logKey(t.g, l.Index), v, nil), b.Set(stable.key(keyTerm), binary.BigEndian.AppendUint64(nil, term), nil),
		b.Delete(groupStart(keyJoin, t.g), nil)) // there is nobody to whom more was promised
}

// snapshotAt makes the tables, which are complete up to index, the group's snapshot, and deletes the log.
func snapshotAt(b *pebble.Batch, g stanza.Group, index, term uint64, c raft.Configuration) error {
	m := raft.SnapshotMeta{
		Version: raft.SnapshotVersionMax, ID: fmt.Sprintf("%d-%d", term, index), Index: index, Term: term, Configuration: c, ConfigurationIndex: index,
	}
	v, err := json.Marshal(&m)
	if err != nil {
		return err
	}
	return errors.Join(b.DeleteRange(logKey(g, 0), groupEnd(keyLog, g), nil), b.Set(groupStart(keySnap, g), v, nil))
}
