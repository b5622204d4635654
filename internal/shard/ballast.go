package shard

import (
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"syscall"

	"github.com/cockroachdb/pebble/vfs"
	"golang.org/x/sys/unix"
)

// The ballast is a file of noise, or of blocks that the file system has allocated, but not a sparse one: what its removal gives back
// must be there.
const (
	ballastName = "ballast"
	ballastNew  = ballastName + ".new" // being made
)

func (d *Disk) ballastPath(name string) string { return d.cfg.FS.PathJoin(d.cfg.Dir, name) }

// ballastWant returns the size that the file should have on this disk.
func (d *Disk) ballastWant() int64 { return min(d.cfg.Ballast, int64(d.usage.TotalBytes)/16) }

// findBallast returns the size of a whole ballast file, 0 if there is none. What is left of another one is removed.
func (d *Disk) findBallast() int64 {
	d.remove(ballastNew)
	info, err := d.cfg.FS.Stat(d.ballastPath(ballastName))
	if err != nil {
		return 0
	}
	if want := d.ballastWant(); want > 0 && info.Size() == want && allocated(info) >= want {
		return want
	}
	d.remove(ballastName)
	return 0
}

// allocated returns the bytes that a file takes on the disk; its size where that is not known.
func allocated(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}

// restoreBallast makes the file if there is none and the disk stays above its floor with it. Under mu.
func (d *Disk) restoreBallast() {
	want := d.ballastWant()
	if want <= 0 {
		d.released = false // none is wanted on this disk
		return
	}
	if d.ballast > 0 || int64(d.usage.AvailBytes) < d.floor()+slack(d.floor())+want {
		return
	}
	if err := d.makeBallast(want); err != nil {
		d.remove(ballastNew)
		if !d.failed {
			d.logSpace(slog.LevelError, "the ballast file cannot be made", "file", d.ballastPath(ballastName), "err", err)
		}
		d.failed = true
		return
	}
	d.ballast, d.released, d.failed = want, false, false
	if usage, err := d.cfg.FS.GetDiskUsage(d.cfg.Dir); err == nil {
		d.usage = usage
	}
}

func (d *Disk) makeBallast(size int64) error {
	f, err := d.cfg.FS.Create(d.ballastPath(ballastNew))
	if err != nil {
		return err
	}
	if f.Fd() != vfs.InvalidFd { // what the blocks held before is nobody's business, as with every file of a data directory
		err = unix.Fchmod(int(f.Fd()), 0o600)
	}
	if err == nil {
		err = reserve(f, size)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := d.cfg.FS.Rename(d.ballastPath(ballastNew), d.ballastPath(ballastName)); err != nil {
		return err
	}
	return syncDir(d.cfg.FS, d.cfg.Dir)
}

// reserve gives f size bytes on the disk: by asking for them where that holds, else by writing noise, which no file system shrinks.
func reserve(f vfs.File, size int64) error {
	if fallocate(f, size) {
		if info, err := f.Stat(); err == nil && info.Size() == size && allocated(info) >= size {
			return nil
		}
	}
	block, noise := make([]byte, 1<<20), rand.NewChaCha8([32]byte{})
	for left := size; left > 0; left -= int64(len(block)) {
		_, _ = noise.Read(block) // never fails
		if _, err := f.WriteAt(block[:min(left, int64(len(block)))], size-left); err != nil {
			return err
		}
	}
	return nil
}

// releaseBallast gives the file up. Under mu.
func (d *Disk) releaseBallast() {
	if d.ballast == 0 {
		return
	}
	d.remove(ballastName)
	d.ballast, d.released = 0, true
}

func (d *Disk) remove(name string) {
	if err := d.cfg.FS.Remove(d.ballastPath(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Error("the ballast file cannot be removed", "file", d.ballastPath(name), "err", err)
	}
}
