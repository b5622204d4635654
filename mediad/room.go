package mediad

import (
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// roomAge is how old the last look at the disk may be.
const roomAge = time.Second

// room knows how much the disk has above what is to stay free. Safe for concurrent use.
type room struct {
	dir   string
	floor int64
	now   func() time.Time
	look  func(dir string) (free int64, err error)

	mu   sync.Mutex
	at   time.Time
	last int64
}

func newRoom(dir string, floor int64, now func() time.Time) *room {
	return &room{dir: dir, floor: floor, now: now, look: freeBytes}
}

// bytes is how many more there may be: less than 0 below the floor. A disk that cannot be asked says at its next write what is wrong.
func (r *room) bytes() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if age := now.Sub(r.at); age >= 0 && age < roomAge {
		return r.last
	}
	free, err := r.look(r.dir)
	if err != nil {
		return math.MaxInt64 / 2
	}
	r.at, r.last = now, free-r.floor
	return r.last
}

// freeBytes is what the file system of dir has for this user.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // it is a uint64 on FreeBSD
}
