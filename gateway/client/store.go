package client

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// compactAbove is the length from which on a journal is rewritten when it has grown to four times what it was after the last time.
const compactAbove = 1 << 20

// readJournal loads the journal, cuts a torn tail off, and leaves the file open for appending.
func (h *Home) readJournal() error {
	path := h.path("journal")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		data = []byte(journalMagic)
		err = writeFile(path, data)
	}
	if err != nil {
		return fmt.Errorf("home: %w", err)
	}
	good, err := replay(data, h.state.apply)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("home: %w", err)
	}
	if good < int64(len(data)) {
		err = errors.Join(f.Truncate(good), f.Sync())
	}
	if err == nil {
		_, err = f.Seek(good, 0)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("home: %w", err)
	}
	h.file, h.pos, h.base = f, good, good
	if good > compactAbove {
		h.base = h.snapshotSize() // short runs, one after the other, must come to compact too
	}
	h.lsn, h.synced = good, 0 // what was found may not be on disk yet: the first sync covers it
	return nil
}

// write appends the record that fill makes and returns the lsn behind it. In memory it does nothing. Caller holds mu, and has not
// changed the state yet: an error means that nothing happened. After an error of the disk the Home is unusable.
func (h *Home) write(fill func([]byte) []byte) (lsn int64, err error) {
	if h.dir == "" {
		return 0, nil
	}
	if h.err != nil {
		return 0, h.err
	}
	err = h.flush(appendRecord(h.syncedRecord(h.buf[:0]), fill))
	return h.lsn, err
}

// syncedRecord appends the recSynced record that is due, if one is.
func (h *Home) syncedRecord(dst []byte) []byte {
	if h.mark == 0 {
		return dst
	}
	offset := h.mark
	h.mark = 0
	return appendRecord(dst, func(b []byte) []byte { return appendSynced(b, offset) })
}

// flush writes whole records to the file. Caller holds mu.
func (h *Home) flush(records []byte) error {
	records = h.syncedRecord(records)
	h.buf = records[:0]
	if len(records) == 0 {
		return nil
	}
	n, err := h.file.Write(records)
	h.pos += int64(n)
	h.lsn += int64(n)
	if err != nil {
		h.err = fmt.Errorf("home: %w", err)
		return h.err
	}
	return nil
}

// sync puts everything written so far on disk. Changes written meanwhile wait for the next one: that is the group commit. It also
// compacts when that is due. Caller holds no lock.
func (h *Home) sync() error {
	if h.dir == "" {
		return nil
	}
	h.syncMu.Lock()
	defer h.syncMu.Unlock()
	h.mu.Lock()
	f, lsn, pos, err := h.file, h.lsn, h.pos, h.err
	clean := lsn == h.synced
	h.mu.Unlock()
	if err != nil || clean {
		return err
	}
	if err := f.Sync(); err != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.err = fmt.Errorf("home: sync: %w", err) // what is on disk is unknown from here on
		return h.err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.synced, h.mark = lsn, pos
	if h.pos > compactAbove && h.pos > 4*h.base {
		return h.compact()
	}
	return nil
}

// compact replaces the journal by a snapshot of the state. Caller holds syncMu and mu.
func (h *Home) compact() error {
	data := []byte(journalMagic)
	h.state.snapshot(func(content []byte) {
		data = appendRecord(data, func(b []byte) []byte { return append(b, content...) })
	})
	end := int64(len(data))
	data = appendRecord(data, func(b []byte) []byte { return appendSynced(b, end) })
	err := writeFile(h.path("journal"), data)
	if err != nil {
		h.err = fmt.Errorf("home: compact: %w", err)
		return h.err
	}
	f, err := os.OpenFile(h.path("journal"), os.O_RDWR, 0o600)
	if err == nil {
		_, err = f.Seek(int64(len(data)), 0)
	}
	if err != nil {
		h.err = fmt.Errorf("home: compact: %w", err)
		return h.err
	}
	h.file.Close() // the old file has no name any more
	h.file, h.pos, h.base, h.mark = f, int64(len(data)), int64(len(data)), 0
	h.synced = h.lsn
	return nil
}

// snapshotSize returns how long the journal would be if it were compacted now.
func (h *Home) snapshotSize() int64 {
	size := int64(len(journalMagic)) + syncedSize
	h.state.snapshot(func(content []byte) { size += recordHead + int64(len(content)) })
	return size
}

// durable returns the lsn up to which everything is on disk.
func (h *Home) durable() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.synced
}

// claim gives the Home to one Client at a time.
func (h *Home) claim() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.err != nil:
		return h.err
	case h.claimed:
		return ErrHomeInUse
	}
	h.claimed = true
	return nil
}

func (h *Home) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.claimed = false
}

// setIdentity writes who the Home is. Caller holds mu.
func (h *Home) setIdentity(id Identity) error {
	if h.state.identity == id {
		return nil
	}
	_, err := h.write(func(b []byte) []byte { return appendIdentity(b, &id) })
	if err == nil {
		h.state.identity = id
	}
	return err
}

// skipTo makes the next id come after floor. Not written: the ids between were not used, and every bound says it again.
func (h *Home) skipTo(floor uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.floor = max(h.floor, floor)
}

// topID returns the highest id used.
func (h *Home) topID() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state.top
}

// putSend gives r the next id and writes it; r is the Home's from then on. It returns the lsn that must be durable before the message
// is transmitted.
func (h *Home) putSend(r *sendRecord) (lsn int64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.id = max(h.state.top, h.floor) + 1
	if lsn, err = h.write(func(b []byte) []byte { return appendSend(b, r) }); err != nil {
		return 0, err
	}
	h.state.top = r.id
	h.state.unacked[r.id] = r
	return lsn, nil
}

// putDone forgets an unacked message. Nothing waits for its sync: a message that comes back is acked again.
func (h *Home) putDone(id uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.write(func(b []byte) []byte { return appendNumber(b, recDone, id) })
	if err == nil {
		delete(h.state.unacked, id)
	}
	return err
}

// putMark notes that the stream of p was handled up to id, and returns the lsn that must be durable before the delivery is acked.
func (h *Home) putMark(p peer, id uint64) (lsn int64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if id <= h.state.marks[p] {
		return h.lsn, h.err
	}
	if lsn, err = h.write(func(b []byte) []byte { return appendMark(b, p, id) }); err == nil {
		h.state.marks[p] = id
	}
	return lsn, err
}

// marked returns the last id handled of the stream, and the lsn that makes it durable.
func (h *Home) marked(p peer) (id uint64, lsn int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state.marks[p], h.lsn
}

func (h *Home) putContact(a Account, handle string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state.contacts[handle] == a && h.state.names[a] == handle {
		return nil
	}
	_, err := h.write(func(b []byte) []byte { return appendContact(b, a, handle) })
	if err == nil {
		h.state.setContact(a, handle)
	}
	return err
}

func (h *Home) contact(handle string) (Account, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a, ok := h.state.contacts[handle]
	return a, ok
}

func (h *Home) name(a Account) (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, ok := h.state.names[a]
	return n, ok
}

// putList notes an account's device list as the server gave it last.
func (h *Home) putList(a Account, l deviceList) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if old, ok := h.state.lists[a]; ok && old.version == l.version && slices.Equal(old.devices, l.devices) {
		return nil
	}
	_, err := h.write(func(b []byte) []byte { return appendList(b, a, &l) })
	if err == nil {
		h.state.setList(a, l)
	}
	return err
}

func (h *Home) list(a Account) (deviceList, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l, ok := h.state.lists[a]
	return l, ok
}

// become notes who the server says this Home is.
func (h *Home) become(id Identity) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.setIdentity(id)
}
