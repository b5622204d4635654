package client

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/flynn/noise"
	"golang.org/x/sys/unix"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// Home is what a device must not forget, in a directory (mode 0700) or in memory: static key, pinned roots, identity, highest id,
// unacked messages, the last id handled of each received stream, and caches of names and device lists.
//
// Files: lock (flock; one process at a time), key (static key, 0600), roots (pinned roots), ticket (of the last session, 0600), pace (what
// was learnt of the network), files (a folder: files on their way, with their keys), journal (everything else). Every change is written to the journal at once, so that killing the process loses
// none. It is synced to disk, many changes together, before anybody else is told: before a message is transmitted (its record carries its id, so ids need no reservation of their own) and
// before a delivery is acknowledged. A power failure can lose only what was not told yet.
//
// Losing a Home loses the device; restoring an old copy is safe for ids (a client continues 2,048 above what its shard has noted), but
// messages received since the copy was made are gone. Safe for concurrent use.
type Home struct {
	dir    string // "" in memory
	static noise.DHKey
	lock   *os.File

	syncMu sync.Mutex // taken before mu: one sync or compaction at a time

	mu      sync.Mutex
	state   homeState
	roots   []Root
	ticket  []byte            // to resume with, behind its psk; nil = none
	kept    map[string][]byte // items, in memory only
	learnt  time.Duration     // ping interval, 0 = none
	failed  time.Duration     // the silence that the network did not survive, 0 = none
	floor   uint64            // ids up to it are skipped
	claimed bool              // by a Client
	err     error
	file    *os.File // nil in memory
	buf     []byte
	pos     int64 // length of the file
	base    int64 // its length after the last compaction
	lsn     int64 // bytes ever appended, through all compactions
	synced  int64 // lsn up to which everything is on disk
	mark    int64 // offset to name in the next recSynced; 0 = none due
}

// OpenHome opens the Home in dir, and makes it, with a fresh static key, if it is not there. Errors: ErrHomeInUse, ErrHomeCorrupt, or
// of the file system. The caller closes it, after the Client that uses it.
func OpenHome(dir string) (*Home, error) {
	h := &Home{dir: dir, state: newHomeState()}
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("home: %w", err)
	}
	if err := h.takeLock(); err != nil {
		return nil, err
	}
	for _, step := range []func() error{h.readKey, h.readRoots, h.readJournal, h.readTicket, h.readPace} {
		if err := step(); err != nil {
			h.lock.Close()
			return nil, err
		}
	}
	return h, nil
}

// MemoryHome returns a Home that lasts as long as the process: for tests and load clients.
func MemoryHome() *Home {
	key, err := wire.GenerateKeypair(nil)
	if err != nil {
		panic(err) // the system has no randomness
	}
	return &Home{static: key, state: newHomeState(), kept: map[string][]byte{}}
}

func (h *Home) path(name string) string { return filepath.Join(h.dir, name) }

func (h *Home) takeLock() error {
	f, err := os.OpenFile(h.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("home: %w", err)
	}
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		f.Close()
		return ErrHomeInUse
	case err != nil:
		f.Close()
		return fmt.Errorf("home: lock: %w", err)
	}
	h.lock = f
	return nil
}

const keyWord = "linecard-key "

// readKey loads the static key, or makes it. A key that is missing beside a journal is not replaced: the account would be lost for good.
func (h *Home) readKey() error {
	text, err := os.ReadFile(h.path("key"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(h.path("journal")); err == nil {
			return fmt.Errorf("%w: key is missing", ErrHomeCorrupt)
		}
		if h.static, err = wire.GenerateKeypair(nil); err != nil {
			return err
		}
		if err := writeFile(h.path("key"), []byte(keyWord+hex.EncodeToString(h.static.Private)+"\n")); err != nil {
			return fmt.Errorf("home: %w", err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("home: %w", err)
	}
	digits, ok := strings.CutPrefix(strings.TrimSpace(string(text)), keyWord)
	raw, err := hex.DecodeString(digits)
	if !ok || err != nil || len(raw) != wire.KeySize {
		return fmt.Errorf("%w: key: not a static key", ErrHomeCorrupt)
	}
	h.static = wire.KeypairOf([wire.KeySize]byte(raw))
	return nil
}

// PublicKey returns the device's static public key: what another device of the account links.
func (h *Home) PublicKey() [32]byte { return [32]byte(h.static.Public) }

// Identity returns who the Home is; ok is false before it was registered or adopted.
func (h *Home) Identity() (id Identity, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state.identity, h.state.identity.Account != 0
}

// Adopt makes a fresh Home a device of an account: what Client.LinkDevice returned for this Home's PublicKey, with the account's
// handle. It is on disk when Adopt returns. A Home that is somebody already is an error.
func (h *Home) Adopt(id Identity) error {
	folded, err := stanza.FoldHandle([]byte(id.Handle))
	if err != nil {
		return fmt.Errorf("%q: %w", id.Handle, ErrBadName)
	}
	if id.Handle = folded; id.Account == 0 || id.Device == 0 {
		return errors.New("home: adopt: no account or device number")
	}
	h.mu.Lock()
	if old := h.state.identity; old.Account != 0 && old != id {
		h.mu.Unlock()
		return fmt.Errorf("%w: %s", ErrOtherName, old.Handle)
	}
	err = h.setIdentity(id)
	h.mu.Unlock()
	if err != nil {
		return err
	}
	return h.sync()
}

// Unacked returns how many messages have not been acked yet.
func (h *Home) Unacked() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.state.unacked)
}

// Close syncs and releases the Home. Close the Client first.
func (h *Home) Close() error {
	if h.dir == "" {
		return nil
	}
	h.mu.Lock()
	if h.file == nil {
		h.mu.Unlock()
		return nil
	}
	h.mu.Unlock()
	err := h.sync()
	h.syncMu.Lock()
	defer h.syncMu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil && h.mark > 0 { // so that all of it counts as synced when it is read again
		err = errors.Join(h.flush(h.buf[:0]), h.file.Sync())
	}
	err = errors.Join(err, h.file.Close(), h.lock.Close())
	h.file, h.err = nil, ErrClosed
	return err
}
