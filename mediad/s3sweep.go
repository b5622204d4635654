package mediad

import (
	"context"
	"errors"
	"iter"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
)

// list yields the objects below a prefix in the order of their keys, until an error, which it yields too. Each page has its time.
func (b *bucket) list(ctx context.Context, prefix string) iter.Seq2[minio.ObjectInfo, error] {
	return func(yield func(minio.ObjectInfo, error) bool) {
		ctx, stall := newStall(ctx, b.timeout)
		defer stall.end()
		for o := range b.client.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
			stall.timer.Stop() // what the caller does meanwhile is its own affair
			if o.Err != nil {
				yield(o, bucketError("list", stall.reason(o.Err)))
				return
			}
			if !yield(o, nil) {
				return
			}
			stall.timer.Reset(stall.limit)
		}
		if err := context.Cause(ctx); err != nil {
			yield(minio.ObjectInfo{}, bucketError("list", err))
		}
	}
}

// sweep goes through both listings once for references, and once more for blobs, side by side: both are in the order of the hashes.
func (b *bucket) sweep(ctx context.Context, refs, garbage time.Time, ended func(reference)) (s swept, err error) {
	if err := b.sweepRefs(ctx, refs, ended, &s); err != nil {
		return s, err
	}
	err = b.pairs(ctx, func(h blobHash, o minio.ObjectInfo, refs []reference) error {
		if o.Key == "" {
			return nil // a reference to nothing is for fsck
		}
		if len(refs) == 0 && o.LastModified.Before(garbage) {
			return b.removeIdle(ctx, h, o.Size, &s)
		}
		s.kept++
		s.keptBytes += o.Size
		return nil
	})
	if err != nil {
		return s, err
	}
	return s, b.sweepParts(ctx, garbage)
}

func (b *bucket) sweepRefs(ctx context.Context, before time.Time, ended func(reference), s *swept) error {
	for o, err := range b.list(ctx, b.prefix+"refs/") {
		if err != nil {
			return err
		}
		r, ok := parseReference(strings.TrimPrefix(o.Key, b.prefix+"refs/"))
		if !ok || !o.LastModified.Before(before) {
			continue
		}
		if err := b.endOld(ctx, r, before, ended, s); err != nil {
			return err
		}
	}
	return nil
}

// endOld ends a reference unless it was renewed since it was listed.
func (b *bucket) endOld(ctx context.Context, r reference, before time.Time, ended func(reference), s *swept) error {
	unlock, err := b.locks.lock(ctx, r.hash)
	if err != nil {
		return err
	}
	defer unlock()
	ask, cancel := b.call(ctx)
	defer cancel()
	o, err := b.client.StatObject(ask, b.name, b.refKey(r), minio.StatObjectOptions{})
	if err = bucketError("stat", err); errors.Is(err, errNotFound) {
		return nil
	}
	if err != nil || !o.LastModified.Before(before) {
		return err
	}
	if err := b.remove(ctx, b.refKey(r)); err != nil {
		return err
	}
	s.references++
	ended(r)
	return nil
}

// removeIdle removes a blob unless it was referred to since it was listed.
func (b *bucket) removeIdle(ctx context.Context, h blobHash, size int64, s *swept) error {
	unlock, err := b.locks.lock(ctx, h)
	if err != nil {
		return err
	}
	defer unlock()
	for _, err := range b.list(ctx, b.refsOf(h)) {
		return err // there is one
	}
	if err := b.remove(ctx, b.blobKey(h)); err != nil {
		return err
	}
	s.blobs++
	s.bytes += size
	return nil
}

// sweepParts ends uploads to the bucket that a crash left in the middle: their parts cost as much as blobs do.
func (b *bucket) sweepParts(ctx context.Context, before time.Time) error {
	for p := range b.client.ListIncompleteUploads(ctx, b.name, b.prefix+"blobs/", true) {
		if p.Err != nil {
			return bucketError("list of parts", p.Err)
		}
		if !p.Initiated.Before(before) {
			continue
		}
		ask, cancel := b.call(ctx)
		err := b.client.AbortMultipartUpload(ask, b.name, p.Key, p.UploadID)
		cancel()
		if err = bucketError("abort", err); err != nil && !errors.Is(err, errNotFound) {
			return err
		}
	}
	return nil
}

// pairs calls f for each hash that has a blob or a reference, in order, with all of both. The object has no key where there is no blob.
func (b *bucket) pairs(ctx context.Context, f func(h blobHash, o minio.ObjectInfo, refs []reference) error) error {
	next, stop := iter.Pull2(b.list(ctx, b.prefix+"refs/"))
	defer stop()
	var ref reference
	var err error
	more := true
	advance := func() {
		for more {
			var o minio.ObjectInfo
			if o, err, more = next(); err != nil {
				more = false
			}
			if r, ok := parseReference(strings.TrimPrefix(o.Key, b.prefix+"refs/")); more && ok {
				ref = r
				return
			}
		}
	}
	// upTo hands out the references of hashes before limit that have no blob, and returns those of limit; "" is behind all.
	upTo := func(limit string) (mine []reference, _ error) {
		for more && (limit == "" || ref.hash.String() <= limit) {
			h := ref.hash
			var list []reference
			for more && ref.hash == h {
				list = append(list, ref)
				advance()
			}
			if err != nil {
				return nil, err
			}
			if h.String() == limit {
				return list, nil
			}
			if err := f(h, minio.ObjectInfo{}, list); err != nil {
				return nil, err
			}
		}
		return nil, err
	}
	if advance(); err != nil {
		return err
	}
	for o, err := range b.list(ctx, b.prefix+"blobs/") {
		if err != nil {
			return err
		}
		h, ok := parseHash(strings.TrimPrefix(o.Key, b.prefix+"blobs/"))
		if !ok {
			continue
		}
		refs, err := upTo(h.String())
		if err != nil {
			return err
		}
		if err := f(h, o, refs); err != nil {
			return err
		}
	}
	_, err = upTo("")
	return err
}
