package mediad

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestUploadInPieces(t *testing.T) {
	c := newClock()
	d := openTest(t, testOptions(t.TempDir(), c))
	p := bytesOf(1, 3*syncEvery+12345)
	x, err := d.uploads.create(7, int64(len(p)), []byte("filename YQ=="))
	mustDo(t, err)
	id := x.id
	wantHeld(t, d, 7, holding{reserved: int64(len(p)), uploads: 1})
	mustDo(t, x.write(p[:100]))
	mustDo(t, x.write(p[100:2*syncEvery-1]))
	if x.rec.offset != syncEvery {
		t.Fatalf("%d bytes durable of %d", x.rec.offset, x.position())
	}
	_, err = x.finish(t.Context())
	wantErr(t, err, errShort)
	mustDo(t, x.close())

	_, err = d.uploads.open(t.Context(), id, 8, nil)
	wantErr(t, err, errNotFound)
	x, err = d.uploads.open(t.Context(), id, 7, nil)
	mustDo(t, err)
	if x.position() != 2*syncEvery-1 || x.length() != int64(len(p)) || string(x.meta()) != "filename YQ==" {
		t.Fatalf("at %d of %d, %q", x.position(), x.length(), x.meta())
	}
	wantErr(t, x.write(make([]byte, len(p))), errTooLong)
	mustDo(t, x.write(p[2*syncEvery-1:]))
	if !x.complete() {
		t.Fatal("not complete")
	}
	h, err := x.finish(t.Context())
	mustDo(t, err)
	again, err := x.finish(t.Context())
	mustDo(t, err)
	if h != again || h != sha256.Sum256(p) {
		t.Fatalf("hash %s, then %s, want %x", h, again, sha256.Sum256(p))
	}
	wantErr(t, x.write(p[:1]), errFinished)
	mustDo(t, x.close())
	wantBlob(t, d, h, p)
	wantHeld(t, d, 7, holding{stored: int64(len(p))})
	wantUploadFiles(t, d.opt.dir, 1)

	x, err = d.uploads.open(t.Context(), id, 7, nil)
	mustDo(t, err)
	if got, ok := x.finished(); !ok || got != h || x.position() != int64(len(p)) {
		t.Fatalf("finished %v %s at %d", ok, got, x.position())
	}
	mustDo(t, x.close())
	c.turn(finishedLife)
	d.tidy(t.Context())
	_, err = d.uploads.open(t.Context(), id, 7, nil)
	wantErr(t, err, errNotFound)
	wantUploadFiles(t, d.opt.dir, 0)
	wantBlob(t, d, h, p)
}

// TestResumeAfterRestart has the process end without a word: all that was taken in before the last MiB is there.
func TestResumeAfterRestart(t *testing.T) {
	o := testOptions(t.TempDir(), newClock())
	d := openTest(t, o)
	p := bytesOf(2, 5*syncEvery)
	x, err := d.uploads.create(7, int64(len(p)), nil)
	mustDo(t, err)
	staged, err := d.uploads.stage(7, 100)
	mustDo(t, err)
	mustDo(t, staged.write(p[:50]))
	mustDo(t, x.write(p[:3*syncEvery+77]))
	d.lock.Close() // nothing is closed, as when the process was killed

	d = openTest(t, o)
	wantUploadFiles(t, o.dir, 2)
	wantHeld(t, d, 7, holding{reserved: int64(len(p)), uploads: 1})
	if d.ledger.pending != 2*syncEvery {
		t.Fatalf("%d bytes to come", d.ledger.pending)
	}
	y, err := d.uploads.open(t.Context(), x.id, 7, nil)
	mustDo(t, err)
	if y.position() != 3*syncEvery {
		t.Fatalf("resumes at %d", y.position())
	}
	mustDo(t, y.write(p[3*syncEvery:]))
	h, err := y.finish(t.Context())
	mustDo(t, err)
	wantBlob(t, d, h, p)
	mustDo(t, y.close())
	if d.ledger.pending != 0 || d.ledger.uploads != 0 {
		t.Fatalf("%d bytes to come of %d uploads", d.ledger.pending, d.ledger.uploads)
	}
}

// TestForeignSum resumes where the hash's state is of a library that this one does not know.
func TestForeignSum(t *testing.T) {
	o := testOptions(t.TempDir(), newClock())
	d := openTest(t, o)
	p := bytesOf(3, syncEvery+1000)
	x, err := d.uploads.create(7, int64(len(p)), nil)
	mustDo(t, err)
	mustDo(t, x.write(p[:syncEvery]))
	mustDo(t, x.close())
	x.rec.seq++
	x.rec.sum = []byte("something else")
	f, err := os.OpenFile(x.statePath(), os.O_RDWR, 0)
	mustDo(t, err)
	_, err = f.WriteAt(x.rec.appendSlot(nil), x.rec.slotAt())
	mustDo(t, err)
	mustDo(t, f.Close())
	x, err = d.uploads.open(t.Context(), x.id, 7, nil)
	mustDo(t, err)
	mustDo(t, x.write(p[syncEvery:]))
	h, err := x.finish(t.Context())
	mustDo(t, err)
	mustDo(t, x.close())
	wantBlob(t, d, h, p)
}

// TestTakeOver opens an upload that a request, which hangs, has open.
func TestTakeOver(t *testing.T) {
	d := openTest(t, testOptions(t.TempDir(), newClock()))
	x, err := d.uploads.create(7, 1000, nil)
	mustDo(t, err)
	mustDo(t, x.write(make([]byte, 10)))
	mustDo(t, x.close())

	evicted := make(chan struct{}, 1)
	first, err := d.uploads.open(t.Context(), x.id, 7, func() {
		select {
		case evicted <- struct{}{}:
		default:
		}
	})
	mustDo(t, err)
	mustDo(t, first.write(make([]byte, 20)))
	short, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = d.uploads.open(short, x.id, 7, nil)
	wantErr(t, err, errBusy)
	<-evicted
	go func() {
		<-evicted
		first.close()
	}()
	second, err := d.uploads.open(t.Context(), x.id, 7, nil)
	mustDo(t, err)
	if second.position() != 30 {
		t.Fatalf("the second begins at %d", second.position())
	}
	mustDo(t, second.remove())
	mustDo(t, second.close())
	wantUploadFiles(t, d.opt.dir, 0)
	wantHeld(t, d, 7, holding{})
	_, err = d.uploads.open(t.Context(), x.id, 7, nil)
	wantErr(t, err, errNotFound)
}

// TestMark has bytes count only when their checksum was right.
func TestMark(t *testing.T) {
	o := testOptions(t.TempDir(), newClock())
	d := openTest(t, o)
	p := bytesOf(4, 4*syncEvery)
	x, err := d.uploads.create(7, int64(len(p)), nil)
	mustDo(t, err)
	mustDo(t, x.write(p[:1000]))
	mustDo(t, x.mark())
	mustDo(t, x.write(make([]byte, 2*syncEvery)))
	if x.rec.offset != 1000 {
		t.Fatalf("%d bytes count without their checksum", x.rec.offset)
	}
	mustDo(t, x.rollback())
	if x.position() != 1000 {
		t.Fatalf("at %d after the rollback", x.position())
	}
	if st, err := x.data.Stat(); err != nil || st.Size() != 1000 {
		t.Fatalf("the file: %v %v", st, err)
	}
	mustDo(t, x.mark())
	mustDo(t, x.write(p[1000:1000+syncEvery])) // to a whole MiB of what is synced
	mustDo(t, x.keep())
	if x.rec.offset != 1000+syncEvery {
		t.Fatalf("%d bytes count", x.rec.offset)
	}
	mustDo(t, x.mark())
	mustDo(t, x.write(make([]byte, syncEvery+10)))
	mustDo(t, x.close()) // cut off in the middle
	x, err = d.uploads.open(t.Context(), x.id, 7, nil)
	mustDo(t, err)
	if x.position() != 1000+syncEvery {
		t.Fatalf("resumes at %d", x.position())
	}
	mustDo(t, x.write(p[x.position():]))
	h, err := x.finish(t.Context())
	mustDo(t, err)
	wantBlob(t, d, h, p)
	mustDo(t, x.close())
	if d.ledger.pending != 0 {
		t.Fatalf("%d bytes to come", d.ledger.pending)
	}
}

// TestTornSlot damages the newer slot: the older one counts.
func TestTornSlot(t *testing.T) {
	d := openTest(t, testOptions(t.TempDir(), newClock()))
	p := bytesOf(5, 4*syncEvery)
	x, err := d.uploads.create(7, int64(len(p)), nil)
	mustDo(t, err)
	mustDo(t, x.write(p[:2*syncEvery]))
	newest := x.rec.slotAt()
	mustDo(t, x.close())
	damage := func(at int64) {
		b, err := os.ReadFile(x.statePath())
		mustDo(t, err)
		binary.BigEndian.PutUint64(b[at+20:], 12345)
		mustDo(t, os.WriteFile(x.statePath(), b, 0o600))
	}
	damage(newest)
	x, err = d.uploads.open(t.Context(), x.id, 7, nil)
	mustDo(t, err)
	if x.position() != syncEvery {
		t.Fatalf("resumes at %d", x.position())
	}
	mustDo(t, x.close())
	damage(headSize)
	damage(headSize + slotSize)
	_, err = d.uploads.open(t.Context(), x.id, 7, nil)
	wantErr(t, err, errNotFound)
	wantUploadFiles(t, d.opt.dir, 0)
	wantHeld(t, d, 7, holding{})
}

func TestExpiry(t *testing.T) {
	c := newClock()
	d := openTest(t, testOptions(t.TempDir(), c))
	x, err := d.uploads.create(7, 1000, nil)
	mustDo(t, err)
	mustDo(t, x.close())
	c.turn(23 * time.Hour)
	x, err = d.uploads.open(t.Context(), x.id, 7, nil)
	mustDo(t, err)
	mustDo(t, x.write(make([]byte, 10)))
	mustDo(t, x.close())
	c.turn(23 * time.Hour) // progress made its life longer
	d.tidy(t.Context())
	x, err = d.uploads.open(t.Context(), x.id, 7, nil)
	mustDo(t, err)
	c.turn(2 * time.Hour)
	d.tidy(t.Context())
	mustDo(t, x.write(make([]byte, 10))) // whoever has it open keeps it
	mustDo(t, x.close())
	c.turn(24 * time.Hour)
	_, err = d.uploads.open(t.Context(), x.id, 7, nil)
	wantErr(t, err, errNotFound)
	d.tidy(t.Context())
	wantUploadFiles(t, d.opt.dir, 0)
	wantHeld(t, d, 7, holding{})
}

// TestFinishedRecords has one account leave more records than it may.
func TestFinishedRecords(t *testing.T) {
	d := openTest(t, testOptions(t.TempDir(), newClock()))
	for i := range finishedKept + 5 {
		x, err := d.uploads.create(7, 8, nil)
		mustDo(t, err)
		mustDo(t, x.write(binary.BigEndian.AppendUint64(nil, uint64(i))))
		_, err = x.finish(t.Context())
		mustDo(t, err)
		mustDo(t, x.close())
	}
	wantUploadFiles(t, d.opt.dir, finishedKept)
	if list, err := filepath.Glob(filepath.Join(d.opt.dir, "refs", "*", "*", "*.7.8")); err != nil || len(list) != finishedKept+5 {
		t.Fatalf("%d references, %v", len(list), err)
	}
}
