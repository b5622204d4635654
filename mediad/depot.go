package mediad

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"linecard.example/internal/stanza"
)

// depotFormat is what the file "format" in the daemon's directory says. Another one is not opened: it holds what this code may not know.
const depotFormat = "linecard media 1\n"

// garbageAge is how old a blob without a reference is before it is removed. A crash leaves such ones; so may an operator who copies blobs
// into the directory before their references.
const garbageAge = time.Hour

// depotOptions is what a depot needs. Zero values of limits mean none.
type depotOptions struct {
	dir                          string // made if it is not there
	bucket                       blobs  // nil: blobs are kept on the disk, below dir
	log                          *slog.Logger
	now                          func() time.Time
	limits                       limits
	freeSpace                    int64 // bytes that uploads leave free where dir is
	retention, uploadLife, sweep time.Duration
	files                        *files                // nil: the disk
	reg                          prometheus.Registerer // nil: no metrics
}

// depot is all that a mediad keeps: blobs with their references, unfinished uploads, and the count of who has how much. Safe for
// concurrent use.
type depot struct {
	opt     depotOptions
	log     *slog.Logger
	lock    *os.File
	files   *files
	ledger  *ledger
	uploads *uploads
	blobs   blobs
	room    *room
	count   *depotCounters

	mu   sync.Mutex
	last swept // of the last sweep that came to its end
}

// openDepot opens what is below the directory, which belongs to this process until close. Nothing is taken in until run has counted what
// accounts have; blobs can be read at once.
func openDepot(o depotOptions) (d *depot, err error) {
	if o.files == nil {
		o.files = newFiles()
	}
	d = &depot{opt: o, log: o.log, files: o.files}
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return nil, fmt.Errorf("mediad: %w", err)
	}
	lock, err := lockDir(o.dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("mediad: %s: %w", o.dir, err), lock.Close())
		}
	}()
	d.lock = lock
	if err := d.checkFormat(); err != nil {
		return nil, err
	}
	if d.blobs = o.bucket; d.blobs == nil {
		if d.blobs, err = openDisk(o.dir, o.files, o.now); err != nil {
			return nil, err
		}
	}
	d.room = newRoom(o.dir, o.freeSpace, o.now)
	d.ledger = newLedger(o.limits, d.room.bytes)
	d.count = newDepotCounters(o.reg)
	d.files.syncs = d.count.syncs
	d.uploads = &uploads{
		dir: filepath.Join(o.dir, "uploads"), files: o.files, ledger: d.ledger, blobs: d.blobs, log: o.log, now: o.now, life: o.uploadLife,
		every: syncEvery, random: rand.Reader, counts: d.count,
		known: map[string]*entry{}, finished: map[stanza.Account][]string{},
	}
	if err := o.files.mkdir(o.dir, d.uploads.dir); err != nil {
		return nil, err
	}
	if err := d.uploads.scan(); err != nil {
		return nil, err
	}
	d.register(o.reg)
	return d, nil
}

// lockDir makes this the only process that works on dir. The kernel lets go of the lock when the process ends.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("mediad: %w", err)
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errors.New("another process works on it")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mediad: %s: %w", dir, err), f.Close())
	}
	return f, nil
}

// checkFormat reads the format file, or writes it into a new directory.
func (d *depot) checkFormat() error {
	path := filepath.Join(d.opt.dir, "format")
	b, err := os.ReadFile(path)
	if err == nil && string(b) == depotFormat {
		return nil
	}
	if err == nil && len(b) > 0 {
		return fmt.Errorf("its format is %q, this linecard knows %q", b, depotFormat)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	fresh := path + ".new" // renamed when it is whole, so that a crash leaves no half of it
	if err := d.files.remove(fresh); err != nil {
		return err
	}
	f, err := d.files.create(fresh)
	if err != nil {
		return err
	}
	err = d.files.write(f, []byte(depotFormat), 0)
	if err == nil {
		err = d.files.sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := d.files.rename(fresh, path); err != nil {
		return err
	}
	return d.files.syncDir(d.opt.dir)
}

// recoverEvery is the longest time between two looks for complete uploads that are not blobs yet.
const recoverEvery = time.Minute

// run counts what accounts have, then commits what was complete and is no blob yet, and sweeps from time to time until ctx ends. A store
// that cannot be reached is tried again.
func (d *depot) run(ctx context.Context) {
	for pause := time.Second; ; pause = min(2*pause, recoverEvery) {
		err := d.tally(ctx)
		if err == nil {
			break
		}
		if ctx.Err() == nil {
			d.log.Error("what accounts have cannot be read; no upload is taken", "err", err, "retry", pause)
		}
		if !rest(ctx, pause) {
			return
		}
	}
	pause, due := time.Second, time.Now()
	for {
		left, err := d.uploads.recover(ctx)
		if err != nil && ctx.Err() == nil {
			d.log.Error("complete uploads are not blobs yet", "uploads", left, "err", err)
		}
		if pause = min(2*pause, recoverEvery); left == 0 {
			pause = recoverEvery
		}
		if !time.Now().Before(due) {
			due = time.Now().Add(d.opt.sweep)
			d.tidy(ctx) // also when commits fail: it is what makes room
		}
		if !rest(ctx, min(pause, time.Until(due))) {
			return
		}
	}
}

// rest waits; false: ctx has ended.
func rest(ctx context.Context, pause time.Duration) bool {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// tally fills the ledger from the references and lets uploads begin.
func (d *depot) tally(ctx context.Context) error {
	held := map[stanza.Account]int64{} // counted only when all were read, since it may be tried again
	err := d.blobs.references(ctx, func(r reference) error {
		held[r.account] += r.size
		return nil
	})
	if err != nil {
		return err
	}
	for a, n := range held {
		d.ledger.add(a, n)
	}
	d.ledger.open()
	return nil
}

// tidy is one pass of expiry, over uploads and blobs. What fails is tried at the next.
func (d *depot) tidy(ctx context.Context) {
	now := d.opt.now()
	uploads, err := d.uploads.expire(now)
	if err != nil {
		d.log.Error("an expired upload cannot be removed", "err", err)
	}
	d.count.expired.Add(float64(uploads))
	begun := time.Now()
	s, err := d.blobs.sweep(ctx, now.Add(-d.opt.retention), now.Add(-garbageAge), func(r reference) { d.ledger.drop(r.account, r.size) })
	if err != nil {
		if ctx.Err() == nil {
			d.log.Error("the sweep did not come to its end", "err", err)
			d.count.sweepFailures.Inc()
		}
		return
	}
	d.sweptOne(s, time.Since(begun))
	d.log.Info("swept", "uploads", uploads, "references", s.references, "blobs", s.blobs, "bytes", s.bytes, "kept", s.kept, "kept_bytes", s.keptBytes)
}

// open returns a blob for reading.
func (d *depot) open(ctx context.Context, h blobHash) (*blob, error) { return d.blobs.open(ctx, h) }

// end ends the account's reference to a blob. errNotFound: it has none. errStarting: come back.
func (d *depot) end(ctx context.Context, h blobHash, account stanza.Account) error {
	if !d.ledger.isReady() {
		return errStarting
	}
	freed, err := d.blobs.end(ctx, h, account)
	if freed > 0 {
		d.ledger.drop(account, freed)
	}
	return err
}

// close waits until ctx ends for uploads that are open, and gives up the directory.
func (d *depot) close(ctx context.Context) error {
	return errors.Join(d.uploads.close(ctx), d.lock.Close())
}
