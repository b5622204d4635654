package shard

import (
	"github.com/cockroachdb/pebble/vfs"
	"golang.org/x/sys/unix"
)

// fallocate asks for size bytes of f; false: write them.
func fallocate(f vfs.File, size int64) bool {
	return f.Fd() != vfs.InvalidFd && unix.Fallocate(int(f.Fd()), 0, 0, size) == nil
}
