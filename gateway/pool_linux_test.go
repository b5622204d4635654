package gateway

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// niced counts the threads of this process at nice 15, the first one aside: Go parks that one for ever instead of ending it, when
// it was a worker.
func niced(t *testing.T) int {
	t.Helper()
	stats, err := filepath.Glob("/proc/self/task/*/stat")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, path := range stats {
		if filepath.Base(filepath.Dir(path)) == strconv.Itoa(os.Getpid()) {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			continue // ended meanwhile
		}
		fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:]) // from the state on, field 3
		if nice, err := strconv.Atoi(string(fields[19-3])); err == nil && nice == 15 {
			n++
		}
	}
	return n
}

// TestPoolThreads: handshakes run on threads below the loops, and those threads end with the pool.
func TestPoolThreads(t *testing.T) {
	h := start(t, func(c *Config) { c.HandshakeWorkers = 3 })
	h.bind(5)
	h.until("threads at nice 15", func() bool { return niced(t) >= 2 })
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	h.until("their end", func() bool { return niced(t) == 0 })
}
