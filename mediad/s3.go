package mediad

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"linecard.example/internal/stanza"
)

// bucketCommits is how many blobs go to the bucket at once, each with bucketParts requests. More wait: what they wait with is on disk.
const (
	bucketCommits = 8
	bucketParts   = 3
)

// bucket keeps blobs in an S3-compatible store, as objects below a prefix that one mediad owns:
//
//	PREFIX blobs/HASH               the bytes
//	PREFIX refs/HASH.ACCOUNT.SIZE   references: empty, and as old as the store says they are
//
// An object is there whole or not at all, so a commit writes the blob, then the reference, and an end the other way round, as on disk.
type bucket struct {
	client  *minio.Core
	name    string
	prefix  string
	part    uint64
	timeout time.Duration // without progress
	commits chan struct{}
	locks   keyLocks
}

// openBucket makes a client. It does not speak to the store, which may come later than this process.
func openBucket(cfg S3Config) (*bucket, error) {
	access, err := readSecret(cfg.AccessKeyFile)
	if err != nil {
		return nil, err
	}
	secret, err := readSecret(cfg.SecretKeyFile)
	if err != nil {
		return nil, err
	}
	transport, err := minio.DefaultTransport(!cfg.Plain)
	if err != nil {
		return nil, fmt.Errorf("mediad: %w", err)
	}
	transport.MaxIdleConnsPerHost = bucketCommits * bucketParts
	transport.ResponseHeaderTimeout = cfg.Timeout.D()
	lookup := minio.BucketLookupDNS
	if cfg.PathStyle {
		lookup = minio.BucketLookupPath
	}
	client, err := minio.NewCore(cfg.Endpoint, &minio.Options{
		Creds: credentials.NewStaticV4(access, secret, ""), Secure: !cfg.Plain, Region: cfg.Region, BucketLookup: lookup,
		Transport: transport, MaxRetries: 3,
	})
	if err != nil {
		return nil, fmt.Errorf("mediad: s3: %w", err)
	}
	return &bucket{
		client: client, name: cfg.Bucket, prefix: cfg.Prefix, part: uint64(cfg.PartSize), timeout: cfg.Timeout.D(),
		commits: make(chan struct{}, bucketCommits), locks: keyLocks{held: map[blobHash]chan struct{}{}},
	}, nil
}

func readSecret(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("mediad: s3 credentials: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func (b *bucket) blobKey(h blobHash) string  { return b.prefix + "blobs/" + h.String() }
func (b *bucket) refKey(r reference) string  { return b.prefix + "refs/" + r.name() }
func (b *bucket) refsOf(h blobHash) string   { return b.prefix + "refs/" + h.String() + "." }
func (b *bucket) damagedKey(s string) string { return b.prefix + "damaged/" + s }

// bucketError makes what the store says one of ours.
func bucketError(op string, err error) error {
	if err == nil {
		return nil
	}
	if isMissing(err) {
		return fmt.Errorf("mediad: s3 %s: %w", op, errNotFound)
	}
	return fmt.Errorf("mediad: s3 %s: %w: %w", op, errUnavailable, err)
}

// isMissing says that there is no such object. A bucket that is missing is a fault of the configuration, not an answer to a client.
func isMissing(err error) bool {
	var r minio.ErrorResponse
	if !errors.As(err, &r) || r.Code == minio.NoSuchBucket {
		return false
	}
	return r.Code == minio.NoSuchKey || r.StatusCode == http.StatusNotFound
}

// call gives one request that moves no bytes its time.
func (b *bucket) call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, b.timeout)
}

// size asks for an object's size.
func (b *bucket) size(ctx context.Context, key string) (int64, error) {
	ctx, cancel := b.call(ctx)
	defer cancel()
	o, err := b.client.StatObject(ctx, b.name, key, minio.StatObjectOptions{})
	return o.Size, bucketError("stat", err)
}

func (b *bucket) remove(ctx context.Context, key string) error {
	ctx, cancel := b.call(ctx)
	defer cancel()
	return bucketError("remove", b.client.RemoveObject(ctx, b.name, key, minio.RemoveObjectOptions{}))
}

func (b *bucket) commit(ctx context.Context, h blobHash, size int64, account stanza.Account, file string) (fresh bool, err error) {
	unlock, err := b.locks.lock(ctx, h)
	if err != nil {
		return false, err
	}
	defer unlock()
	if err := b.place(ctx, h, size, file); err != nil {
		return false, err
	}
	r := reference{h, account, size}
	_, err = b.size(ctx, b.refKey(r))
	if err != nil && !errors.Is(err, errNotFound) {
		return false, err
	}
	fresh = err != nil
	ctx, cancel := b.call(ctx)
	defer cancel()
	// Written again it is as new as a new one.
	_, err = b.client.Client.PutObject(ctx, b.name, b.refKey(r), strings.NewReader(""), 0, minio.PutObjectOptions{})
	return fresh, bucketError("put of a reference", err)
}

// place uploads the staged file unless the bucket has the blob. Under the hash's lock.
func (b *bucket) place(ctx context.Context, h blobHash, size int64, file string) error {
	has, err := b.size(ctx, b.blobKey(h))
	if err == nil && has == size {
		return nil
	}
	if err != nil && !errors.Is(err, errNotFound) {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("mediad: commit of %s: %w", h, err)
	}
	defer f.Close()
	select {
	case b.commits <- struct{}{}:
		defer func() { <-b.commits }()
	case <-ctx.Done():
		return bucketError("put", ctx.Err())
	}
	ctx, stall := newStall(ctx, b.timeout)
	defer stall.end()
	_, err = b.client.Client.PutObject(ctx, b.name, b.blobKey(h), f, size, minio.PutObjectOptions{
		ContentType: "application/octet-stream", PartSize: b.part, NumThreads: bucketParts, Progress: stall,
	})
	return bucketError("put", stall.reason(err))
}

func (b *bucket) open(ctx context.Context, h blobHash) (*blob, error) {
	size, err := b.size(ctx, b.blobKey(h))
	if err != nil {
		return nil, err
	}
	return &blob{ReadSeekCloser: &object{b: b, ctx: ctx, key: b.blobKey(h), size: size}, size: size}, nil
}

func (b *bucket) end(ctx context.Context, h blobHash, account stanza.Account) (freed int64, err error) {
	unlock, err := b.locks.lock(ctx, h)
	if err != nil {
		return 0, err
	}
	defer unlock()
	found, others := false, false
	for r, err := range b.list(ctx, b.refsOf(h)) {
		if err != nil {
			return freed, err
		}
		ref, ok := parseReference(strings.TrimPrefix(r.Key, b.prefix+"refs/"))
		switch {
		case !ok || ref.hash != h:
		case ref.account != account:
			others = true
		default:
			if err := b.remove(ctx, r.Key); err != nil {
				return freed, err
			}
			found, freed = true, ref.size
		}
	}
	if !found {
		return 0, errNotFound
	}
	if others {
		return freed, nil
	}
	return freed, b.remove(ctx, b.blobKey(h))
}

func (b *bucket) references(ctx context.Context, f func(reference) error) error {
	for o, err := range b.list(ctx, b.prefix+"refs/") {
		if err != nil {
			return err
		}
		if r, ok := parseReference(strings.TrimPrefix(o.Key, b.prefix+"refs/")); ok {
			if err := f(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// keyLocks are a mutex for each hash that is worked on. A commit may take as long as its upload to the bucket takes, so one waits for
// its own blob only.
type keyLocks struct {
	mu   sync.Mutex
	held map[blobHash]chan struct{} // closed when it is let go of
}

func (k *keyLocks) lock(ctx context.Context, h blobHash) (unlock func(), err error) {
	for {
		k.mu.Lock()
		other := k.held[h]
		if other == nil {
			mine := make(chan struct{})
			k.held[h] = mine
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.held, h)
				k.mu.Unlock()
				close(mine)
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, bucketError("wait", ctx.Err())
		}
	}
}

// stall ends a transfer that stands still. It is the transfer's io.Reader of progress.
type stall struct {
	limit  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
	ctx    context.Context
}

var errStalled = errors.New("the transfer stands still")

// newStall starts the time.
func newStall(ctx context.Context, limit time.Duration) (context.Context, *stall) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &stall{limit: limit, cancel: cancel, ctx: ctx}
	s.timer = time.AfterFunc(limit, func() { cancel(errStalled) })
	return ctx, s
}

// Read is called with the bytes that were moved.
func (s *stall) Read(p []byte) (int, error) {
	s.timer.Reset(s.limit)
	return len(p), nil
}

func (s *stall) end() {
	s.timer.Stop()
	s.cancel(nil)
}

// reason names the stall where a cancelled context is all that is said.
func (s *stall) reason(err error) error {
	if err != nil && errors.Is(context.Cause(s.ctx), errStalled) {
		return errors.Join(errStalled, err)
	}
	return err
}

// object reads a blob from the bucket: one request from each position that is sought, which lasts as long as it is read on. One
// goroutine.
type object struct {
	b    *bucket
	ctx  context.Context
	key  string
	size int64
	at   int64

	body  io.ReadCloser // from at on; nil: no request is under way
	stall *stall
}

func (o *object) Read(p []byte) (int, error) {
	if o.at >= o.size {
		return 0, io.EOF
	}
	if o.body == nil {
		if err := o.request(); err != nil {
			return 0, err
		}
	}
	o.stall.timer.Reset(o.stall.limit) // what the reader does between two reads is its own affair
	n, err := o.body.Read(p)
	o.stall.timer.Stop()
	o.at += int64(n)
	if errors.Is(err, io.EOF) && o.at < o.size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = bucketError("get", o.stall.reason(err))
	}
	return n, err
}

func (o *object) request() error {
	var opt minio.GetObjectOptions
	if o.at > 0 {
		if err := opt.SetRange(o.at, 0); err != nil {
			return err
		}
	}
	ctx, stall := newStall(o.ctx, o.b.timeout)
	body, _, _, err := o.b.client.GetObject(ctx, o.b.name, o.key, opt)
	stall.timer.Stop()
	if err != nil {
		stall.end()
		return bucketError("get", stall.reason(err))
	}
	o.body, o.stall = body, stall
	return nil
}

// Seek asks for nothing yet.
func (o *object) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += o.at
	case io.SeekEnd:
		offset += o.size
	}
	if offset < 0 {
		return 0, errors.New("mediad: seek before the beginning")
	}
	if offset != o.at {
		o.drop()
		o.at = offset
	}
	return offset, nil
}

// Close ends the request that is under way.
func (o *object) Close() error {
	o.drop()
	return nil
}

func (o *object) drop() {
	if o.body != nil {
		o.stall.end()
		o.body.Close()
		o.body = nil
	}
}
