package slab

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// mapChunk returns n bytes (rounded up to pages by the kernel) of zeroed private memory outside the Go heap and outside core dumps.
func mapChunk(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("slab: map %d bytes: %w", n, err)
	}
	if err := unix.Madvise(b, adviceNoDump); err != nil {
		// Keys must not land in a core file: no advice, no memory.
		_ = unix.Munmap(b)
		return nil, fmt.Errorf("slab: keep %d bytes out of core dumps: %w", n, err)
	}
	return b, nil
}

// Map returns n bytes of zeroed memory outside the heap and outside core dumps, in whole pages, of which the kernel backs those that are
// touched. Unmap gives it back.
func Map(n int) ([]byte, error) { return mapChunk(n) }

// Unmap gives back what Map returned; nothing in it may be used afterwards.
func Unmap(b []byte) error { return unmapAll([][]byte{b}) }

// unmapAll gives the chunks back; no pointer into them may be used afterwards.
func unmapAll(chunks [][]byte) error {
	var first error
	for _, b := range chunks {
		if err := unix.Munmap(b); err != nil && first == nil {
			first = fmt.Errorf("slab: unmap: %w", err)
		}
	}
	return first
}
