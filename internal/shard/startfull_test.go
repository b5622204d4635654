package shard

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"
)

// fullFS finds no space for manifests.
type fullFS struct {
	vfs.FS
	full atomic.Bool
}

type fullFile struct {
	vfs.File
	fs *fullFS
}

func (f *fullFS) Create(name string) (vfs.File, error) {
	file, err := f.FS.Create(name)
	if err != nil || !strings.Contains(name, "MANIFEST") {
		return file, err
	}
	return fullFile{file, f}, nil
}

func (f fullFile) Write(b []byte) (int, error) {
	if f.fs.full.Load() {
		return 0, syscall.ENOSPC
	}
	return f.File.Write(b)
}

func (f fullFile) Sync() error {
	if f.fs.full.Load() {
		return syscall.ENOSPC
	}
	return f.File.Sync()
}

// TestStartWithoutSpace: what Pebble calls fatal while it opens ends the start, with the reason, instead of stopping it for ever.
func TestStartWithoutSpace(t *testing.T) {
	fs := &fullFS{FS: vfs.NewMem()}
	cfg := testConfig(fs)
	h := openHost(t, cfg)
	m := newToy()
	g := openToy(t, h, 1, m)
	propose(t, g, m, 0, 20)
	must(t, h.Close())
	fs.full.Store(true)
	cfg.Bootstrap = false
	ended := make(chan error, 1)
	go func() {
		_, err := OpenHost(cfg)
		ended <- err
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), remedy) {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("OpenHost does not return")
	}
}
