package media

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

const vectorFile = "testdata/vectors.txt"

// vectors returns the lines of the file that testdata/vectors.py writes, label and hex.
func vectors(t testing.TB) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
	return lines
}

// vector returns the bytes of the first line with this label.
func vector(t testing.TB, label string) []byte {
	t.Helper()
	for _, line := range vectors(t) {
		if digits, ok := strings.CutPrefix(line, label+" "); ok {
			b, err := hex.DecodeString(digits)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	t.Fatalf("no vector %s", label)
	return nil
}

// counting is the file of the vectors.
func counting(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

func vectorKey(t testing.TB) [KeySize]byte { return [KeySize]byte(vector(t, "media_key")) }

// sealed returns plan and blob of a file under the key of the vectors.
func sealed(t testing.TB, file []byte) (*Plan, []byte) {
	t.Helper()
	p, err := planUnder(context.Background(), vectorKey(t), bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	blob, err := io.ReadAll(p.Source(bytes.NewReader(file)))
	if err != nil {
		t.Fatal(err)
	}
	return p, blob
}

// TestVectors holds keys, tags, blobs and pointer against what a program computed that has no code of ours.
func TestVectors(t *testing.T) {
	key := vectorKey(t)
	both, err := hkdf.Key(sha256.New, key[:], nil, keyInfo, 2*KeySize)
	if err != nil || !bytes.Equal(both, append(vector(t, "encryption_key"), vector(t, "tag_key")...)) {
		t.Errorf("keys %x, %v", both, err)
	}
	var plan *Plan
	var blob, file []byte
	tags, seen := 0, 0
	for _, line := range vectors(t) {
		var size int
		if n, _ := fmt.Sscanf(line, "# A file of %d bytes", &size); n == 1 {
			file = counting(size)
			plan, blob = sealed(t, file)
			tags, seen = 0, seen+1
			if int64(len(blob)) != BlobSize(int64(size)) || !strings.HasSuffix(line, fmt.Sprintf(" a blob of %d.", len(blob))) {
				t.Errorf("%s: it has %d bytes", line, len(blob))
			}
			continue
		}
		label, want, _ := strings.Cut(line, " ")
		var got []byte
		switch {
		case label == "file_sha256":
			sum := sha256.Sum256(file)
			got = sum[:]
		case label == "blob":
			got = blob
		case label == "blob_sha256":
			got = plan.Blob[:]
		case strings.HasPrefix(label, "tag_") && label != "tag_key":
			got = plan.Tags[tags*TagSize:][:TagSize]
			tags++
		case label == "pointer":
			got = (&Pointer{Blob: plan.Blob, Key: key, Size: plan.Size, Name: "count.bin", Type: "application/octet-stream", Thumbnail: []byte("tiny"), Caption: "zwanzig, fünf"}).Append(nil)
		default:
			continue
		}
		if hex.EncodeToString(got) != want {
			t.Errorf("%d bytes: %s %x, want %s", len(file), label, got, want)
		}
	}
	if seen != 5 {
		t.Errorf("%d files in the vectors", seen)
	}
}

// TestPageQuotesVectors: docs/protocol.md has the lines of the vectors.
func TestPageQuotesVectors(t *testing.T) {
	page, err := os.ReadFile("../../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "```media-vector\n")
	quoted, _, ok2 := strings.Cut(rest, "```\n")
	if !ok || !ok2 {
		t.Fatal("no media-vector block in the page")
	}
	if want := strings.Join(vectors(t), "\n") + "\n"; quoted != want {
		t.Errorf("the page quotes\n%s\nthe vectors are\n%s", quoted, want)
	}
}

var sizes = []int{0, 1, 100, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2 * ChunkSize, 3*ChunkSize + 12345}

func TestReaderReadsWhatSourceSealed(t *testing.T) {
	for _, size := range sizes {
		file := counting(size)
		_, blob := sealed(t, file)
		r := NewReader(iotest.HalfReader(bytes.NewReader(blob)), vectorKey(t), int64(size), 0)
		if got, err := io.ReadAll(iotest.OneByteReader(r)); err != nil || !bytes.Equal(got, file) {
			t.Errorf("%d bytes: %d bytes, %v", size, len(got), err)
		}
		for n := range chunks(int64(size)) {
			r := NewReader(bytes.NewReader(blob[n*sealedChunk:]), vectorKey(t), int64(size), n)
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, file[n*ChunkSize:]) {
				t.Errorf("%d bytes from chunk %d: %d bytes, %v", size, n, len(got), err)
			}
		}
	}
}

func TestSourceFromAnyOffset(t *testing.T) {
	file := counting(2*ChunkSize + 777)
	plan, blob := sealed(t, file)
	s := plan.Source(bytes.NewReader(file))
	for _, at := range []int{0, 1, len(blob) - 1, ChunkSize - 1, ChunkSize, ChunkSize + 5, sealedChunk, sealedChunk + 1, len(blob), 2*sealedChunk + 778} {
		s.SeekTo(int64(at))
		if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, blob[at:]) {
			t.Errorf("from %d: %d bytes, %v", at, len(got), err)
		}
	}
}

// TestChangedFileIsNotSealed: no byte of a chunk leaves whose content is another than the plan's, whatever else did before.
func TestChangedFileIsNotSealed(t *testing.T) {
	file := counting(3 * ChunkSize)
	plan, blob := sealed(t, file)
	file[ChunkSize+17] ^= 1
	got, err := io.ReadAll(plan.Source(bytes.NewReader(file)))
	if !errors.Is(err, ErrChanged) || !bytes.Equal(got, blob[:sealedChunk]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if got, err = io.ReadAll(plan.Source(bytes.NewReader(file[:ChunkSize+5]))); !errors.Is(err, ErrChanged) || len(got) != sealedChunk {
		t.Errorf("a shorter file: %d bytes, %v", len(got), err)
	}
	if _, err = NewPlan(context.Background(), bytes.NewReader(file), int64(len(file))+1); !errors.Is(err, ErrChanged) {
		t.Errorf("planned beyond the file's end: %v", err)
	}
}

func TestPlanHasFreshKey(t *testing.T) {
	file := counting(10)
	a, errA := NewPlan(context.Background(), bytes.NewReader(file), 10)
	b, errB := NewPlan(context.Background(), bytes.NewReader(file), 10)
	if errA != nil || errB != nil || a.Key == b.Key || a.Blob == b.Blob {
		t.Errorf("%v %v, keys %x %x", errA, errB, a.Key, b.Key)
	}
	if _, err := NewPlan(context.Background(), bytes.NewReader(nil), MaxSize+1); !errors.Is(err, ErrTooBig) {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := NewPlan(ended, bytes.NewReader(file), 10); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for _, bad := range []Plan{{Size: -1}, {Size: MaxSize + 1}, {Size: 10}, {Size: ChunkSize + 1, Tags: make([]byte, TagSize)}} {
		if bad.Check() == nil {
			t.Errorf("%d bytes with %d of tags pass", bad.Size, len(bad.Tags))
		}
	}
}

// TestDamage: whatever is done to a blob, what comes out before the error is right.
func TestDamage(t *testing.T) {
	file := counting(2*ChunkSize + 100)
	_, good := sealed(t, file)
	alien, err := NewPlan(context.Background(), bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	other, err := io.ReadAll(alien.Source(bytes.NewReader(file)))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		blob  []byte
		size  int64
		whole int64 // chunks that come out
		err   error
	}{
		{"a bit of the ciphertext", flip(good, sealedChunk+100), int64(len(file)), 1, &DamageError{1}},
		{"a bit of a tag", flip(good, ChunkSize+3), int64(len(file)), 0, &DamageError{0}},
		{"the last bit", flip(good, len(good)-1), int64(len(file)), 2, &DamageError{2}},
		{"cut in a chunk", good[:sealedChunk+5], int64(len(file)), 1, io.ErrUnexpectedEOF},
		{"cut between chunks", good[:2*sealedChunk], int64(len(file)), 2, io.ErrUnexpectedEOF},
		{"cut between chunks, size too", good[:2*sealedChunk], 2 * ChunkSize, 1, &DamageError{1}},
		{"more behind it", append(bytes.Clone(good), 0), int64(len(file)), 3, &DamageError{-1}},
		{"chunks exchanged", slicesOf(good[sealedChunk:2*sealedChunk], good[:sealedChunk], good[2*sealedChunk:]), int64(len(file)), 0, &DamageError{0}},
		{"a chunk of another file", slicesOf(good[:sealedChunk], other[sealedChunk:2*sealedChunk], good[2*sealedChunk:]), int64(len(file)), 1, &DamageError{1}},
		{"a size too small", good, int64(len(file)) - 1, 2, &DamageError{2}},
		{"a size too large", good, 5 * ChunkSize, 2, io.ErrUnexpectedEOF},
		{"nothing", nil, 0, 0, io.ErrUnexpectedEOF},
	} {
		got, err := io.ReadAll(NewReader(bytes.NewReader(c.blob), vectorKey(t), c.size, 0))
		var want *DamageError
		if errors.As(c.err, &want) {
			var d *DamageError
			if !errors.As(err, &d) || d.Chunk != want.Chunk || !errors.Is(err, ErrDamaged) {
				t.Errorf("%s: %v, want %v", c.name, err, c.err)
			}
		} else if !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
		if whole := min(c.whole*ChunkSize, int64(len(file))); int64(len(got)) != whole || !bytes.Equal(got, file[:whole]) {
			t.Errorf("%s: %d bytes came out, want %d", c.name, len(got), whole)
		}
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0x10
	return b
}

func slicesOf(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// FuzzReader changes a blob and wants nothing out of it that is not the file's.
func FuzzReader(f *testing.F) {
	f.Fuzz(func(t *testing.T, size, first, at uint32, change []byte, cut uint32, more uint8) {
		file := counting(int(size % (3 * ChunkSize)))
		n := int64(first) % chunks(int64(len(file)))
		_, good := sealed(t, file)
		good = good[n*sealedChunk:]
		blob := bytes.Clone(good)
		for i, x := range change {
			blob[(int(at)+i)%len(blob)] ^= x
		}
		blob = append(blob[:len(blob)-int(cut)%(len(blob)+1)], make([]byte, more)...)
		rest := file[n*ChunkSize:]
		got, err := io.ReadAll(NewReader(bytes.NewReader(blob), vectorKey(t), int64(len(file)), n))
		if len(got) > len(rest) || !bytes.Equal(got, rest[:len(got)]) {
			t.Fatalf("%d bytes that are not the file's", len(got))
		}
		if same := bytes.Equal(blob, good); same != (err == nil) {
			t.Fatalf("unchanged %v, error %v", same, err)
		}
		if err == nil && len(got) != len(rest) {
			t.Fatalf("%d of %d bytes, and no error", len(got), len(rest))
		}
	})
}
