package shard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble"
	"github.com/hashicorp/raft"
	"linecard.example/internal/stanza"
)

// checkGroup fills g and checks that the pieces of the group fit together, when what a crash left half done is completed as a start would.
// The group counts as broken until all of it was read.
func (i *Inspection) checkGroup(g *GroupFiles) error {
	g.Broken = true
	c := &core{
		host: i.host, id: g.Group, log: i.host.cfg.Logger, stable: &stableStore{db: i.log, g: g.Group, sync: pebble.NoSync},
		tables: Tables{db: i.state, g: g.Group},
	}
	var err error
	if c.snaps, err = openSnapStore(i.log, g.Group, pebble.NoSync); err != nil {
		return err
	}
	before, err := c.snaps.load()
	if err != nil {
		return err
	}
	last, err := i.checkEntries(g, before, c.snaps.reached) // which the log store relies on
	if err != nil {
		return err
	}
	if c.store, err = openLogStore(i.log, g.Group, pebble.NoSync); err != nil {
		return err
	}
	c.snaps.core, c.store.snaps = c, c.snaps
	if err := errors.Join(c.loadJoin(), c.finishInstall()); err != nil {
		return err
	}
	if g.Flushed, _, err = c.tables.applied(); err != nil {
		return err
	}
	g.First, g.Snapshot = c.store.first, c.snaps.index.Load()
	g.Last = max(c.store.last, g.Snapshot)
	if err := i.checkTerms(g, c, last); err != nil {
		return err
	}
	i.host.cfg.Join = c.store.joining // a group may be empty that says so itself
	if _, err := c.checkState(g.Flushed); err != nil {
		return err
	}
	g.Broken = false
	return nil
}

// checkTerms checks that the group has heard of every term that its log, of which last is the highest, and its vote are of.
func (i *Inspection) checkTerms(g *GroupFiles, c *core, last uint64) (err error) {
	if g.Term, err = c.stable.GetUint64(keyTerm); err != nil {
		return err
	}
	vote, err := c.stable.GetUint64(keyVote)
	if err != nil {
		return err
	}
	if g.Term < max(last, vote) {
		return fmt.Errorf("%w: its term is %d, it has an entry or a vote of term %d", errLogRecord, g.Term, max(last, vote))
	}
	return nil
}

// checkEntries reads every entry of the log and returns the term of the last one, or of the snapshot. Behind a snapshot that was received
// may stand entries of a leader that lost its place, of a lower term; reached is how far such a one was complete.
func (i *Inspection) checkEntries(g *GroupFiles, snap *raft.SnapshotMeta, reached uint64) (term uint64, err error) {
	if snap != nil {
		term, g.Snapshot, g.Voters = snap.Term, snap.Index, voters(snap.Configuration)
	}
	before, prev := uint64(0), uint64(0) // term and index of the entry before
	err = i.entries(g.Group, 0, func(l *raft.Log) error {
		if prev != 0 && l.Index != prev+1 && l.Index > g.Snapshot+1 {
			return fmt.Errorf("%w: entry %d follows %d", errLogRecord, l.Index, prev)
		}
		if l.Term < before || l.Term == 0 || l.Index > g.Snapshot && l.Term < term && reached < g.Snapshot {
			return fmt.Errorf("%w: entry %d of term %d follows one of term %d", errLogRecord, l.Index, l.Term, max(before, term))
		}
		prev, before = l.Index, l.Term
		switch l.Type {
		case raft.LogCommand:
			if _, err := decodePack(l.Data); err != nil {
				return fmt.Errorf("entry %d: %w", l.Index, err)
			}
		case raft.LogConfiguration:
			if v := voters(raft.DecodeConfiguration(l.Data)); l.Index > g.Snapshot { // panics on damage
				g.Voters = v
			}
		case raft.LogNoop, raft.LogBarrier:
		default:
			return fmt.Errorf("%w: entry %d is of type %d", errLogRecord, l.Index, l.Type)
		}
		return nil
	})
	return max(term, before), err
}

func voters(c raft.Configuration) []string {
	var ids []string
	for _, s := range c.Servers {
		if s.Suffrage == raft.Voter {
			ids = append(ids, string(s.ID))
		}
	}
	slices.Sort(ids)
	return ids
}

// entries calls f with the entries of a group from an index on; f borrows them.
func (i *Inspection) entries(g stanza.Group, from uint64, f func(*raft.Log) error) (err error) {
	it, err := i.log.NewIter(&pebble.IterOptions{LowerBound: logKey(g, from), UpperBound: groupEnd(keyLog, g)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Error(), it.Close()) }() // also when f panics
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		if len(it.Key()) != logKeyLen {
			err = fmt.Errorf("%w: key %x", errLogRecord, it.Key())
			break
		}
		var l raft.Log
		if err = getLogValue(it.Value(), binary.BigEndian.Uint64(it.Key()[3:]), &l); err == nil {
			err = f(&l)
		}
	}
	return err
}

// TermAt returns the term of a group's entry, or of its snapshot; 0: neither is there. Two replicas that have an entry of the same index
// and term have the same log up to it.
func (i *Inspection) TermAt(g stanza.Group, index uint64) (uint64, error) {
	if i.log == nil {
		return 0, nil
	}
	v, err := getCopy(i.log, logKey(g, index))
	var l raft.Log
	if err == nil && v != nil {
		err = getLogValue(v, index, &l)
		return l.Term, err
	}
	s, errSnap := openSnapStore(i.log, g, pebble.NoSync)
	if err = errors.Join(err, errSnap); err != nil {
		return 0, err
	}
	if m, err := s.load(); err != nil || m == nil || m.Index != index {
		return 0, err
	} else {
		return m.Term, nil
	}
}

// Fold is what a machine makes of its log, without a group around it: for data at rest. It is used by one goroutine.
type Fold interface {
	// Load is Machine.Load.
	Load(t Tables, applied uint64) error
	// Check reads every record of the tables that were loaded, and whether they fit together. It comes after Load, before Fold.
	Check() error
	// Fold is Machine.Apply. After an error nothing else is called.
	Fold(e Entry) error
	// Hash is Machine.Hash.
	Hash() (uint64, error)
}

// StateHash is the hash of a group's state behind an entry.
type StateHash struct {
	Index, Term uint64
	Hash        uint64
}

// Replay loads a group's tables into m, checks them, and folds the log up to the last of the given indexes, with a hash at each; those
// that are below F or above the end are left out. No indexes: the end of the log. What is wrong is noted in Faults; ok says that nothing
// was.
func (i *Inspection) Replay(g GroupFiles, m Fold, at ...uint64) (hashes []StateHash, ok bool) {
	if g.Broken {
		return nil, false
	}
	end := max(g.Last, g.Flushed) // a state that came from another replica may be ahead of the log
	if len(at) == 0 {
		at = []uint64{end}
	}
	at = slices.Compact(slices.Sorted(slices.Values(at)))
	at = slices.DeleteFunc(at, func(n uint64) bool { return n < g.Flushed || n > end })
	before := len(i.Faults)
	i.guard(g.Group.String(), func() (err error) {
		hashes, err = i.replay(g, m, at)
		return err
	})
	return hashes, len(i.Faults) == before
}

// errEnough ends a replay.
var errEnough = errors.New("enough")

func (i *Inspection) replay(g GroupFiles, m Fold, at []uint64) (hashes []StateHash, err error) {
	t := Tables{db: i.state, g: g.Group}
	_, stamp, err := t.applied()
	if err == nil {
		err = m.Load(t, g.Flushed)
	}
	if err == nil {
		err = m.Check()
	}
	if err != nil {
		return nil, err
	}
	// hash takes the hashes that are due before an entry of an index is folded.
	hash := func(below uint64) error {
		for len(at) > 0 && at[0] < below {
			term, err := i.TermAt(g.Group, at[0])
			if err != nil {
				return err
			}
			h, err := m.Hash()
			if err != nil {
				return err
			}
			hashes, at = append(hashes, StateHash{Index: at[0], Term: term, Hash: h}), at[1:]
		}
		return nil
	}
	err = i.entries(g.Group, g.Flushed+1, func(l *raft.Log) error {
		if err := hash(l.Index); err != nil {
			return err
		}
		if len(at) == 0 {
			return errEnough
		}
		return foldEntry(m, l, &stamp)
	})
	if err == nil || errors.Is(err, errEnough) {
		err = hash(1<<64 - 1)
	}
	return hashes, err
}

// foldEntry folds what the shard goroutine would apply.
func foldEntry(m Fold, l *raft.Log, stamp *int64) error {
	if l.Type != raft.LogCommand {
		return nil
	}
	p, err := decodePack(l.Data)
	if err != nil {
		return fmt.Errorf("entry %d: %w", l.Index, err)
	}
	*stamp = max(*stamp, p.stamp)
	e := Entry{Index: l.Index, Stamp: *stamp}
	rest := p.body
	for n := range p.count {
		e.Seq = n
		e.Cmd, rest, _ = nextCommand(rest) // checked by decodePack
		if err := m.Fold(e); err != nil {
			return fmt.Errorf("entry %d: %w", l.Index, err)
		}
	}
	return nil
}
