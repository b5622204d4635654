package shard

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/vfs"
)

// TestCloseEndsWash: a scrub that waits for a table to go does not hold up the end of the process.
func TestCloseEndsWash(t *testing.T) {
	fs := vfs.NewMem()
	f, err := fs.Create("000001.sst")
	must(t, errors.Join(err, f.Close()))
	h := &Host{cfg: HostConfig{FS: fs}, closing: make(chan struct{}), failing: make(chan struct{})}
	ended := make(chan error)
	go func() { ended <- h.awaitGone("", []string{"000001.sst"}) }()
	close(h.closing)
	if err := <-ended; !errors.Is(err, errClosed) {
		t.Error(err)
	}
}
