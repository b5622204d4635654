package disktest

import (
	"sync/atomic"

	"github.com/cockroachdb/pebble/vfs"
)

// Disk is Pebble's strict in-memory file system behind a count of syncs. Safe for concurrent use.
type Disk struct {
	*vfs.MemFS
	syncs atomic.Int64
	cutAt atomic.Int64 // 0: never
	then  func()       // called at the cut, before that sync does nothing; set before cutAt
	off   atomic.Bool
	on    atomic.Bool // it was cut and is on again: nothing is counted any more
}

// NewDisk returns an empty disk whose power goes before the n-th sync of a file or directory, counted from 1; 0: when Off is called.
func NewDisk(n int64) *Disk {
	d := &Disk{MemFS: vfs.NewStrictMem()}
	d.cutAt.Store(n)
	return d
}

// CutIn has the power go before the n-th sync from now, counted from 1. then is called at that moment, on the goroutine that syncs, which
// may hold locks of the database: so that whoever simulates the machine's network cuts it off before anything else is answered.
func (d *Disk) CutIn(n int64, then func()) {
	d.then = then
	d.cutAt.Store(d.syncs.Load() + n)
}

// Spare takes back CutIn, if it has not happened.
func (d *Disk) Spare() { d.cutAt.Store(0) }

// Syncs returns how many syncs were asked for until PowerOn.
func (d *Disk) Syncs() int64 { return d.syncs.Load() }

// Cut reports whether the power is off. An answer that was there before Cut was false is one that must hold.
func (d *Disk) Cut() bool { return d.off.Load() }

// Off cuts the power.
func (d *Disk) Off() {
	d.off.Store(true) // first: who is answered because of a sync that did nothing must see it
	d.SetIgnoreSyncs(true)
}

// PowerOn leaves what was synced before the cut. Nobody may be using the disk any more.
func (d *Disk) PowerOn() {
	d.ResetToSyncedState()
	d.SetIgnoreSyncs(false)
	d.on.Store(true)
	d.off.Store(false)
}

// Again has a disk whose power came back count syncs again, for another cut.
func (d *Disk) Again() {
	d.cutAt.Store(0)
	d.on.Store(false)
}

func (d *Disk) note() {
	if d.on.Load() || d.syncs.Add(1) != d.cutAt.Load() {
		return
	}
	if d.then != nil {
		d.then()
	}
	d.Off()
}

func (d *Disk) file(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return diskFile{f, d}, nil
}

// Create implements vfs.FS.
func (d *Disk) Create(name string) (vfs.File, error) { return d.file(d.MemFS.Create(name)) }

// OpenReadWrite implements vfs.FS.
func (d *Disk) OpenReadWrite(name string, o ...vfs.OpenOption) (vfs.File, error) {
	return d.file(d.MemFS.OpenReadWrite(name, o...))
}

// OpenDir implements vfs.FS.
func (d *Disk) OpenDir(name string) (vfs.File, error) { return d.file(d.MemFS.OpenDir(name)) }

// ReuseForWrite implements vfs.FS.
func (d *Disk) ReuseForWrite(oldname, newname string) (vfs.File, error) {
	return d.file(d.MemFS.ReuseForWrite(oldname, newname))
}

// diskFile counts. SyncTo of a MemFS makes nothing durable, so it is no boundary.
type diskFile struct {
	vfs.File
	d *Disk
}

func (f diskFile) Sync() error {
	f.d.note()
	return f.File.Sync()
}

func (f diskFile) SyncData() error {
	f.d.note()
	return f.File.SyncData()
}
