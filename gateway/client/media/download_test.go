package media

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"
)

// partial is an empty file.
func partial(t *testing.T) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "part"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func wantFile(t *testing.T, f *os.File, want []byte) {
	t.Helper()
	if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v, want %d", len(got), err, len(want))
	}
}

func TestFetch(t *testing.T) {
	for _, size := range sizes {
		f := newFakeMedia(t)
		file := counting(size)
		p, to := f.put(file), partial(t)
		var last int64
		err := f.transport().Fetch(context.Background(), p, to, 0, f.grants, func(done, total int64) { last = done })
		if err != nil || last != int64(size) {
			t.Errorf("%d bytes: %v, progress up to %d", size, err, last)
		}
		wantFile(t, to, file)
	}
}

// TestFetchGoesOn: after broken connections, and in the next process, no chunk that is there is fetched again.
func TestFetchGoesOn(t *testing.T) {
	f := newFakeMedia(t)
	file := counting(6*ChunkSize + 5)
	p, to := f.put(file), partial(t)
	f.cutDown = []int64{2*sealedChunk + 9, sealedChunk - 1, sealedChunk}
	ctx, cancel := context.WithCancel(context.Background())
	err := f.transport().Fetch(ctx, p, to, 0, f.grants, func(done, total int64) {
		if done == 4*ChunkSize { // the process ends here
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	info, _ := to.Stat()
	have := info.Size()
	to.WriteAt([]byte("half a chunk"), have) // that a crash left
	if err := f.transport().Fetch(context.Background(), p, to, have+12, f.grants, nil); err != nil {
		t.Fatal(err)
	}
	wantFile(t, to, file)
	log := f.log()
	if got := log[len(log)-1]; have != 4*ChunkSize || got != "GET bytes=262272-393444" || len(log) != 5 {
		t.Errorf("%d bytes were there, then %q", have, log)
	}
}

// TestFetchKeepsNothingWrong: bytes that are there and are not the file's are found by the name of the whole.
func TestFetchKeepsNothingWrong(t *testing.T) {
	f := newFakeMedia(t)
	file := counting(3 * ChunkSize)
	p, to := f.put(file), partial(t)
	to.WriteAt(flip(file, 99)[:2*ChunkSize], 0)
	if err := f.transport().Fetch(context.Background(), p, to, 2*ChunkSize, f.grants, nil); err != nil {
		t.Fatal(err)
	}
	wantFile(t, to, file)
	if err := f.transport().Fetch(context.Background(), p, to, 1<<40, f.grants, nil); err != nil { // a file that is there, and longer in what is said of it
		t.Error(err)
	}
	wantFile(t, to, file)
}

func TestFetchNoticesDamage(t *testing.T) {
	for name, c := range map[string]struct {
		alter func([]byte) []byte
		chunk int64
		there int64
	}{
		"a flipped bit":        {func(b []byte) []byte { return flip(b, sealedChunk+7) }, 1, ChunkSize},
		"a flipped bit in tag": {func(b []byte) []byte { return flip(b, len(b)-1) }, 2, 2 * ChunkSize},
		"a byte less":          {func(b []byte) []byte { return b[:len(b)-1] }, -1, 0},
		"a byte more":          {func(b []byte) []byte { return append(b[:len(b):len(b)], 0) }, -1, 0},
		"nothing":              {func(b []byte) []byte { return nil }, -1, 0},
	} {
		f := newFakeMedia(t)
		file := counting(2*ChunkSize + 100)
		p, to := f.put(file), partial(t)
		f.alter = c.alter
		err := f.transport().Fetch(context.Background(), p, to, 0, f.grants, nil)
		var damage *DamageError
		if !errors.As(err, &damage) || damage.Chunk != c.chunk {
			t.Errorf("%s: %v", name, err)
		}
		wantFile(t, to, file[:c.there])
		f.mu.Lock()
		f.alter = nil
		f.mu.Unlock()
		if err := f.transport().Fetch(context.Background(), p, to, c.there, f.grants, nil); err != nil {
			t.Errorf("%s: when it is right again: %v", name, err)
		}
		wantFile(t, to, file)
	}
}

// TestFetchOverBadPath: a byte that the path altered once does no harm.
func TestFetchOverBadPath(t *testing.T) {
	f := newFakeMedia(t)
	file := counting(3 * ChunkSize)
	p, to := f.put(file), partial(t)
	times := 0
	f.alter = func(b []byte) []byte {
		if times++; times == 1 {
			return flip(b, sealedChunk)
		}
		return b
	}
	if err := f.transport().Fetch(context.Background(), p, to, 0, f.grants, nil); err != nil {
		t.Error(err)
	}
	wantFile(t, to, file)
	// A pointer whose key opens each chunk and whose name is another's: a sender that lies about the name.
	q := *p
	q.Blob[0] ^= 1
	f.alter = func([]byte) []byte { _, b := sealed(t, file); return b }
	f.blobs[hex.EncodeToString(q.Blob[:])] = nil
	if err := f.transport().Fetch(context.Background(), &q, partial(t), 0, f.grants, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("another name: %v", err)
	}
}

func TestFetchRefusals(t *testing.T) {
	f := newFakeMedia(t)
	p := f.put(counting(10))
	none := *p
	none.Blob[0] ^= 1
	var refused *StatusError
	if err := f.transport().Fetch(context.Background(), &none, partial(t), 0, f.grants, nil); !errors.As(err, &refused) || refused.Status != 404 {
		t.Errorf("a blob that is not there: %v", err)
	}
	f.once(http.StatusUnauthorized, "grant_expired", http.MethodGet)
	f.once(http.StatusServiceUnavailable, "store", http.MethodGet)
	if err := f.transport().Fetch(context.Background(), p, partial(t), 0, f.grants, nil); err != nil || f.granted != 3 {
		t.Errorf("%v, %d grants", err, f.granted)
	}
	if err := f.transport().Fetch(context.Background(), &Pointer{Size: -1}, partial(t), 0, f.grants, nil); !errors.Is(err, ErrPointer) {
		t.Error(err)
	}
	closed := partial(t)
	closed.Close()
	if err := f.transport().Fetch(context.Background(), p, closed, 0, f.grants, nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a destination that fails: %v", err)
	}
}

func TestRemote(t *testing.T) {
	f := newFakeMedia(t)
	file := counting(3*ChunkSize + 50)
	r, err := f.transport().Remote(context.Background(), f.put(file), f.grants)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ at, n int64 }{{0, 10}, {0, -1}, {ChunkSize - 1, 2}, {ChunkSize, ChunkSize}, {100, 2 * ChunkSize}, {int64(len(file)) - 1, 5}, {int64(len(file)), 3}, {5, 0}} {
		end := int64(len(file))
		if c.n >= 0 {
			end = min(c.at+c.n, end)
		}
		s, err := r.Open(context.Background(), c.at, c.n)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, file[c.at:end]) {
			t.Errorf("%d from %d: %d bytes, %v", c.n, c.at, len(got), err)
		}
		s.Close()
		if _, err := s.Read(make([]byte, 1)); err == nil {
			t.Error("a closed range is read")
		}
	}
	if err := iotest.TestReader(io.NewSectionReader(r, 0, r.Size()), file); err != nil {
		t.Error(err)
	}
	for _, c := range [][2]int64{{-1, 1}, {int64(len(file)) + 1, 1}, {0, -2}} {
		if _, err := r.Open(context.Background(), c[0], c[1]); err == nil {
			t.Errorf("range %v is opened", c)
		}
	}
	before := len(f.log())
	small := make([]byte, 100)
	for at := int64(2 * ChunkSize); at < 3*ChunkSize; at += 1000 {
		if _, err := r.ReadAt(small, at); err != nil {
			t.Fatal(err)
		}
	}
	if asked := len(f.log()) - before; asked > 2 {
		t.Errorf("%d requests for small reads of one chunk", asked)
	}
	f.alter = func(b []byte) []byte { return flip(b, sealedChunk+1) }
	if n, err := r.ReadAt(make([]byte, 2*ChunkSize), 10); !errors.Is(err, ErrDamaged) || n != ChunkSize-10 {
		t.Errorf("damage: %d bytes, %v", n, err)
	}
}
