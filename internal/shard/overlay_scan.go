package shard

import (
	"errors"
	"fmt"
	"slices"
)

// dirtyKeys keeps the changed keys of an overlay so that they can be walked in order. Keys come in any order and most are never
// scanned, so sorting waits for a scan: fresh keys are sorted into a small run, and that is merged into the large one when it has
// grown. A key is added once per flush and never removed before.
type dirtyKeys struct {
	settled, recent []string // sorted, disjoint
	fresh           []string // unsorted
}

const recentKeys = 1024

func (d *dirtyKeys) add(key string) { d.fresh = append(d.fresh, key) }

func (d *dirtyKeys) sort() {
	if len(d.fresh) == 0 {
		return
	}
	slices.Sort(d.fresh)
	d.recent = mergeSorted(d.recent, d.fresh)
	d.fresh = d.fresh[:0]
	if len(d.recent) > recentKeys {
		d.settled = mergeSorted(d.settled, d.recent)
		d.recent = nil
	}
}

func mergeSorted(a, b []string) []string {
	if len(a) == 0 || len(b) == 0 || a[len(a)-1] < b[0] {
		return append(a, b...)
	}
	out := make([]string, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0] < b[0] {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// keyCursor walks the changed keys of a range.
type keyCursor struct{ a, b []string }

func (d *dirtyKeys) between(lower, upper []byte) keyCursor {
	d.sort()
	cut := func(s []string) []string {
		from, _ := slices.BinarySearch(s, string(lower))
		to := len(s)
		if upper != nil {
			to, _ = slices.BinarySearch(s, string(upper))
		}
		return s[from:max(from, to)]
	}
	return keyCursor{a: cut(d.settled), b: cut(d.recent)}
}

// peek returns the smallest key left.
func (c *keyCursor) peek() (string, bool) {
	switch {
	case len(c.a) == 0 && len(c.b) == 0:
		return "", false
	case len(c.b) == 0 || len(c.a) > 0 && c.a[0] < c.b[0]:
		return c.a[0], true
	}
	return c.b[0], true
}

func (c *keyCursor) next() {
	if len(c.b) == 0 || len(c.a) > 0 && c.a[0] < c.b[0] {
		c.a = c.a[1:]
	} else {
		c.b = c.b[1:]
	}
}

// Scan calls f with every key in [lower, upper) in ascending order, changed and unchanged ones merged, until f returns false; nil
// upper means to the end. f borrows k and v for the length of the call. f may change the overlay: a change to a key that was
// passed does not matter to the scan, and whether later ones are seen is not promised.
func (o *Overlay) Scan(lower, upper []byte, f func(k, v []byte) bool) error {
	cur := o.keys.between(lower, upper)
	it, err := o.t.iter(lower, upper)
	if err != nil {
		return err
	}
	more := true
	for ok := it.First(); ok && more; ok = it.Next() {
		k := it.Key()[tablePrefix:]
		if more = o.scanDirty(&cur, k, f); !more {
			break
		}
		if _, changed := o.dirty[string(k)]; !changed {
			more = f(k, it.Value())
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return fmt.Errorf("shard: scanning %s: %w", o.t.g, err)
	}
	if more {
		o.scanDirty(&cur, nil, f)
	}
	return nil
}

// scanDirty calls f with the changed keys up to and including bound; nil bound means all that are left.
func (o *Overlay) scanDirty(cur *keyCursor, bound []byte, f func(k, v []byte) bool) bool {
	for k, ok := cur.peek(); ok; k, ok = cur.peek() {
		if bound != nil && k > string(bound) {
			return true
		}
		cur.next()
		if r := o.dirty[k]; r.present && !f([]byte(k), r.val) {
			return false
		}
	}
	return true
}
