package mediad

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/minio/minio-go/v7"
)

// checkBucket goes through both listings side by side and reads every blob.
func (c *fsck) checkBucket(ctx context.Context, b *bucket) error {
	c.committed = func(ctx context.Context, h blobHash, size int64) (bool, error) {
		has, err := b.size(ctx, b.blobKey(h))
		if errors.Is(err, errNotFound) {
			return false, nil
		}
		return err == nil && has == size, err
	}
	if err := c.bucketStrays(ctx, b); err != nil {
		return err
	}
	return b.pairs(ctx, func(h blobHash, o minio.ObjectInfo, refs []reference) error {
		if o.Key == "" {
			return c.lostObject(ctx, b, refs, "is missing")
		}
		return c.checkObject(ctx, b, h, o, refs)
	})
}

// bucketStrays tells of objects whose names are nothing of ours.
func (c *fsck) bucketStrays(ctx context.Context, b *bucket) error {
	for _, kind := range []string{"blobs/", "refs/"} {
		for o, err := range b.list(ctx, b.prefix+kind) {
			if err != nil {
				return err
			}
			name := strings.TrimPrefix(o.Key, b.prefix+kind)
			_, isHash := parseHash(name)
			_, isRef := parseReference(name)
			if kind == "blobs/" && isHash || kind == "refs/" && isRef && o.Size == 0 {
				continue
			}
			err = c.fault(o.Key+" is nothing of a mediad", "moved to "+b.damagedKey(name), func() error { return b.setAside(ctx, o.Key, b.damagedKey(name)) })
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *fsck) checkObject(ctx context.Context, b *bucket, h blobHash, o minio.ObjectInfo, refs []reference) error {
	sum := sha256.New()
	object := &object{b: b, ctx: ctx, key: o.Key, size: o.Size}
	_, err := io.Copy(sum, object)
	object.drop()
	if err != nil {
		return err // the store cannot be read now: that says nothing of the blob
	}
	if blobHash(sum.Sum(nil)) != h {
		if err := c.lostObject(ctx, b, refs, "has other bytes than its name says"); err != nil {
			return err
		}
		to := b.damagedKey(h.String())
		return c.fault(o.Key+" has other bytes than its name says", "moved to "+to, func() error { return b.setAside(ctx, o.Key, to) })
	}
	c.blobs++
	c.bytes += o.Size
	if len(refs) == 0 {
		c.garbage++
		c.garbageBytes += o.Size
	}
	for _, r := range refs {
		c.refs++
		c.accounts[r.account] = true
		if r.size == o.Size {
			continue
		}
		err := c.fault(fmt.Sprintf("reference %s: the blob has %d bytes", r.name(), o.Size), "given its size", func() error {
			return b.setAside(ctx, b.refKey(r), b.refKey(reference{h, r.account, o.Size}))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lostObject tells of references to what cannot be read.
func (c *fsck) lostObject(ctx context.Context, b *bucket, refs []reference, why string) error {
	for _, r := range refs {
		text := fmt.Sprintf("blob %s of account %d, %d bytes, %s", r.hash, r.account, r.size, why)
		if err := c.fault(text, "the reference is removed", func() error { return b.remove(ctx, b.refKey(r)) }); err != nil {
			return err
		}
	}
	return nil
}

// setAside gives an object another name.
func (b *bucket) setAside(ctx context.Context, from, to string) error {
	ask, cancel := b.call(ctx)
	defer cancel()
	_, err := b.client.Client.CopyObject(ask, minio.CopyDestOptions{Bucket: b.name, Object: to}, minio.CopySrcOptions{Bucket: b.name, Object: from})
	if err != nil {
		return bucketError("copy", err)
	}
	return b.remove(ctx, from)
}
