package node

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// dirLock keeps other gateways from a data directory: two of one id would each end the other's sessions at the routers, and take over the
// other's sockets. Routers and offlines need none, their databases have locks. The kernel lets go of it when the process ends.
type dirLock struct {
	mu   sync.Mutex
	dir  *os.File // nil: not held
	over bool     // close was called
}

var errDirInUse = errors.New("another gateway runs on it")

// lock takes the lock at once, or fails.
func (l *dirLock) lock(path string) error { return l.take(path, unix.LOCK_EX|unix.LOCK_NB) }

// await takes the lock when whoever has it has ended, unless close comes first. It is for the process that replaces another one.
func (l *dirLock) await(path string) error { return l.take(path, unix.LOCK_EX) }

func (l *dirLock) take(path string, how int) error {
	dir, err := os.Open(path)
	if err == nil {
		for err = unix.EINTR; errors.Is(err, unix.EINTR); {
			err = unix.Flock(int(dir.Fd()), how)
		}
		if err == nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			if !l.over {
				l.dir = dir
				return nil
			}
		}
		err = errors.Join(err, dir.Close())
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errDirInUse
	}
	if err != nil {
		return fmt.Errorf("data directory %s: %w", path, err)
	}
	return nil
}

// close lets go of the lock.
func (l *dirLock) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	if l.dir != nil {
		_ = l.dir.Close() // nothing was written
		l.dir = nil
	}
}
