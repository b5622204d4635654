package shard

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	"linecard.example/internal/stanza"
)

func TestManyGroups(t *testing.T) {
	fs := &countingFS{FS: vfs.NewMem()}
	cfg := testConfig(fs)
	h := openHost(t, cfg)
	const n = 16
	var ms [n]*toy
	var gs [n]*toyGroup
	t.Run("open", func(t *testing.T) {
		for i := range n {
			ms[i] = newToy()
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				gs[i] = openToy(t, h, stanza.QueueGroup(i), ms[i])
			})
		}
	})
	before := fs.syncs.Load()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { propose(t, gs[i], ms[i], 0, 2000) })
	}
	wg.Wait()
	packs := uint64(0)
	for _, s := range h.Status() {
		packs += s.Applied
		if !s.Leading || s.LeaderID != "n1" {
			t.Errorf("%+v", s)
		}
	}
	syncs := fs.syncs.Load() - before
	t.Logf("%d packs in %d fsyncs", packs, syncs)
	if uint64(syncs)*2 > packs {
		t.Errorf("%d packs took %d fsyncs: groups do not share them", packs, syncs)
	}
	for i := range n {
		if ms[i].committed(t) != 2000 {
			t.Errorf("group %d incomplete", i)
		}
	}
	if _, err := Open[int, uint64](h, stanza.QueueGroup(0), newToy()); err == nil {
		t.Error("a group was opened twice")
	}
}

// countingFS counts syncs of files. Each takes a little, as on a disk, so that others gather behind it.
type countingFS struct {
	vfs.FS
	syncs atomic.Int64
}

type countingFile struct {
	vfs.File
	fs *countingFS
}

func (f *countingFS) Create(name string) (vfs.File, error) {
	x, err := f.FS.Create(name)
	return &countingFile{x, f}, err
}

func (f *countingFS) ReuseForWrite(a, b string) (vfs.File, error) {
	x, err := f.FS.ReuseForWrite(a, b)
	return &countingFile{x, f}, err
}

func (f *countingFile) Sync() error {
	f.fs.syncs.Add(1)
	time.Sleep(200 * time.Microsecond) // what a sync of a disk takes: this file system has to be as slow as one
	return f.File.Sync()
}

func (f *countingFile) SyncData() error { return f.Sync() }
