package mediad

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// keyring hears over links what grants are verified with, and keeps it in a file: a mediad that starts while no router answers verifies
// with what it knew. It implements link.Handler. What a later leader of dir/0 says replaces what it heard before, unless it is one that
// was replaced itself and does not know yet.
type keyring struct {
	dir string // where the file is
	use func([]wire.GrantPublic)
	log *slog.Logger

	changed chan struct{} // has room for one: there may be something to write

	mu     sync.Mutex
	keys   []wire.GrantPublic
	term   uint64
	teller *link.Stream // nil: it is gone, or the keys are from the file
}

const (
	keysFile = "grant-keys"
	keysHead = "linecard grant keys 1\n"
)

// newKeyring returns a keyring that uses what the file has. One that cannot be read is as none: the routers tell again.
func newKeyring(dir string, use func([]wire.GrantPublic), log *slog.Logger) *keyring {
	k := &keyring{dir: dir, use: use, log: log, changed: make(chan struct{}, 1)}
	keys, err := readKeys(filepath.Join(dir, keysFile))
	if err != nil {
		log.Warn("the keys of grants cannot be read; the routers tell them again", "err", err)
	}
	if k.keys = keys; len(keys) > 0 {
		use(keys)
	}
	return k
}

// readKeys reads the file; nil: there is none.
func readKeys(path string) ([]wire.GrantPublic, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(b) < len(keysHead) || string(b[:len(keysHead)]) != keysHead {
		return nil, fmt.Errorf("%s: not a file of grant keys", path)
	}
	keys, err := wire.ParseGrantPublics(b[len(keysHead):])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

// Up implements link.Handler. The leader of dir/0 tells by itself.
func (k *keyring) Up(*link.Stream) {}

// Down implements link.Handler. When who told the keys is gone, whoever tells others is believed: terms begin again where a directory lost
// its disk.
func (k *keyring) Down(s *link.Stream, _ error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.teller == s {
		k.teller = nil
	}
}

// Receive implements link.Handler.
func (k *keyring) Receive(s *link.Stream, batch []link.Envelope) {
	for i := range batch {
		e := &batch[i]
		size := e.Size()
		if e.Kind == link.KindGrantKeys && e.Group == stanza.DirGroup(0) && s.Peer().Role == link.RoleRouter {
			k.hear(s, e.Term, e.Payload)
		}
		s.Done(e.Group, size)
	}
}

func (k *keyring) hear(s *link.Stream, term uint64, payload []byte) {
	keys, err := wire.ParseGrantPublics(payload)
	if err != nil {
		k.log.Warn("a router tells keys of grants that are none", "err", err)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if term < k.term && k.teller != nil && k.teller != s {
		return
	}
	k.term, k.teller = term, s
	if slices.Equal(keys, k.keys) {
		return
	}
	k.keys = keys
	k.use(keys)
	k.log.Info("keys of grants", "newest", keys[0].ID, "keys", len(keys))
	select {
	case k.changed <- struct{}{}:
	default: // will be looked at anyway
	}
}

// run writes what was heard, apart from the links, which must not wait for a disk. A write that fails is told, and not tried again before
// there is something new: it is of use after the next start only.
func (k *keyring) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.changed:
		}
		k.mu.Lock()
		keys := k.keys
		k.mu.Unlock()
		if err := writeKeys(k.dir, keys); err != nil {
			k.log.Warn("the keys of grants cannot be kept for the next start", "err", err)
		}
	}
}

// writeKeys replaces the file as a whole. It is not synced before it has its name: one that a power cut leaves empty is as none.
func writeKeys(dir string, keys []wire.GrantPublic) error {
	path := filepath.Join(dir, keysFile)
	if err := os.WriteFile(path+".new", wire.AppendGrantPublics([]byte(keysHead), keys), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
