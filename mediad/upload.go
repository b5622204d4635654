package mediad

import (
	"context"
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"linecard.example/internal/stanza"
)

// syncEvery is how many bytes of an upload are lost at most when the process or the machine ends.
const syncEvery = 1 << 20

// upload is one that is open. Its methods are for the goroutine that opened it. It has no buffer: write hands the caller's bytes to
// the kernel and to the hash.
type upload struct {
	u        *uploads
	id       string
	recorded bool // it can be resumed
	evict    func()
	done     chan struct{} // closed when it is let go of

	rec    record
	data   *os.File // nil: not there any more
	state  *os.File
	sum    hash.Hash
	offset int64 // bytes taken; rec.offset of them are durable
	ragged bool  // the file may be longer than that

	checked  bool  // bytes from markAt on count only when their checksum was right
	markAt   int64 // see mark
	markSum  []byte
	synced   int64 // bytes that are on the disk, of those that do not count yet
	reserved int64 // in the ledger
	counted  int64 // of those: the ledger knows that they are written
	failed   error // a sync failed: what is behind rec.offset cannot be trusted
	closed   bool
}

func newUpload(u *uploads, id string) *upload {
	return &upload{u: u, id: id, done: make(chan struct{}), sum: sha256.New()}
}

// Plain facts.
func (x *upload) account() stanza.Account { return x.rec.account }
func (x *upload) length() int64           { return x.rec.length } // -1: not known
func (x *upload) meta() []byte            { return x.rec.meta }
func (x *upload) expires() int64          { return x.rec.expires } // unix s

// position is how many bytes have been taken.
func (x *upload) position() int64 { return x.offset }

// complete says that no bytes are missing: finish is what is left to do, or was done.
func (x *upload) complete() bool { return x.rec.phase != phaseOpen || x.offset == x.rec.length }

// finished returns the blob that the upload has become.
func (x *upload) finished() (blobHash, bool) { return x.rec.hash, x.rec.phase == phaseFinished }

// hash returns SHA-256 of the bytes taken so far.
func (x *upload) hash() (h blobHash) {
	if x.rec.phase != phaseOpen {
		return x.rec.hash
	}
	x.sum.Sum(h[:0])
	return h
}

func (x *upload) path() string {
	if !x.recorded {
		return filepath.Join(x.u.dir, x.id+putSuffix)
	}
	return filepath.Join(x.u.dir, x.id+dataSuffix)
}

func (x *upload) statePath() string { return filepath.Join(x.u.dir, x.id+stateSuffix) }

// make makes the files. The names are durable when it returns.
func (x *upload) make() (err error) {
	if x.data, err = x.u.files.create(x.path()); err != nil || !x.recorded {
		return err
	}
	if x.state, err = x.u.files.create(x.statePath()); err != nil {
		return err
	}
	x.rec.sum = x.marshalSum()
	b := x.rec.appendHead(make([]byte, 0, stateSize))
	x.rec.seq++
	first := x.rec.appendSlot(nil)
	b = append(b, make([]byte, 2*slotSize)...)
	copy(b[x.rec.slotAt():], first)
	if err = x.u.files.write(x.state, b, 0); err != nil {
		return err
	}
	return errors.Join(x.u.files.sync(x.state), x.u.files.syncDir(x.u.dir))
}

// load opens the files at the durable offset. errRecord: there is nothing to go on with.
func (x *upload) load() (err error) {
	if x.state, err = os.OpenFile(x.statePath(), os.O_RDWR, 0); err != nil {
		return lost(err)
	}
	b, err := io.ReadAll(io.LimitReader(x.state, stateSize+1))
	if err != nil {
		return err
	}
	rec, err := parseRecord(b)
	if err != nil {
		return err
	}
	x.rec, x.offset = rec, rec.offset
	if x.rec.phase == phaseFinished {
		return nil
	}
	if x.data, err = os.OpenFile(x.path(), os.O_RDWR, 0); err != nil {
		if x.rec.phase == phaseComplete && errors.Is(err, fs.ErrNotExist) {
			return nil // it is a blob already
		}
		return lost(err)
	}
	st, err := x.data.Stat()
	if err != nil {
		return err
	}
	if st.Size() < x.offset {
		return fmt.Errorf("%w: %d bytes of %d are there", errRecord, st.Size(), x.offset)
	}
	x.ragged = st.Size() > x.offset
	if err := x.trim(); err != nil {
		return err
	}
	return x.loadSum()
}

// lost makes a file that is missing a record that cannot be trusted.
func lost(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", errRecord, err)
	}
	return err
}

// loadSum restores the hash. A library that does not know the form in which another one left it has the bytes read again.
func (x *upload) loadSum() error {
	if m, ok := x.sum.(encoding.BinaryUnmarshaler); ok && m.UnmarshalBinary(x.rec.sum) == nil {
		return nil
	}
	x.sum = sha256.New()
	_, err := io.Copy(x.sum, io.NewSectionReader(x.data, 0, x.offset))
	return err
}

// marshalSum returns the hash's state, nil where the library cannot.
func (x *upload) marshalSum() []byte {
	m, ok := x.sum.(encoding.BinaryMarshaler)
	if !ok {
		return nil
	}
	b, err := m.MarshalBinary()
	if err != nil || len(b) > maxSum {
		return nil
	}
	return b
}

// write takes p, which it borrows. Each MiB (see every) it makes what it has durable. errTooLong takes nothing of p. errFull, errQuota: some of p
// may have been taken; the upload can go on when there is room. Other errors: it must be closed and opened again.
func (x *upload) write(p []byte) error {
	switch {
	case x.failed != nil:
		return x.failed
	case x.rec.phase != phaseOpen:
		return errFinished
	case x.rec.length >= 0 && int64(len(p)) > x.rec.length-x.offset:
		return errTooLong
	}
	for len(p) > 0 {
		n := int(min(int64(len(p)), x.every()-(x.offset-max(x.rec.offset, x.synced))))
		if err := x.want(int64(n)); err != nil {
			return err
		}
		if err := x.u.files.write(x.data, p[:n], x.offset); err != nil {
			x.ragged = true
			return err
		}
		x.sum.Write(p[:n])
		x.offset += int64(n)
		p = p[n:]
		if x.offset-max(x.rec.offset, x.synced) >= x.every() {
			if err := x.checkpoint(); err != nil {
				return err
			}
			if x.u.ledger.low() && !x.complete() {
				return errFull
			}
		}
	}
	return nil
}

// every is how many bytes are written before they are synced. Of an upload that cannot be resumed nothing must be durable before its end;
// it is synced on the way so that the end is not the whole of it.
func (x *upload) every() int64 {
	if !x.recorded {
		return 8 * x.u.every
	}
	return x.u.every
}

// want has the ledger know of n bytes more, where the length was not told, in large steps.
func (x *upload) want(n int64) error {
	if x.rec.length >= 0 || x.offset+n <= x.reserved {
		return nil
	}
	step := (x.offset + n - x.reserved + x.u.every - 1) / x.u.every * x.u.every
	if err := x.u.ledger.more(x.rec.account, step); err != nil {
		return err
	}
	x.reserved += step
	return nil
}

// checkpoint makes durable what was taken, and the upload's life longer. While bytes wait for their checksum they go to the disk, but
// do not count.
func (x *upload) checkpoint() error {
	if x.failed != nil || x.data == nil || x.rec.phase != phaseOpen {
		return x.failed
	}
	if err := x.trim(); err != nil {
		return err
	}
	if x.offset == max(x.rec.offset, x.synced) {
		return nil
	}
	if err := x.u.files.sync(x.data); err != nil {
		return x.fail(err)
	}
	x.synced = x.offset
	x.u.ledger.wrote(x.offset - x.counted)
	x.counted = x.offset
	if x.checked || !x.recorded {
		return nil
	}
	return x.save(phaseOpen)
}

// save writes the slot that says that all bytes taken so far are durable.
func (x *upload) save(p phase) error {
	next := x.rec
	next.seq++
	next.phase, next.offset, next.sum = p, x.offset, x.marshalSum()
	next.expires = x.u.now().Add(x.u.life).Unix()
	if p != phaseOpen {
		next.hash = x.hash()
	}
	if p == phaseFinished {
		next.expires = x.u.now().Add(min(x.u.life, finishedLife)).Unix()
	}
	if x.recorded {
		if err := x.u.files.write(x.state, next.appendSlot(make([]byte, 0, slotSize)), next.slotAt()); err != nil {
			return err // the other slot still counts
		}
		if err := x.u.files.sync(x.state); err != nil {
			return x.fail(err)
		}
	}
	x.rec = next
	return nil
}

// fail gives up on what is behind the durable offset: after a sync that failed the kernel may forget what it could not write.
func (x *upload) fail(err error) error {
	if errors.Is(err, errUnavailable) {
		return err // it was not tried
	}
	x.failed = err
	return err
}

// trim cuts off what is behind the bytes taken.
func (x *upload) trim() error {
	if !x.ragged {
		return nil
	}
	if err := x.u.files.cut(x.data, x.offset); err != nil {
		return err
	}
	x.ragged = false
	return nil
}

// mark begins bytes that count only when keep is called: their checksum comes with them. What was taken before is made durable.
func (x *upload) mark() error {
	if err := x.checkpoint(); err != nil {
		return err
	}
	x.checked, x.markAt, x.markSum, x.synced = true, x.offset, x.marshalSum(), x.offset
	return nil
}

// keep ends mark: the checksum was right, the bytes are durable and count.
func (x *upload) keep() error {
	x.checked = false
	if x.offset == x.markAt {
		return nil
	}
	if err := x.checkpoint(); err != nil {
		return err
	}
	if x.rec.offset == x.offset || !x.recorded {
		return nil
	}
	return x.save(phaseOpen)
}

// rollback ends mark: the bytes since then are forgotten.
func (x *upload) rollback() error {
	x.checked = false
	if x.offset == x.markAt {
		return nil
	}
	x.u.ledger.wrote(min(x.markAt-x.counted, 0))
	x.counted = min(x.counted, x.markAt)
	x.offset, x.synced, x.ragged = x.markAt, x.markAt, true
	x.rec.sum = x.markSum
	x.sum = sha256.New()
	return errors.Join(x.loadSum(), x.trim())
}

// finish makes the upload a blob with a reference of its account. When it returns without error all that is durable. It may be called
// again: after errors of the store, which leave the upload complete, and after success. errShort: bytes are missing.
func (x *upload) finish(ctx context.Context) (blobHash, error) {
	if x.rec.phase == phaseFinished {
		return x.rec.hash, nil
	}
	if x.rec.phase == phaseOpen {
		if x.rec.length >= 0 && x.offset != x.rec.length {
			return blobHash{}, errShort
		}
		if err := x.checkpoint(); err != nil {
			return blobHash{}, err
		}
		if err := x.save(phaseComplete); err != nil {
			return blobHash{}, err
		}
	}
	h, size := x.rec.hash, x.offset
	fresh, err := x.u.blobs.commit(ctx, h, size, x.rec.account, x.path())
	if err != nil {
		x.u.counts.commitErrors.Inc()
		return blobHash{}, err
	}
	if fresh {
		x.u.ledger.add(x.rec.account, size)
	} else {
		x.u.counts.again.Inc()
	}
	x.u.ledger.over(x.rec.account, x.reserved, x.counted)
	x.reserved, x.counted = 0, 0
	x.settle()
	return h, nil
}

// settle has the record say that the blob is there. If it cannot, the record says that the upload is complete, and the next start
// finds the rest: the client's success does not hang on it.
func (x *upload) settle() {
	err := x.save(phaseFinished)
	x.rec.phase = phaseFinished
	if x.data != nil {
		err = errors.Join(err, x.data.Close(), x.u.files.remove(x.path()))
		x.data = nil
	}
	if x.recorded {
		if old := x.u.keepFinished(x.rec.account, x.id); old != "" {
			err = errors.Join(err, x.u.dispose(old))
		}
	}
	if err != nil {
		x.u.log.Warn("the record of a finished upload is not up to date", "upload", x.id, "err", err)
	}
}

// remove ends the upload and forgets it. Nothing but close may be called after it.
func (x *upload) remove() error {
	if x.closed {
		return nil
	}
	if x.rec.phase == phaseFinished {
		x.u.forget(x.rec.account, x.id)
	} else {
		x.u.ledger.over(x.rec.account, x.reserved, x.counted)
	}
	var err error
	if x.recorded { // first: a record without bytes would be a fault, bytes without a record are garbage
		if err = x.u.files.remove(x.statePath()); err == nil {
			err = x.u.files.syncDir(x.u.dir)
		}
	}
	if err == nil {
		err = x.u.files.remove(x.path())
	}
	return errors.Join(err, x.letGo(true))
}

// close lets go of the upload, and saves what it can of an unfinished one. One that cannot be resumed is removed.
func (x *upload) close() error {
	if x.closed {
		return nil
	}
	if !x.recorded && x.rec.phase != phaseFinished {
		return x.remove()
	}
	var err error
	if x.checked {
		err = x.rollback()
	}
	if x.rec.phase == phaseOpen && x.data != nil {
		err = errors.Join(err, x.checkpoint())
		x.u.ledger.wrote(x.rec.offset - x.counted) // what was not saved will be cut off
		x.counted = x.rec.offset
	}
	return errors.Join(err, x.letGo(false))
}

func (x *upload) letGo(gone bool) error {
	x.closed = true
	var err error
	for _, f := range []*os.File{x.data, x.state} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	x.u.release(x, gone)
	return err
}
