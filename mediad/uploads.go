package mediad

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"linecard.example/internal/stanza"
)

// What the names in the folder of uploads end with.
const (
	dataSuffix  = ".data"  // bytes of an upload that can be resumed
	stateSuffix = ".state" // its record
	putSuffix   = ".put"   // bytes of an upload that cannot; worth nothing after a restart
)

const (
	// finishedLife is how long the record of a finished upload tells a client, which lost the last answer, that it is done.
	finishedLife = time.Hour
	// finishedKept is how many of them an account has at most; then the oldest goes.
	finishedKept = 32
)

// uploads are the files that wait to become blobs: on the local disk, whatever store the blobs go to, since a blob's name is known
// when its last byte is. Safe for concurrent use. An upload that is open belongs to one goroutine.
type uploads struct {
	dir    string
	files  *files
	ledger *ledger
	blobs  blobs
	log    *slog.Logger
	now    func() time.Time
	life   time.Duration // of an upload without progress
	every  int64         // syncEvery, or less in tests
	random io.Reader     // of ids
	counts *depotCounters

	mu       sync.Mutex
	known    map[string]*entry // those with a record, by id
	finished map[stanza.Account][]string
	closed   bool
	staged   sync.WaitGroup // those that are open
}

// entry is what is kept in memory of an upload with a record, so that idle ones cost no file and no buffer.
type entry struct {
	account stanza.Account
	expires int64
	phase   phase
	held    *upload // who has it open

	reserved, counted int64 // what the ledger knows of it while nobody has it open
}

// create makes an upload of length bytes with a record, and opens it. meta is copied. errMeta, and what ledger.begin says.
func (u *uploads) create(account stanza.Account, length int64, meta []byte) (*upload, error) {
	if len(meta) > maxMeta {
		return nil, errMeta
	}
	return u.begin(account, length, meta, nil, true)
}

// stage makes an upload that cannot be resumed, and opens it. length may be -1: not known.
func (u *uploads) stage(account stanza.Account, length int64) (*upload, error) {
	return u.begin(account, length, nil, nil, false)
}

func (u *uploads) begin(account stanza.Account, length int64, meta []byte, evict func(), recorded bool) (*upload, error) {
	reserve := max(length, 0)
	if err := u.ledger.begin(account, reserve); err != nil {
		return nil, err
	}
	var random [16]byte
	if _, err := io.ReadFull(u.random, random[:]); err != nil {
		u.ledger.over(account, reserve, 0)
		return nil, err
	}
	x := newUpload(u, hex.EncodeToString(random[:]))
	now := u.now()
	x.recorded, x.evict, x.reserved = recorded, evict, reserve
	x.rec = record{account: account, length: length, created: now.Unix(), meta: meta, phase: phaseOpen, expires: now.Add(u.life).Unix()}
	if err := u.hold(x); err != nil {
		u.ledger.over(account, reserve, 0)
		return nil, err
	}
	if err := x.make(); err != nil {
		return nil, errors.Join(err, x.remove())
	}
	return x, nil
}

// hold enters an upload that has just been begun.
func (u *uploads) hold(x *upload) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return errClosed
	}
	u.staged.Add(1)
	if x.recorded {
		u.known[x.id] = &entry{account: x.rec.account, expires: x.rec.expires, phase: phaseOpen, held: x, reserved: x.reserved}
	}
	return nil
}

// open opens an upload at its durable offset. Whoever has it open is told to let go by its evict, and waited for until ctx ends: a
// connection that hangs must not keep its client from going on. evict is called on other goroutines, perhaps often; nil: this opener
// cannot be told. errNotFound: also if it is another account's, or expired. errBusy: it was not let go of in time.
func (u *uploads) open(ctx context.Context, id string, account stanza.Account, evict func()) (*upload, error) {
	x := newUpload(u, id)
	x.recorded, x.evict = true, evict
	for {
		other, err := u.claim(x, account)
		if err != nil {
			return nil, err
		}
		if other == nil {
			break
		}
		if other.evict != nil {
			other.evict()
		}
		select {
		case <-other.done:
		case <-ctx.Done():
			return nil, errBusy
		}
	}
	if err := x.load(); err != nil {
		if errors.Is(err, errRecord) {
			u.log.Error("an upload cannot be resumed", "upload", id, "err", err)
			return nil, errors.Join(errNotFound, x.remove())
		}
		return nil, errors.Join(err, x.close())
	}
	return x, nil
}

// claim gives the upload to x, or says who has it.
func (u *uploads) claim(x *upload, account stanza.Account) (other *upload, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	e := u.known[x.id]
	switch {
	case u.closed:
		return nil, errClosed
	case e == nil || e.account != account || e.held == nil && e.phase != phaseComplete && u.now().Unix() >= e.expires:
		return nil, errNotFound
	case e.held != nil:
		return e.held, nil
	}
	u.lend(e, x)
	return nil, nil
}

// lend gives x an upload that nobody has. Under mu.
func (u *uploads) lend(e *entry, x *upload) {
	e.held = x
	x.rec.account, x.reserved, x.counted = e.account, e.reserved, e.counted
	u.staged.Add(1)
}

// release takes back an upload; gone says that its record is removed.
func (u *uploads) release(x *upload, gone bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e := u.known[x.id]; e != nil && e.held == x {
		e.held, e.expires, e.phase, e.reserved, e.counted = nil, x.rec.expires, x.rec.phase, x.reserved, x.counted
		if gone {
			delete(u.known, x.id)
		}
	}
	u.staged.Done()
	close(x.done)
}

// keepFinished notes that a record is only there to tell; old is one that need not be told any more.
func (u *uploads) keepFinished(a stanza.Account, id string) (old string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := append(u.finished[a], id)
	if len(list) > finishedKept {
		old, list = list[0], list[1:]
	}
	u.finished[a] = list
	return old
}

// forget is the opposite of keepFinished.
func (u *uploads) forget(a stanza.Account, id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := u.finished[a]
	for i, s := range list {
		if s == id {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if u.finished[a] = list; len(list) == 0 {
		delete(u.finished, a)
	}
}

// dispose removes an upload unless somebody has it open.
func (u *uploads) dispose(id string) error {
	x := newUpload(u, id)
	x.recorded = true
	u.mu.Lock()
	e := u.known[id]
	if u.closed || e == nil || e.held != nil {
		u.mu.Unlock()
		return nil
	}
	u.lend(e, x)
	u.mu.Unlock()
	if err := x.load(); err != nil && !errors.Is(err, errRecord) {
		return errors.Join(err, x.close())
	}
	return x.remove()
}

// expire removes the uploads whose time has come. Those that are complete are not removed: they are blobs that nobody was told of.
func (u *uploads) expire(now time.Time) (n int, err error) {
	var list []string
	u.mu.Lock()
	for id, e := range u.known {
		if e.held == nil && e.phase != phaseComplete && now.Unix() >= e.expires {
			list = append(list, id)
		}
	}
	u.mu.Unlock()
	for _, id := range list {
		if e := u.dispose(id); e != nil {
			err = e
			continue
		}
		n++
	}
	return n, err
}

// count returns how many uploads have a record, by phase.
func (u *uploads) count() (open, complete, finished int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, e := range u.known {
		switch e.phase {
		case phaseOpen:
			open++
		case phaseComplete:
			complete++
		case phaseFinished:
			finished++
		}
	}
	return open, complete, finished
}

// scan reads what was there at start: once, before anything else. What no client was told of is removed.
func (u *uploads) scan() error {
	dir, err := os.Open(u.dir)
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	if err = errors.Join(err, dir.Close()); err != nil {
		return err
	}
	data, states := map[string]bool{}, map[string]bool{}
	for _, name := range names {
		if id, ok := strings.CutSuffix(name, dataSuffix); ok {
			data[id] = true
		}
	}
	for _, name := range names {
		if id, ok := strings.CutSuffix(name, stateSuffix); ok {
			if states[id], err = u.recall(id, data[id]); err != nil {
				return err
			}
		}
	}
	for _, name := range names {
		id, isData := strings.CutSuffix(name, dataSuffix)
		if isData && !states[id] || strings.HasSuffix(name, putSuffix) {
			if err := u.files.remove(filepath.Join(u.dir, name)); err != nil {
				return err
			}
		}
	}
	return u.files.syncDir(u.dir)
}

// recall enters one upload of before the start; ok: its bytes are still needed.
func (u *uploads) recall(id string, hasData bool) (ok bool, err error) {
	path := filepath.Join(u.dir, id+stateSuffix)
	b, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	rec, err := parseRecord(b)
	if err == nil && rec.halfMade(hasData) {
		return false, u.files.remove(path)
	}
	if err != nil {
		u.log.Warn("an upload was cut off while it was made, or its record is damaged; it is removed", "upload", id)
		return false, u.files.remove(path)
	}
	u.mu.Lock()
	e := &entry{account: rec.account, expires: rec.expires, phase: rec.phase}
	u.known[id] = e
	if rec.phase != phaseFinished {
		e.reserved, e.counted = rec.length, rec.offset
	}
	u.mu.Unlock()
	if rec.phase == phaseFinished {
		u.keepFinished(rec.account, id)
		return false, nil
	}
	u.ledger.again(rec.account, rec.length, rec.offset)
	return true, nil
}

// recover commits what was complete and is no finished blob yet, because the process ended or the store could not be reached. It is
// called again until it says nothing is left.
func (u *uploads) recover(ctx context.Context) (left int, err error) {
	type due struct {
		id      string
		account stanza.Account
	}
	var list []due
	u.mu.Lock()
	for id, e := range u.known {
		if e.held == nil && e.phase == phaseComplete {
			list = append(list, due{id, e.account})
		}
	}
	u.mu.Unlock()
	for _, d := range list {
		x, e := u.open(ctx, d.id, d.account, nil)
		if e == nil {
			_, e = x.finish(ctx)
			e = errors.Join(e, x.close())
		}
		if e != nil && !errors.Is(e, errNotFound) {
			left++
			err = fmt.Errorf("upload %s: %w", d.id, e)
		}
	}
	return left, err
}

// close ends the folder: nothing is opened any more, and who has something open is told to let go and waited for until ctx ends.
func (u *uploads) close(ctx context.Context) error {
	u.mu.Lock()
	u.closed = true
	var held []*upload
	for _, e := range u.known {
		if e.held != nil && e.held.evict != nil {
			held = append(held, e.held)
		}
	}
	u.mu.Unlock()
	for _, x := range held {
		x.evict()
	}
	done := make(chan struct{})
	go func() {
		u.staged.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("mediad: uploads are still open: %w", ctx.Err())
	}
}

// exists says whether a file is there.
func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
