package mediad

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"linecard.example/internal/stanza"
)

// clock is one that tests turn.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_700_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) turn(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func mustDo(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

// bytesOf returns n bytes that depend on seed.
func bytesOf(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(b)
	return b
}

// quickFiles are for tests that end with the process: the order of the steps has tests of its own.
func quickFiles() *files {
	f := newFiles()
	f.quick = true
	return f
}

func testOptions(dir string, c *clock) depotOptions {
	return depotOptions{
		dir: dir, log: slog.New(slog.DiscardHandler), now: c.Now, retention: 30 * 24 * time.Hour, uploadLife: 24 * time.Hour, sweep: time.Hour,
		files: quickFiles(),
	}
}

// openTest opens a depot that has counted what accounts have and committed what was complete.
func openTest(t testing.TB, o depotOptions) *depot {
	t.Helper()
	d, err := openDepot(o)
	mustDo(t, err)
	t.Cleanup(func() { d.lock.Close() })
	mustDo(t, d.tally(t.Context()))
	_, err = d.uploads.recover(t.Context())
	mustDo(t, err)
	return d
}

// shut closes a depot in which nothing is open.
func shut(t testing.TB, d *depot) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	mustDo(t, d.close(ctx))
}

// put uploads p in one go.
func put(t testing.TB, d *depot, a stanza.Account, p []byte) blobHash {
	t.Helper()
	x, err := d.uploads.stage(a, int64(len(p)))
	mustDo(t, err)
	mustDo(t, x.write(p))
	h, err := x.finish(t.Context())
	mustDo(t, err)
	mustDo(t, x.close())
	if h != sha256.Sum256(p) {
		t.Fatalf("hash %s, want %x", h, sha256.Sum256(p))
	}
	return h
}

// wantBlob reads a blob and compares it.
func wantBlob(t testing.TB, d *depot, h blobHash, p []byte) {
	t.Helper()
	b, err := d.open(t.Context(), h)
	mustDo(t, err)
	defer b.Close()
	got, err := io.ReadAll(b)
	mustDo(t, err)
	if b.size != int64(len(p)) || !bytes.Equal(got, p) {
		t.Fatalf("blob %s: %d bytes (size %d), want %d", h, len(got), b.size, len(p))
	}
}

func wantNoBlob(t testing.TB, d *depot, h blobHash) {
	t.Helper()
	_, err := d.open(t.Context(), h)
	wantErr(t, err, errNotFound)
}

// wantHeld compares what the ledger has of an account.
func wantHeld(t testing.TB, d *depot, a stanza.Account, want holding) {
	t.Helper()
	d.ledger.mu.Lock()
	defer d.ledger.mu.Unlock()
	got := holding{}
	if h := d.ledger.accounts[a]; h != nil {
		got = *h
	}
	if got != want {
		t.Fatalf("account %d: %+v, want %+v", a, got, want)
	}
}

// wantFiles compares what is in the folder of uploads.
func wantUploadFiles(t testing.TB, dir string, want int) {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(dir, "uploads"))
	mustDo(t, err)
	if len(list) != want {
		t.Fatalf("%d files of uploads, want %d: %v", len(list), want, list)
	}
}
