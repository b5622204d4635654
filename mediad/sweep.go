package mediad

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// endOfNames is nil for the end of a folder.
func endOfNames(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// sweep goes folder by folder, so that it needs memory for one of them. A reference is removed, and that is durable, before its blob
// goes: see disk.
func (d *disk) sweep(ctx context.Context, refs, garbage time.Time, ended func(reference)) (s swept, err error) {
	err = d.eachLeaf(ctx, d.refRoot(), func(folder string) error { return d.sweepRefs(folder, refs, ended, &s) })
	if err != nil {
		return s, err
	}
	err = d.eachLeaf(ctx, d.blobRoot(), func(folder string) error { return d.sweepBlobs(folder, garbage, &s) })
	return s, err
}

// sweepRefs ends the references in one folder that are older than before.
func (d *disk) sweepRefs(folder string, before time.Time, ended func(reference), s *swept) error {
	var old []reference
	err := eachName(folder, func(name string) error {
		r, ok := parseReference(name)
		if !ok {
			return nil
		}
		is, err := olderThan(filepath.Join(folder, name), before)
		if is {
			old = append(old, r)
		}
		return err
	})
	if err != nil || len(old) == 0 {
		return err
	}
	for _, r := range old {
		if err := d.endOld(folder, r, before, ended, s); err != nil {
			return err
		}
	}
	return d.files.syncDir(folder)
}

// endOld ends a reference unless it was renewed in the meantime.
func (d *disk) endOld(folder string, r reference, before time.Time, ended func(reference), s *swept) error {
	defer d.lock(r.hash)()
	path := filepath.Join(folder, r.name())
	is, err := olderThan(path, before)
	if !is {
		return err
	}
	if err := d.files.remove(path); err != nil {
		return err
	}
	s.references++
	ended(r)
	return nil
}

// sweepBlobs removes the blobs in one folder that have no reference and are older than before.
func (d *disk) sweepBlobs(folder string, before time.Time, s *swept) error {
	outer, inner := filepath.Base(filepath.Dir(folder)), filepath.Base(folder)
	referred := map[blobHash]bool{}
	err := eachName(filepath.Join(d.refRoot(), outer, inner), func(name string) error {
		if r, ok := parseReference(name); ok {
			referred[r.hash] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	var idle []blobHash
	err = eachName(folder, func(name string) error {
		h, ok := parseHash(name)
		if !ok {
			return nil
		}
		if !referred[h] {
			is, err := olderThan(filepath.Join(folder, name), before)
			if is {
				idle = append(idle, h)
				return err
			}
		}
		return s.keep(filepath.Join(folder, name))
	})
	if err != nil || len(idle) == 0 {
		return err
	}
	for _, h := range idle {
		if err := d.removeIdle(h, s); err != nil {
			return err
		}
	}
	return d.files.syncDir(folder)
}

// keep counts a blob that stays.
func (s *swept) keep(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	s.kept++
	s.keptBytes += st.Size()
	return nil
}

// removeIdle removes a blob unless it was referred to in the meantime.
func (d *disk) removeIdle(h blobHash, s *swept) error {
	defer d.lock(h)()
	refs, err := d.refsOf(leaf(d.refRoot(), h), h)
	if err != nil || len(refs) > 0 {
		return err
	}
	path := d.blobPath(h)
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := d.files.remove(path); err != nil {
		return err
	}
	s.blobs++
	s.bytes += st.Size()
	return nil
}

// olderThan says whether a file was last changed before t; one that is gone was not.
func olderThan(path string, t time.Time) (bool, error) {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return st.ModTime().Before(t), nil
}
