package shard

import (
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/sstable"
	"github.com/cockroachdb/pebble/vfs"
	"linecard.example/internal/stanza"
)

// Inspection is a look at the two databases of a daemon that does not run, or at a copy of them. It changes no file: what opening them
// writes stays in memory. One goroutine.
type Inspection struct {
	NodeID string       // whose log it is
	Tables int          // tables of both databases that were read
	Bytes  int64        // of these
	Groups []GroupFiles // ordered by group
	Faults []string     // what is damaged, each with the file or group; empty: nothing was found

	dir   string
	fs    vfs.FS
	host  *Host      // not open: for the checks that a start makes
	log   *pebble.DB // nil: it does not open
	state *pebble.DB // nil: it does not open
}

// GroupFiles is what the files hold of one group.
type GroupFiles struct {
	Group    stanza.Group
	First    uint64   // index of the first entry of the log; 0: it is empty
	Last     uint64   // of the last one, or of the snapshot if the log is empty
	Snapshot uint64   // index of the newest raft snapshot
	Flushed  uint64   // F: the tables are complete up to here
	Term     uint64   // the highest that the group has heard of
	Voters   []string // node ids of the newest configuration, sorted
	Broken   bool     // there is a fault of it, so that it cannot be replayed
}

// Inspect opens the databases below dir and checks what can be checked without a machine: the files as a start does, each block of each
// table, each entry of each log, and whether log, snapshot and tables fit together. What it finds is in Faults. An error says that it
// could not look: no such directory, or a process has it open. fs nil is the disk.
func Inspect(fs vfs.FS, dir string) (*Inspection, error) {
	if fs == nil {
		fs = vfs.Default
	}
	i := &Inspection{dir: dir, fs: newScratchFS(fs)}
	i.host = &Host{cfg: HostConfig{Dir: dir, FS: i.fs, NoSync: true, Logger: slog.New(slog.DiscardHandler)}}
	for _, name := range []string{"log", "state"} {
		if err := i.available(path.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	var err error
	if i.log, err = i.open("log"); err != nil {
		return nil, err
	}
	if i.state, err = i.open("state"); err != nil {
		return nil, errors.Join(err, i.Close())
	}
	i.checkTables("log", i.log)
	i.checkTables("state", i.state)
	if i.log != nil && i.state != nil {
		i.host.log, i.host.state, i.host.flushes.flush = i.log, i.state, i.state.Flush
		i.guard("", i.host.tidy)
		i.guard("", i.findGroups)
		for n := range i.Groups {
			g := &i.Groups[n]
			i.guard(g.Group.String(), func() error { return i.checkGroup(g) })
		}
	}
	return i, nil
}

// GroupsAtRest returns the groups of which a daemon's databases below dir hold log or snapshot. No process may have them open. It
// changes nothing. fs nil is the disk.
func GroupsAtRest(fs vfs.FS, dir string) ([]stanza.Group, error) {
	if fs == nil {
		fs = vfs.Default
	}
	i := &Inspection{dir: dir, fs: newScratchFS(fs)}
	logDir := path.Join(dir, "log")
	if err := i.available(logDir); err != nil {
		return nil, err
	}
	db, err := openPebble(logDir, &pebble.Options{FS: i.fs, ErrorIfNotExists: true, FormatMajorVersion: formatVersion, DisableAutomaticCompactions: true,
		Logger: quietLogger{}})
	if err != nil {
		return nil, fmt.Errorf("shard: opening %s: %w", logDir, err)
	}
	h := &Host{log: db}
	groups, err := h.Held()
	return groups, errors.Join(err, db.Close())
}

// Close closes the databases.
func (i *Inspection) Close() error {
	var errs []error
	for _, db := range []*pebble.DB{i.log, i.state} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	i.log, i.state = nil, nil
	return errors.Join(errs...)
}

// available says why a database cannot be looked at.
func (i *Inspection) available(dir string) error {
	if _, err := i.fs.Stat(dir); err != nil {
		return fmt.Errorf("shard: looking at %s: %w", dir, err)
	}
	lock, err := i.fs.Lock(path.Join(dir, "LOCK"))
	if err != nil {
		return fmt.Errorf("shard: looking at %s: it cannot be locked; does its process run? %w", dir, err)
	}
	return lock.Close()
}

// open checks a database as a start does, and opens it. Nil: it is damaged, which is noted.
func (i *Inspection) open(name string) (*pebble.DB, error) {
	dir := path.Join(i.dir, name)
	i.fault(i.host.checkManifest(dir))
	if name == "log" {
		i.fault(i.host.checkWALs(dir))
	}
	db, err := openPebble(dir, &pebble.Options{
		FS: i.fs, ErrorIfNotExists: true, FormatMajorVersion: formatVersion, DisableWAL: name == "state", DisableAutomaticCompactions: true,
		Logger: quietLogger{}, EventListener: &pebble.EventListener{BackgroundError: func(error) {}}, // it comes again when the table is read
	})
	if err == nil {
		return db, nil
	}
	if slices.ContainsFunc(circumstances, func(c error) bool { return errors.Is(err, c) }) {
		return nil, fmt.Errorf("shard: opening %s: %w", dir, err)
	}
	i.fault(i.host.openError(name, err))
	return nil, nil
}

// fault notes an error that says damage. A start's advice is left away: it is the caller's to give.
func (i *Inspection) fault(err error) {
	if err == nil {
		return
	}
	text := strings.TrimPrefix(strings.TrimSuffix(err.Error(), "; "+remedy), "shard: ")
	if !slices.Contains(i.Faults, text) {
		i.Faults = append(i.Faults, text)
	}
}

// guard notes what f finds, and what Pebble or raft panics with on the way: both do on some damage.
func (i *Inspection) guard(what string, f func() error) {
	err := func() (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("%v", r)
			}
		}()
		return f()
	}()
	if err != nil && what != "" {
		err = fmt.Errorf("%s: %w", what, err)
	}
	i.fault(err)
}

// checkTables reads every block of every table that a database uses; of one that does not open, every table that is there.
func (i *Inspection) checkTables(name string, db *pebble.DB) {
	dir := path.Join(i.dir, name)
	var files []string
	if db == nil {
		files, _ = i.host.list(dir, ".sst") // that it does not open is noted
	} else {
		levels, err := db.SSTables()
		i.fault(err)
		for _, tables := range levels {
			for _, t := range tables {
				files = append(files, fmt.Sprintf("%06d.sst", uint64(t.FileNum)))
			}
		}
	}
	for _, file := range files {
		file = path.Join(dir, file)
		i.guard(file, func() error { return i.checkTable(file) })
	}
}

func (i *Inspection) checkTable(file string) error {
	f, err := i.fs.Open(file)
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	i.Tables++
	i.Bytes += readable.Size()
	r, err := sstable.NewReader(readable, sstable.ReaderOptions{}) // closes readable on an error
	if err != nil {
		return err
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}

// findGroups lists the groups of which a database holds anything.
func (i *Inspection) findGroups() error {
	v, err := getCopy(i.log, []byte(keyNode))
	if err != nil {
		return err
	}
	if i.NodeID = string(v); i.NodeID == "" {
		i.fault(fmt.Errorf("%s names no node", path.Join(i.dir, "log")))
	}
	found := map[stanza.Group]bool{}
	for _, kind := range []byte{keyLog, keyStable, keySnap, keyJoin} {
		err = errors.Join(err, groupsIn(i.log, kind, found))
	}
	for _, kind := range []byte{keyTable, keyApplied} {
		err = errors.Join(err, groupsIn(i.state, kind, found))
	}
	for g := range found {
		i.Groups = append(i.Groups, GroupFiles{Group: g})
	}
	slices.SortFunc(i.Groups, func(a, b GroupFiles) int { return int(a.Group) - int(b.Group) })
	return err
}

func groupsIn(db *pebble.DB, kind byte, found map[stanza.Group]bool) error {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; {
		k := it.Key()
		if len(k) < tablePrefix {
			return errors.Join(fmt.Errorf("%w: key %x", errLogRecord, k), it.Close())
		}
		g := stanza.Group(k[1])<<8 | stanza.Group(k[2])
		found[g] = true
		ok = it.SeekGE(groupEnd(kind, g))
	}
	return errors.Join(it.Error(), it.Close())
}
