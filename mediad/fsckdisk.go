package mediad

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// checkDisk goes through the folders of blobs and of references, one pair at a time.
func (c *fsck) checkDisk(ctx context.Context, d *disk) error {
	folders, err := c.leaves(d.blobRoot(), d.refRoot())
	if err != nil {
		return err
	}
	for _, name := range folders {
		if err := c.checkLeaf(ctx, d, name); err != nil {
			return err
		}
	}
	return nil
}

// leaves lists the folders ab/cd that there are below any of the roots, and tells of what is no such folder.
func (c *fsck) leaves(roots ...string) ([]string, error) {
	var list []string
	for _, root := range roots {
		outer, err := c.subfolders(root)
		if err != nil {
			return nil, err
		}
		for _, a := range outer {
			inner, err := c.subfolders(filepath.Join(root, a))
			if err != nil {
				return nil, err
			}
			for _, b := range inner {
				list = append(list, filepath.Join(a, b))
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// subfolders lists the folders in path whose names have two digits.
func (c *fsck) subfolders(path string) (list []string, err error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.IsDir() && isLeafName(e.Name()) {
			list = append(list, e.Name())
		} else if err := c.stray(filepath.Join(path, e.Name())); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// checkLeaf checks the blobs in one folder, and the references to them.
func (c *fsck) checkLeaf(ctx context.Context, d *disk, name string) error {
	refs := map[blobHash][]reference{}
	folder := filepath.Join(d.refRoot(), name)
	err := eachSorted(folder, func(entry string) error {
		r, ok := parseReference(entry)
		if st, err := os.Lstat(filepath.Join(folder, entry)); !ok || leaf(d.refRoot(), r.hash) != folder || err != nil || !st.Mode().IsRegular() {
			return c.stray(filepath.Join(folder, entry))
		}
		refs[r.hash] = append(refs[r.hash], r)
		return nil
	})
	if err != nil {
		return err
	}
	folder = filepath.Join(d.blobRoot(), name)
	err = eachSorted(folder, func(entry string) error {
		h, ok := parseHash(entry)
		path := filepath.Join(folder, entry)
		if st, err := os.Lstat(path); !ok || leaf(d.blobRoot(), h) != folder || err != nil || !st.Mode().IsRegular() {
			return c.stray(path)
		}
		mine := refs[h]
		delete(refs, h)
		return c.checkBlob(ctx, d, h, mine)
	})
	if err != nil {
		return err
	}
	for _, h := range slices.SortedFunc(maps.Keys(refs), func(a, b blobHash) int { return bytes.Compare(a[:], b[:]) }) {
		if err := c.lostBlob(d, refs[h], "is missing"); err != nil {
			return err
		}
	}
	return nil
}

// checkBlob reads one blob and holds its references against it.
func (c *fsck) checkBlob(ctx context.Context, d *disk, h blobHash, refs []reference) error {
	path := d.blobPath(h)
	size, right, err := hashFile(ctx, path, h)
	if err != nil {
		return err
	}
	if !right {
		// The references go first: one without its blob would be the next fault.
		if len(refs) > 0 {
			if err := c.lostBlob(d, refs, "has other bytes than its name says"); err != nil {
				return err
			}
		}
		return c.fault(path+" has other bytes than its name says", "moved to "+c.quarantine, func() error { return c.setAside(path) })
	}
	c.blobs++
	c.bytes += size
	if len(refs) == 0 {
		c.garbage++
		c.garbageBytes += size
	}
	for _, r := range refs {
		c.refs++
		c.accounts[r.account] = true
		if r.size == size {
			continue
		}
		err := c.fault(fmt.Sprintf("reference %s: the blob has %d bytes", r.name(), size), "given its size", func() error {
			folder := leaf(d.refRoot(), h)
			to := reference{h, r.account, size}
			if err := c.files.rename(filepath.Join(folder, r.name()), filepath.Join(folder, to.name())); err != nil {
				return err
			}
			return c.files.syncDir(folder)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lostBlob tells of references to what cannot be read.
func (c *fsck) lostBlob(d *disk, refs []reference, why string) error {
	for _, r := range refs {
		text := fmt.Sprintf("blob %s of account %d, %d bytes, %s", r.hash, r.account, r.size, why)
		err := c.fault(text, "the reference is removed", func() error {
			folder := leaf(d.refRoot(), r.hash)
			if err := c.files.remove(filepath.Join(folder, r.name())); err != nil {
				return err
			}
			return c.files.syncDir(folder)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// hashFile reads a file; right: its bytes have the hash. Bytes that cannot be read have another one.
func hashFile(ctx context.Context, path string, h blobHash) (size int64, right bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	sum := sha256.New()
	if size, err = io.Copy(sum, reading(ctx, f)); err != nil {
		return 0, false, ctx.Err()
	}
	return size, blobHash(sum.Sum(nil)) == h, nil
}

// eachSorted is eachName in the order of the names, so that two checks say the same; names may be moved away meanwhile.
func eachSorted(folder string, f func(name string) error) error {
	var names []string
	err := eachName(folder, func(name string) error {
		names = append(names, name)
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if err := f(name); err != nil {
			return err
		}
	}
	return nil
}
