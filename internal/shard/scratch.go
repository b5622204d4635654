package shard

import (
	"errors"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/vfs"
)

// scratchFS reads another file system and keeps in memory what is written, so that Pebble can open a database whose files must not
// change: a read-only database refuses the deletes with which a machine loads its tables, and creates a lock file all the same. A lock
// that exists is taken in the other file system, which keeps a running process's files apart. Safe for concurrent use.
type scratchFS struct {
	vfs.FS
	mem *vfs.MemFS

	mu   sync.Mutex
	gone map[string]bool // removed, though they are still there
}

func newScratchFS(base vfs.FS) *scratchFS {
	return &scratchFS{FS: base, mem: vfs.NewMem(), gone: map[string]bool{}}
}

var errScratch = errors.New("shard: not done to files that are only looked at")

// written reports whether name is in memory.
func (f *scratchFS) written(name string) bool {
	_, err := f.mem.Stat(name)
	return err == nil
}

func (f *scratchFS) isGone(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gone[name]
}

func (f *scratchFS) setGone(name string, gone bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if gone {
		f.gone[name] = true
	} else {
		delete(f.gone, name)
	}
}

func (f *scratchFS) notThere(op, name string) error {
	return &os.PathError{Op: op, Path: name, Err: os.ErrNotExist}
}

// Create implements vfs.FS.
func (f *scratchFS) Create(name string) (vfs.File, error) {
	if err := f.mem.MkdirAll(f.PathDir(name), 0o700); err != nil {
		return nil, err
	}
	f.setGone(name, false)
	return f.mem.Create(name)
}

// Link implements vfs.FS.
func (f *scratchFS) Link(string, string) error { return errScratch }

// Open implements vfs.FS.
func (f *scratchFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	switch {
	case f.isGone(name):
		return nil, f.notThere("open", name)
	case f.written(name):
		return f.mem.Open(name, opts...)
	}
	return f.FS.Open(name, opts...)
}

// OpenReadWrite implements vfs.FS.
func (f *scratchFS) OpenReadWrite(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if f.written(name) {
		return f.mem.OpenReadWrite(name, opts...)
	}
	return nil, errScratch
}

// OpenDir implements vfs.FS: what is opened is there to be synced.
func (f *scratchFS) OpenDir(name string) (vfs.File, error) {
	if err := f.mem.MkdirAll(name, 0o700); err != nil {
		return nil, err
	}
	return f.mem.OpenDir(name)
}

// Remove implements vfs.FS.
func (f *scratchFS) Remove(name string) error {
	inMemory := f.written(name)
	if inMemory {
		if err := f.mem.Remove(name); err != nil {
			return err
		}
	}
	if _, err := f.FS.Stat(name); err == nil && !f.isGone(name) {
		f.setGone(name, true)
		return nil
	}
	if !inMemory {
		return f.notThere("remove", name)
	}
	return nil
}

// RemoveAll implements vfs.FS, for a directory whose files nobody asks for by name.
func (f *scratchFS) RemoveAll(dir string) error {
	f.setGone(dir, true)
	return f.mem.RemoveAll(dir)
}

// Rename implements vfs.FS. Only what was written is renamed.
func (f *scratchFS) Rename(oldname, newname string) error {
	if !f.written(oldname) {
		return errScratch
	}
	f.setGone(newname, false)
	return f.mem.Rename(oldname, newname)
}

// ReuseForWrite implements vfs.FS, which allows to remove the old file instead.
func (f *scratchFS) ReuseForWrite(oldname, newname string) (vfs.File, error) {
	if err := f.Remove(oldname); err != nil {
		return nil, err
	}
	return f.Create(newname)
}

// MkdirAll implements vfs.FS.
func (f *scratchFS) MkdirAll(dir string, perm os.FileMode) error { return f.mem.MkdirAll(dir, perm) }

// Lock implements vfs.FS.
func (f *scratchFS) Lock(name string) (io.Closer, error) {
	if _, err := f.FS.Stat(name); err == nil {
		return f.FS.Lock(name)
	}
	if err := f.mem.MkdirAll(f.PathDir(name), 0o700); err != nil {
		return nil, err
	}
	return f.mem.Lock(name)
}

// List implements vfs.FS.
func (f *scratchFS) List(dir string) ([]string, error) {
	names, err := f.FS.List(dir)
	names = slices.DeleteFunc(names, func(n string) bool { return f.isGone(f.PathJoin(dir, n)) })
	if more, errMem := f.mem.List(dir); errMem == nil {
		names, err = append(names, more...), nil
	}
	slices.Sort(names)
	return slices.Compact(names), err
}

// Stat implements vfs.FS.
func (f *scratchFS) Stat(name string) (os.FileInfo, error) {
	switch {
	case f.isGone(name):
		return nil, f.notThere("stat", name)
	case f.written(name):
		return f.mem.Stat(name)
	}
	return f.FS.Stat(name)
}
