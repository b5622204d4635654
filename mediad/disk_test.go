package mediad

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"linecard.example/internal/stanza"
)

func TestTwoAccountsOneBlob(t *testing.T) {
	c := newClock()
	d := openTest(t, testOptions(t.TempDir(), c))
	p := bytesOf(1, 5000)
	h := put(t, d, 7, p)
	if put(t, d, 8, p) != h || put(t, d, 7, p) != h {
		t.Fatal("the same bytes have another name")
	}
	wantHeld(t, d, 7, holding{stored: 5000})
	wantHeld(t, d, 8, holding{stored: 5000})
	wantUploadFiles(t, d.opt.dir, 0)

	wantErr(t, d.end(t.Context(), h, 9), errNotFound)
	mustDo(t, d.end(t.Context(), h, 7))
	wantErr(t, d.end(t.Context(), h, 7), errNotFound)
	wantHeld(t, d, 7, holding{})
	wantBlob(t, d, h, p)
	mustDo(t, d.end(t.Context(), h, 8))
	wantNoBlob(t, d, h)
}

// TestDamagedBlobUploadedAgain uploads a blob again whose file was cut short.
func TestDamagedBlobUploadedAgain(t *testing.T) {
	d := openTest(t, testOptions(t.TempDir(), newClock()))
	p := bytesOf(1, 5000)
	h := put(t, d, 7, p)
	mustDo(t, os.Truncate(d.blobs.(*disk).blobPath(h), 4096))
	put(t, d, 8, p)
	wantBlob(t, d, h, p)
}

func TestRetention(t *testing.T) {
	c := newClock()
	o := testOptions(t.TempDir(), c)
	d := openTest(t, o)
	old, renewed, shared := bytesOf(1, 1000), bytesOf(2, 2000), bytesOf(3, 3000)
	oldHash, renewedHash, sharedHash := put(t, d, 7, old), put(t, d, 7, renewed), put(t, d, 7, shared)
	c.turn(20 * 24 * time.Hour)
	put(t, d, 7, renewed)
	put(t, d, 8, shared)
	d.tidy(t.Context())
	wantBlob(t, d, oldHash, old)
	c.turn(10*24*time.Hour + time.Second)
	d.tidy(t.Context())
	wantNoBlob(t, d, oldHash)
	wantBlob(t, d, renewedHash, renewed)
	wantBlob(t, d, sharedHash, shared)
	wantHeld(t, d, 7, holding{stored: 2000})
	wantHeld(t, d, 8, holding{stored: 3000})
	if want := (swept{references: 2, blobs: 1, bytes: 1000, kept: 2, keptBytes: 5000}); d.last != want {
		t.Fatalf("swept %+v, want %+v", d.last, want)
	}
	shut(t, d)
	d = openTest(t, o) // the ledger is what the names say
	wantHeld(t, d, 7, holding{stored: 2000})
	wantHeld(t, d, 8, holding{stored: 3000})
}

// TestGarbage has a blob without a reference: it goes, but not at once.
func TestGarbage(t *testing.T) {
	c := newClock()
	d := openTest(t, testOptions(t.TempDir(), c))
	p := bytesOf(1, 1000)
	h := put(t, d, 7, p)
	disk := d.blobs.(*disk)
	mustDo(t, os.Remove(filepath.Join(leaf(disk.refRoot(), h), reference{h, 7, 1000}.name())))
	c.turn(garbageAge)
	d.tidy(t.Context())
	wantBlob(t, d, h, p)
	c.turn(time.Second)
	d.tidy(t.Context())
	wantNoBlob(t, d, h)
}

func TestQuota(t *testing.T) {
	o := testOptions(t.TempDir(), newClock())
	o.limits = limits{Quota: 10000, Uploads: 3, AccountUploads: 2}
	d := openTest(t, o)
	h := put(t, d, 7, bytesOf(1, 6000))
	_, err := d.uploads.create(7, 4001, nil)
	wantErr(t, err, errQuota)
	x, err := d.uploads.create(7, 4000, nil)
	mustDo(t, err)
	_, err = d.uploads.stage(7, 1)
	wantErr(t, err, errQuota)
	y, err := d.uploads.create(7, 0, nil)
	mustDo(t, err)
	_, err = d.uploads.create(7, 0, nil)
	wantErr(t, err, errTooMany)
	z, err := d.uploads.create(8, 0, nil)
	mustDo(t, err)
	_, err = d.uploads.create(9, 0, nil)
	wantErr(t, err, errTooMany)
	mustDo(t, d.end(t.Context(), h, 7))
	mustDo(t, y.remove())
	w, err := d.uploads.stage(7, 6000)
	mustDo(t, err)
	for _, u := range []*upload{x, z, w} {
		mustDo(t, u.remove())
	}
	wantHeld(t, d, 7, holding{})
	_, err = d.uploads.create(7, -5+1<<62, nil)
	wantErr(t, err, errQuota)
}

// TestUnknownLength has an upload grow until the quota ends it.
func TestUnknownLength(t *testing.T) {
	o := testOptions(t.TempDir(), newClock())
	o.limits = limits{Quota: 2 * syncEvery}
	d := openTest(t, o)
	x, err := d.uploads.stage(7, -1)
	mustDo(t, err)
	mustDo(t, x.write(make([]byte, 2*syncEvery)))
	wantErr(t, x.write(make([]byte, 1)), errQuota)
	mustDo(t, x.close())
	wantHeld(t, d, 7, holding{})
	put(t, d, 7, make([]byte, 2*syncEvery))
	wantHeld(t, d, 7, holding{stored: 2 * syncEvery})
	if d.ledger.pending != 0 {
		t.Fatalf("%d bytes to come", d.ledger.pending)
	}
}

// TestNotCounted has uploads wait until all references were counted, and downloads not.
func TestNotCounted(t *testing.T) {
	o := testOptions(t.TempDir(), newClock())
	d := openTest(t, o)
	p := bytesOf(1, 100)
	h := put(t, d, 7, p)
	shut(t, d)
	d, err := openDepot(o)
	mustDo(t, err)
	defer d.lock.Close()
	_, err = d.uploads.create(7, 10, nil)
	wantErr(t, err, errStarting)
	wantErr(t, d.end(t.Context(), h, 7), errStarting)
	wantBlob(t, d, h, p)
}

// TestRoom has the disk run low, as far as free space tells.
func TestRoom(t *testing.T) {
	c := newClock()
	d := openTest(t, testOptions(t.TempDir(), c))
	free := int64(10 * syncEvery)
	r := newRoom("", 4*syncEvery, c.Now)
	r.look = func(string) (int64, error) { return free, nil }
	d.ledger.room = r.bytes
	_, err := d.uploads.create(7, 6*syncEvery+1, nil)
	wantErr(t, err, errFull)
	x, err := d.uploads.create(7, 6*syncEvery, nil)
	mustDo(t, err)
	_, err = d.uploads.stage(8, 1)
	wantErr(t, err, errFull)
	mustDo(t, x.write(make([]byte, syncEvery)))
	free = 3 * syncEvery // somebody else has filled it
	c.turn(2 * roomAge)
	wantErr(t, x.write(make([]byte, syncEvery)), errFull)
	if x.rec.offset != 2*syncEvery {
		t.Fatalf("%d bytes durable", x.rec.offset)
	}
	free = 9 * syncEvery
	c.turn(2 * roomAge)
	mustDo(t, x.write(make([]byte, 4*syncEvery)))
	_, err = x.finish(t.Context())
	mustDo(t, err)
	mustDo(t, x.close())
}

// TestFullDisk has writes find no space. What is durable stays, and the upload goes on when there is room.
func TestFullDisk(t *testing.T) {
	for _, op := range []string{"create", "write", "sync", "mark", "mkdir", "rename", "syncdir"} {
		t.Run(op, func(t *testing.T) {
			o := testOptions(t.TempDir(), newClock())
			d := openTest(t, o)
			p := bytesOf(1, 2*syncEvery+10)
			full := false
			o.files.step = func(what, path string, _ int64, _ []byte) error {
				if full && what == op {
					return &os.PathError{Op: what, Path: path, Err: syscall.ENOSPC}
				}
				return nil
			}
			x, err := d.uploads.create(7, int64(len(p)), nil)
			mustDo(t, err)
			mustDo(t, x.write(p[:syncEvery+5]))
			full = true
			if op == "create" {
				_, err = d.uploads.create(7, 10, nil)
			} else if err = x.write(p[syncEvery+5:]); err == nil {
				_, err = x.finish(t.Context())
			}
			wantErr(t, err, errFull)
			x.close()
			full = false
			x, err = d.uploads.open(t.Context(), x.id, 7, nil)
			mustDo(t, err)
			if x.position() < syncEvery {
				t.Fatalf("resumes at %d", x.position())
			}
			if !x.complete() {
				mustDo(t, x.write(p[x.position():]))
			}
			h, err := x.finish(t.Context())
			mustDo(t, err)
			mustDo(t, x.close())
			wantBlob(t, d, h, p)
			wantHeld(t, d, 7, holding{stored: int64(len(p))})
			if d.ledger.pending != 0 {
				t.Fatalf("%d bytes to come", d.ledger.pending)
			}
		})
	}
}

func TestLock(t *testing.T) {
	o := testOptions(t.TempDir(), newClock())
	d := openTest(t, o)
	_, err := openDepot(o)
	if err == nil || !strings.Contains(err.Error(), "another process works on it") {
		t.Fatalf("opened twice: %v", err)
	}
	shut(t, d)
	_, err = d.uploads.create(7, 1, nil)
	wantErr(t, err, errClosed)
	mustDo(t, os.WriteFile(filepath.Join(o.dir, "format"), []byte("linecard media 2\n"), 0o600))
	if _, err = openDepot(o); err == nil || !strings.Contains(err.Error(), "format") {
		t.Fatalf("another format: %v", err)
	}
}

func TestReferenceNames(t *testing.T) {
	h := blobHash{1, 2, 3, 0xab}
	r := reference{h, stanza.Account(1<<64 - 1), 1<<63 - 1}
	if got, ok := parseReference(r.name()); !ok || got != r {
		t.Fatalf("%q: %+v %v", r.name(), got, ok)
	}
	for _, bad := range []string{
		"", "..", h.String(), h.String() + ".7", h.String() + ".07.1", h.String() + ".7.-1", h.String() + ".7.01", h.String() + ".7.1.2",
		strings.ToUpper(h.String()) + ".7.1", h.String()[1:] + ".7.1", "../" + h.String()[3:] + ".7.1", h.String() + ".7.9223372036854775808",
		h.String() + ".18446744073709551616.1", h.String() + ".+7.1",
	} {
		if r, ok := parseReference(bad); ok {
			t.Errorf("%q: %+v", bad, r)
		}
	}
}

// TestRun is the daemon's own goroutine, from the count to the sweep to its end.
func TestRun(t *testing.T) {
	o := testOptions(t.TempDir(), newClock())
	d := openTest(t, o)
	h := put(t, d, 7, bytesOf(1, 100))
	shut(t, d)
	o.sweep = time.Millisecond
	d, err := openDepot(o)
	mustDo(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.run(ctx)
	}()
	for end := time.Now().Add(20 * time.Second); counter(d.count.sweeps) < 2; time.Sleep(time.Millisecond) { // they tell nobody
		if time.Now().After(end) {
			t.Fatal("it does not sweep again")
		}
	}
	wantHeld(t, d, 7, holding{stored: 100})
	mustDo(t, d.end(t.Context(), h, 7))
	cancel()
	<-done
	shut(t, d)
}
