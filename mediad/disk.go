package mediad

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"linecard.example/internal/stanza"
)

// disk keeps blobs in folders of a directory:
//
//	blobs/ab/cd/HASH               the bytes; abcd is how the hash begins
//	refs/ab/cd/HASH.ACCOUNT.SIZE   references
//
// A name is durable in its folder before anything that relies on it is done: the blob before its reference, the reference before the
// upload's record says finished; the other way round, a reference is gone before its blob is. So a crash leaves blobs without reference,
// which are garbage, and never a reference without its blob.
type disk struct {
	dir   string
	files *files
	now   func() time.Time
	locks [256]sync.Mutex // by the first byte of the hash: whoever makes or fills a folder is alone there
}

// openDisk opens the blobs below dir, which exists. Names that a process made and did not come to sync are made durable.
func openDisk(dir string, f *files, now func() time.Time) (*disk, error) {
	d := &disk{dir: dir, files: f, now: now}
	for _, root := range []string{d.blobRoot(), d.refRoot()} {
		if err := f.mkdir(dir, root); err != nil {
			return nil, err
		}
		folders, err := os.ReadDir(root)
		if err != nil {
			return nil, err
		}
		if err := f.syncDir(root); err != nil {
			return nil, err
		}
		for _, e := range folders {
			if e.IsDir() {
				if err := f.syncDir(filepath.Join(root, e.Name())); err != nil {
					return nil, err
				}
			}
		}
	}
	return d, nil
}

func (d *disk) blobRoot() string { return filepath.Join(d.dir, "blobs") }
func (d *disk) refRoot() string  { return filepath.Join(d.dir, "refs") }

// leaf is the folder of a hash below root.
func leaf(root string, h blobHash) string {
	name := h.String()
	return filepath.Join(root, name[:2], name[2:4])
}

func (d *disk) blobPath(h blobHash) string { return filepath.Join(leaf(d.blobRoot(), h), h.String()) }

func (d *disk) lock(h blobHash) (unlock func()) {
	l := &d.locks[h[0]]
	l.Lock()
	return l.Unlock
}

func (d *disk) commit(_ context.Context, h blobHash, size int64, account stanza.Account, file string) (fresh bool, err error) {
	defer d.lock(h)()
	if err := d.place(h, size, file); err != nil {
		return false, fmt.Errorf("mediad: commit of %s: %w", h, err)
	}
	if fresh, err = d.refer(reference{h, account, size}); err != nil {
		return false, fmt.Errorf("mediad: reference to %s: %w", h, err)
	}
	return fresh, nil
}

// place puts the staged file where the blob goes, unless it is there. Under the hash's lock.
func (d *disk) place(h blobHash, size int64, file string) error {
	path := d.blobPath(h)
	st, err := os.Lstat(path)
	if err == nil && st.Mode().IsRegular() && st.Size() == size {
		return d.files.syncDir(filepath.Dir(path)) // whoever put it there may not have come to it
	}
	// What is there with another size is damaged, and replaced.
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if staged, err := exists(file); err != nil || !staged {
		return errors.Join(err, fmt.Errorf("%w: neither staged nor stored", errNotFound))
	}
	now := d.now()
	if err := os.Chtimes(file, now, now); err != nil { // its age as garbage, should it become that
		return err
	}
	if err := d.files.rename(file, path); errors.Is(err, fs.ErrNotExist) {
		if err := d.files.mkdir(d.dir, filepath.Dir(path)); err != nil {
			return err
		}
		if err := d.files.rename(file, path); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return d.files.syncDir(filepath.Dir(path))
}

// refer makes or renews a reference. Under the hash's lock.
func (d *disk) refer(r reference) (fresh bool, err error) {
	folder := leaf(d.refRoot(), r.hash)
	path := filepath.Join(folder, r.name())
	if fresh, err = d.files.mark(path, d.now()); errors.Is(err, fs.ErrNotExist) {
		if err = d.files.mkdir(d.dir, folder); err == nil {
			fresh, err = d.files.mark(path, d.now())
		}
	}
	if err != nil {
		return false, err
	}
	return fresh, d.files.syncDir(folder)
}

func (d *disk) open(_ context.Context, h blobHash) (*blob, error) {
	file, err := os.Open(d.blobPath(h))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("mediad: blob: %w", err)
	}
	st, err := file.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errNotFound
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &blob{ReadSeekCloser: file, size: st.Size()}, nil
}

func (d *disk) end(_ context.Context, h blobHash, account stanza.Account) (freed int64, err error) {
	defer d.lock(h)()
	folder := leaf(d.refRoot(), h)
	refs, err := d.refsOf(folder, h)
	if err != nil {
		return 0, err
	}
	found, others := false, false
	for _, r := range refs {
		if r.account != account {
			others = true
			continue
		}
		if err := d.files.remove(filepath.Join(folder, r.name())); err != nil {
			return 0, err
		}
		found, freed = true, r.size
	}
	if !found {
		return 0, errNotFound
	}
	if err := d.files.syncDir(folder); err != nil || others {
		return freed, err
	}
	if err := d.files.remove(d.blobPath(h)); err != nil {
		return freed, err
	}
	return freed, d.files.syncDir(leaf(d.blobRoot(), h))
}

// refsOf lists the references to h in its folder.
func (d *disk) refsOf(folder string, h blobHash) ([]reference, error) {
	var list []reference
	err := eachName(folder, func(name string) error {
		if r, ok := parseReference(name); ok && r.hash == h {
			list = append(list, r)
		}
		return nil
	})
	return list, err
}

func (d *disk) references(ctx context.Context, f func(reference) error) error {
	return d.eachLeaf(ctx, d.refRoot(), func(folder string) error {
		return eachName(folder, func(name string) error {
			r, ok := parseReference(name)
			if !ok {
				return nil // fsck tells of it
			}
			return f(r)
		})
	})
}

// eachLeaf calls f for the folders ab/cd below root, in order.
func (d *disk) eachLeaf(ctx context.Context, root string, f func(folder string) error) error {
	outer, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, a := range outer {
		if !a.IsDir() || !isLeafName(a.Name()) {
			continue
		}
		inner, err := os.ReadDir(filepath.Join(root, a.Name()))
		if err != nil {
			return err
		}
		for _, b := range inner {
			if !b.IsDir() || !isLeafName(b.Name()) {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := f(filepath.Join(root, a.Name(), b.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func isLeafName(s string) bool {
	return len(s) == 2 && strings.Trim(s, "0123456789abcdef") == ""
}

// eachName calls f for the names in a folder, some at a time: a folder may hold many. One that is not there has none.
func eachName(folder string, f func(name string) error) error {
	dir, err := os.Open(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(256)
		for _, name := range names {
			if err := f(name); err != nil {
				return err
			}
		}
		if len(names) == 0 || err != nil {
			return endOfNames(err)
		}
	}
}
