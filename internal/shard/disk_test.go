package shard

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/vfs"
)

// smallFS is a file system in memory of total bytes. Files count with their size, and foreign with what else is on the disk.
type smallFS struct {
	vfs.FS
	mu             sync.Mutex
	total, foreign int64
	err            error // of the next look
}

func (s *smallFS) used() (n int64) {
	names, _ := s.List("d")
	for _, name := range names {
		if info, err := s.Stat("d/" + name); err == nil {
			n += info.Size()
		}
	}
	return n + s.foreign
}

func (s *smallFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := s.used()
	return vfs.DiskUsage{AvailBytes: uint64(max(0, s.total-used)), TotalBytes: uint64(s.total), UsedBytes: uint64(used)}, s.err
}

func (s *smallFS) Create(name string) (vfs.File, error) {
	f, err := s.FS.Create(name)
	return smallFile{f, s}, err
}

type smallFile struct {
	vfs.File
	fs *smallFS
}

func (f smallFile) room(n int) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.used()+int64(n) > f.fs.total {
		return &os.PathError{Op: "write", Path: "d", Err: syscall.ENOSPC}
	}
	return nil
}

func (f smallFile) Write(p []byte) (int, error) {
	if err := f.room(len(p)); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f smallFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.room(len(p)); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

// diskBench is a disk of 64 MiB with a floor of 16 MiB and a ballast of 4 MiB: both are cut to the disk's size.
func diskBench(t *testing.T) (*Disk, *smallFS, *bytes.Buffer) {
	t.Helper()
	s := &smallFS{FS: vfs.NewMem(), total: 64 << 20}
	if err := s.MkdirAll("d", 0o700); err != nil {
		t.Fatal(err)
	}
	log := &bytes.Buffer{}
	return reopenDisk(t, s, log), s, log
}

func reopenDisk(t *testing.T, s *smallFS, log *bytes.Buffer) *Disk {
	t.Helper()
	d, err := OpenDisk(DiskConfig{Dir: "d", FS: s, Name: "data", FloorPercent: 5, Floor: 1 << 30, Ballast: 64 << 20,
		Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// look sets what else is on the disk and checks.
func look(d *Disk, s *smallFS, foreign int64) {
	s.mu.Lock()
	s.foreign = foreign
	s.mu.Unlock()
	d.Check()
}

// TestDiskFloor crosses the floor both ways: the mark follows with a margin, and each crossing is logged once, with figures.
func TestDiskFloor(t *testing.T) {
	d, s, log := diskBench(t)
	if st := d.Status(); st.Floor != 16<<20 || st.Ballast != 4<<20 || st.Free != 60<<20 || st.Low {
		t.Fatalf("%+v", st)
	}
	steps := []struct {
		foreign int64
		low     bool
	}{{40 << 20, false}, {44 << 20, false}, {44<<20 + 1, true}, {50 << 20, true}, {44 << 20, true}, {42<<20 + 1, true}, {42 << 20, false}, {0, false}}
	for _, step := range steps {
		if look(d, s, step.foreign); d.Low() != step.low {
			t.Errorf("with %d bytes besides: low %v", step.foreign, d.Low())
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "floor=16777216") {
		t.Errorf("%d lines, want one for each crossing:\n%s", n, log)
	}
	s.mu.Lock()
	s.err, s.foreign = errors.New("no answer"), 60<<20
	s.mu.Unlock()
	d.Check()
	d.Check()
	if d.Low() || strings.Count(log.String(), "no answer") != 1 {
		t.Errorf("low %v after a look that failed:\n%s", d.Low(), log)
	}
	if (*Disk)(nil).Low() {
		t.Error("no disk is low")
	}
}

// TestBallast fills the disk through its file system: the write that finds no space gets the ballast's, messages stay refused until the
// ballast is back, and it comes back only when the disk stays above its floor with it.
func TestBallast(t *testing.T) {
	d, s, log := diskBench(t)
	f, err := d.FS().Create("d/table")
	if err != nil {
		t.Fatal(err)
	}
	s.foreign = 60<<20 - 100
	if _, err := f.Write(make([]byte, 101)); err != nil {
		t.Fatal(err)
	}
	if st := d.Status(); !st.Low || st.Ballast != 0 || !strings.Contains(log.String(), "released=4194304") {
		t.Fatalf("%+v\n%s", st, log)
	}
	if _, err := s.Stat("d/ballast"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	if _, err := f.Write(make([]byte, 5<<20)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a disk without room or ballast took 5 MiB: %v", err)
	}
	look(d, s, 42<<20) // above the floor, but not with the ballast
	if st := d.Status(); !st.Low || st.Ballast != 0 {
		t.Errorf("%+v", st)
	}
	look(d, s, 41<<20)
	if st := d.Status(); st.Low || st.Ballast != 4<<20 {
		t.Errorf("%+v", st)
	}
}

// TestBallastAtStart finds a ballast that is whole, torn, left half made, or without room.
func TestBallastAtStart(t *testing.T) {
	_, s, log := diskBench(t)
	write := func(name string, n int) {
		t.Helper()
		f, err := s.FS.Create("d/" + name)
		if err == nil {
			_, err = f.Write(make([]byte, n))
		}
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	write("ballast", 4<<20-1)
	write("ballast.new", 100)
	if st := reopenDisk(t, s, log).Status(); st.Ballast != 4<<20 || st.Free != 60<<20 {
		t.Errorf("%+v", st)
	}
	before, _ := s.Stat("d/ballast")
	if st := reopenDisk(t, s, log).Status(); st.Ballast != 4<<20 {
		t.Errorf("%+v", st)
	}
	if after, _ := s.Stat("d/ballast"); !os.SameFile(before, after) && before.ModTime() != after.ModTime() {
		t.Error("a whole ballast was made again")
	}
	if err := s.Remove("d/ballast"); err != nil {
		t.Fatal(err)
	}
	s.foreign = 44 << 20
	if st := reopenDisk(t, s, log).Status(); st.Ballast != 0 || st.Low {
		t.Errorf("%+v", st)
	}
}

// TestBallastIsReal makes one on the real disk: it takes the blocks that its removal gives back.
func TestBallastIsReal(t *testing.T) {
	dir := t.TempDir()
	d, err := OpenDisk(DiskConfig{Dir: dir, Name: "data", Ballast: 3 << 20})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "ballast"))
	if err != nil || info.Size() != 3<<20 || allocated(info) < 3<<20 {
		t.Errorf("%v, %v", info, err)
	}
	if st := d.Status(); st.Ballast != 3<<20 || st.Low {
		t.Errorf("%+v", st)
	}
	// A sparse one of the same size is none.
	if err := os.Truncate(filepath.Join(dir, "ballast"), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "ballast"), 3<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDisk(DiskConfig{Dir: dir, Name: "data", Ballast: 3 << 20}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "ballast")); err != nil || allocated(info) < 3<<20 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestLowCostsNothing: what each message asks is an atomic load.
func TestLowCostsNothing(t *testing.T) {
	d, _, _ := diskBench(t)
	c := &core{host: &Host{cfg: HostConfig{Disk: d}}}
	if n := testing.AllocsPerRun(100, func() { c.StorageFull() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
