package mediad

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// check runs Fsck and returns what it printed.
func check(t testing.TB, dir string, repair bool) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := Fsck(t.Context(), &out, DefaultConfig(), dir, repair)
	return out.String(), err
}

// ground is a directory with two blobs, one of two accounts, an upload under way and one that is finished.
type ground struct {
	dir          string
	disk         *disk
	shared, mine blobHash
	open         *upload
}

func newGround(t testing.TB) *ground {
	o := testOptions(t.TempDir(), newClock())
	d := openTest(t, o)
	g := &ground{dir: o.dir, disk: d.blobs.(*disk)}
	g.shared = put(t, d, 7, bytesOf(1, 1000))
	put(t, d, 8, bytesOf(1, 1000))
	g.mine = put(t, d, 7, bytesOf(2, 2000))
	var err error
	g.open, err = d.uploads.create(7, 3*syncEvery, nil)
	mustDo(t, err)
	mustDo(t, g.open.write(bytesOf(3, syncEvery+9)))
	mustDo(t, g.open.close())
	x, err := d.uploads.create(7, 2, nil)
	mustDo(t, err)
	mustDo(t, x.write([]byte("ok")))
	_, err = x.finish(t.Context())
	mustDo(t, err)
	mustDo(t, x.close())
	shut(t, d)
	return g
}

func (g *ground) ref(h blobHash, r reference) string {
	return filepath.Join(leaf(g.disk.refRoot(), h), r.name())
}

// flip changes one byte of a file.
func flip(t testing.TB, path string, at int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	mustDo(t, err)
	b[at] ^= 1
	mustDo(t, os.WriteFile(path, b, 0o600))
}

func TestFsckSound(t *testing.T) {
	g := newGround(t)
	want := "3 blobs of 3002 bytes, 4 references of 2 accounts, 2 uploads\n" + g.dir + ": ok\n"
	if out, err := check(t, g.dir, false); err != nil || out != want {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestFsckDamage(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, g *ground)
		faults int
		says   string
	}{
		{"a byte of a blob", func(t *testing.T, g *ground) { flip(t, g.disk.blobPath(g.shared), 500) }, 3, "other bytes than its name says"},
		{"a blob cut short", func(t *testing.T, g *ground) { mustDo(t, os.Truncate(g.disk.blobPath(g.mine), 1999)) }, 2, "other bytes than its name says"},
		{"a blob gone", func(t *testing.T, g *ground) { mustDo(t, os.Remove(g.disk.blobPath(g.shared))) }, 2, "of account 8, 1000 bytes, is missing"},
		{"a reference with another size", func(t *testing.T, g *ground) {
			mustDo(t, os.Rename(g.ref(g.mine, reference{g.mine, 7, 2000}), g.ref(g.mine, reference{g.mine, 7, 1999})))
		}, 1, "the blob has 2000 bytes"},
		{"a reference in another folder", func(t *testing.T, g *ground) {
			from := g.ref(g.mine, reference{g.mine, 7, 2000})
			mustDo(t, os.Rename(from, filepath.Join(leaf(g.disk.refRoot(), g.shared), filepath.Base(from))))
		}, 1, "is nothing of a mediad"},
		{"strange files", func(t *testing.T, g *ground) {
			mustDo(t, os.WriteFile(filepath.Join(g.dir, "uploads", "notes.txt"), nil, 0o600))
			mustDo(t, os.WriteFile(filepath.Join(g.dir, "blobs", "notes.txt"), nil, 0o600))
			mustDo(t, os.Mkdir(filepath.Join(g.dir, "refs", "zz"), 0o700))
			mustDo(t, os.Mkdir(filepath.Join(leaf(g.disk.blobRoot(), g.mine), strings.Repeat("ab", 32)), 0o700))
		}, 4, "is nothing of a mediad"},
		{"a link instead of a blob", func(t *testing.T, g *ground) {
			mustDo(t, os.Rename(g.disk.blobPath(g.mine), filepath.Join(g.dir, "elsewhere")))
			mustDo(t, os.Symlink(filepath.Join(g.dir, "elsewhere"), g.disk.blobPath(g.mine)))
		}, 2, "is nothing of a mediad"},
		{"a record", func(t *testing.T, g *ground) { flip(t, g.open.statePath(), 30) }, 1, "its record cannot be read"},
		{"bytes of an upload", func(t *testing.T, g *ground) { flip(t, g.open.path(), 12345) }, 1, "its bytes have another hash"},
		{"an upload cut short", func(t *testing.T, g *ground) { mustDo(t, os.Truncate(g.open.path(), syncEvery)) }, 1, "that were durable"},
		{"an upload's bytes gone", func(t *testing.T, g *ground) { mustDo(t, os.Remove(g.open.path())) }, 1, "its bytes are gone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGround(t)
			c.damage(t, g)
			out, err := check(t, g.dir, false)
			if !errors.Is(err, ErrDamaged) || strings.Count(out, "damaged: ") != c.faults || !strings.Contains(out, c.says) {
				t.Fatalf("want %d faults, %q: %v\n%s", c.faults, c.says, err, out)
			}
			again, _ := check(t, g.dir, false)
			if out != again {
				t.Fatalf("it changed something, or tells in no order:\n%s\n%s", out, again)
			}
			out, err = check(t, g.dir, true)
			if err != nil || strings.Count(out, "repaired: ") != c.faults {
				t.Fatalf("%v\n%s", err, out)
			}
			if out, err = check(t, g.dir, false); err != nil || strings.Contains(out, "damaged") {
				t.Fatalf("after the repair: %v\n%s", err, out)
			}
			openTest(t, testOptions(g.dir, newClock()))
		})
	}
}

// TestFsckGarbage has what a crash leaves, which is no damage.
func TestFsckGarbage(t *testing.T) {
	g := newGround(t)
	mustDo(t, os.Remove(g.ref(g.mine, reference{g.mine, 7, 2000})))
	mustDo(t, os.WriteFile(filepath.Join(g.dir, "uploads", "ab.put"), nil, 0o600))
	mustDo(t, os.WriteFile(filepath.Join(g.dir, "uploads", "ab.data"), nil, 0o600))
	out, err := check(t, g.dir, false)
	if err != nil || !strings.Contains(out, "garbage: 1 blobs of 2000 bytes without a reference, 2 leftovers") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestFsckRefuses(t *testing.T) {
	if _, err := check(t, filepath.Join(t.TempDir(), "none"), false); err == nil {
		t.Error("a directory that is not there")
	}
	if _, err := check(t, t.TempDir(), false); err == nil || !strings.Contains(err.Error(), "holds no media") {
		t.Errorf("an empty directory: %v", err)
	}
	o := testOptions(t.TempDir(), newClock())
	openTest(t, o)
	if _, err := check(t, o.dir, true); err == nil || !strings.Contains(err.Error(), "another process works on it") {
		t.Errorf("a directory in use: %v", err)
	}
}
