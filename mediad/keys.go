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

	"linecard.example/internal/wire"
)

// keyring is told over links what grants are verified with (link.Word), and keeps it in a file: a mediad that starts while no router answers
// verifies with what it knew.
type keyring struct {
	dir string // where the file is
	use func([]wire.GrantPublic)
	log *slog.Logger

	changed chan struct{} // has room for one: there may be something to write

	mu   sync.Mutex
	keys []wire.GrantPublic
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

// hear takes what a router tells.
func (k *keyring) hear(payload []byte) error {
	keys, err := wire.ParseGrantPublics(payload)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if slices.Equal(keys, k.keys) {
		return nil
	}
	k.keys = keys
	k.use(keys)
	k.log.Info("keys of grants", "newest", keys[0].ID, "keys", len(keys))
	select {
	case k.changed <- struct{}{}:
	default: // will be looked at anyway
	}
	return nil
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
