package mediad

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// diskSlots is how many goroutines may be in the disk's calls at once. Each that waits there takes a thread, and a thread costs more
// memory than the upload that it serves.
const diskSlots = 24

// diskPatience is how long one waits for a slot. A disk that hangs must not gather requests without end.
const diskPatience = 20 * time.Second

// files does what changes the disk. Every step goes through it, in the order in which it must reach the disk: tests cut the process or
// the power off behind each, and have each fail. Safe for concurrent use.
type files struct {
	slots chan struct{}
	syncs prometheus.Observer                              // seconds; nil: not counted
	step  func(op, path string, off int64, p []byte) error // tests only; an error is the step's, which is not done
	quick bool                                             // tests only: what is synced stays with the kernel
}

func newFiles() *files { return &files{slots: make(chan struct{}, diskSlots)} }

// do runs one step in a slot.
func (f *files) do(op, path string, off int64, p []byte, run func() error) error {
	select {
	case f.slots <- struct{}{}:
	default:
		patience := time.NewTimer(diskPatience)
		defer patience.Stop()
		select {
		case f.slots <- struct{}{}:
		case <-patience.C:
			return fmt.Errorf("mediad: %s %s: %w", op, path, errUnavailable)
		}
	}
	defer func() { <-f.slots }()
	if f.step != nil {
		if err := f.step(op, path, off, p); err != nil {
			return spaced(err)
		}
	}
	return spaced(run())
}

// spaced marks the errors that say that there is no room.
func spaced(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("%w: %w", errFull, err)
	}
	return err
}

// create makes a new file, which only this user may read. It must not exist.
func (f *files) create(path string) (file *os.File, err error) {
	err = f.do("create", path, 0, nil, func() error {
		file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		return err
	})
	return file, err
}

// write puts p at off.
func (f *files) write(file *os.File, p []byte, off int64) error {
	return f.do("write", file.Name(), off, p, func() error {
		_, err := file.WriteAt(p, off)
		return err
	})
}

// cut ends the file at size.
func (f *files) cut(file *os.File, size int64) error {
	return f.do("cut", file.Name(), size, nil, func() error { return file.Truncate(size) })
}

// sync makes the file's bytes and size durable.
func (f *files) sync(file *os.File) error {
	return f.do("sync", file.Name(), 0, nil, func() error {
		if f.quick {
			return nil
		}
		begun := time.Now()
		err := datasync(file)
		if f.syncs != nil {
			f.syncs.Observe(time.Since(begun).Seconds())
		}
		return err
	})
}

// rename moves a file within one file system, over one that is there.
func (f *files) rename(from, to string) error {
	return f.do("rename", from, 0, []byte(to), func() error { return os.Rename(from, to) })
}

// remove removes a file; one that is not there is no error.
func (f *files) remove(path string) error {
	return f.do("remove", path, 0, nil, func() error {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// syncDir makes the names in a folder durable.
func (f *files) syncDir(path string) error {
	return f.do("syncdir", path, 0, nil, func() error {
		dir, err := os.Open(path)
		if err != nil {
			return err
		}
		if !f.quick {
			err = dir.Sync()
		}
		return errors.Join(err, dir.Close())
	})
}

// mkdir makes the folder path below root with those that lead to it, each name durable. Names that are there are synced as well: who
// made them may not have come to it yet.
func (f *files) mkdir(root, path string) error {
	if path == root {
		return nil
	}
	parent := filepath.Dir(path)
	if err := f.mkdir(root, parent); err != nil {
		return err
	}
	err := f.do("mkdir", path, 0, nil, func() error {
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	return f.syncDir(parent)
}

// mark makes an empty file if there is none, and gives it its time of modification, durable but for its name. fresh: there was none.
func (f *files) mark(path string, at time.Time) (fresh bool, err error) {
	err = f.do("mark", path, at.UnixNano(), nil, func() error {
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if fresh = err == nil; errors.Is(err, fs.ErrExist) {
			file, err = os.OpenFile(path, os.O_WRONLY, 0)
		}
		if err != nil {
			return err
		}
		err = os.Chtimes(path, at, at)
		if !f.quick && err == nil {
			err = file.Sync()
		}
		return errors.Join(err, file.Close())
	})
	return fresh, err
}
