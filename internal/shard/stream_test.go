package shard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
)

// testStream builds a stream that checks.
func testStream(applied uint64, count int, items ...[]byte) []byte {
	b := append([]byte(streamMagic), streamVersion)
	b = binary.BigEndian.AppendUint16(b, uint16(testGroup))
	b = binary.BigEndian.AppendUint64(b, applied)
	b = binary.BigEndian.AppendUint64(b, 1000)
	b = append(b, bytes.Join(items, nil)...)
	b = binary.BigEndian.AppendUint64(append(b, streamLast), uint64(count))
	return binary.BigEndian.AppendUint64(b, xxhash.Sum64(b))
}

func testRecord(k, v string) []byte {
	b := binary.AppendUvarint([]byte{streamRecord}, uint64(len(k)))
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(append(b, k...), v...)
}

// claim is the start of a record that says how long it is.
func claim(k, v uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint([]byte{streamRecord}, k), v)
}

func testReceiver(t testing.TB) *receiver {
	t.Helper()
	h := openHost(t, testConfig(vfs.NewMem()))
	return newReceiver(h, testGroup)
}

var metaAt10 = raft.SnapshotMeta{Version: 1, Index: 10, Term: 1}

func TestHostileStreams(t *testing.T) {
	good := testStream(10, 2, testRecord("a", "1"), testRecord("b", strings.Repeat("x", 100)))
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	otherGroup := flip(6)
	for name, b := range map[string][]byte{
		"empty":            {},
		"magic":            flip(0),
		"version":          flip(4),
		"group":            otherGroup,
		"applied":          flip(14),
		"record":           flip(len(good) - 30),
		"count":            testStream(10, 3, testRecord("a", "1"), testRecord("b", "2")),
		"hash":             flip(len(good) - 1),
		"short":            good[:len(good)-1],
		"no end":           good[:streamHeader],
		"more":             append(bytes.Clone(good), 0),
		"order":            testStream(10, 2, testRecord("b", "1"), testRecord("a", "2")),
		"twice":            testStream(10, 2, testRecord("a", "1"), testRecord("a", "2")),
		"kind":             testStream(10, 0, []byte{7}),
		"applied 0":        testStream(0, 0),
		"behind":           testStream(9, 0),
		"long key":         testStream(10, 1, claim(maxStreamKey+1, 1)),
		"long value":       testStream(10, 1, claim(1, maxStreamValue+1)),
		"endless varint":   testStream(10, 1, bytes.Repeat([]byte{0xff}, 40)),
		"endless second":   testStream(10, 1, append([]byte{streamRecord, 1}, bytes.Repeat([]byte{0xff}, 40)...)),
		"overflowing sums": testStream(10, 1, claim(1<<63, 1<<63)),
	} {
		t.Run(name, func(t *testing.T) {
			r := testReceiver(t)
			if err := feed(r, b, 7); err == nil {
				t.Error("taken")
			}
			r.remove()
			if names, _ := r.h.cfg.FS.List("d/" + recvDir); len(names) != 0 {
				t.Errorf("left over: %v", names)
			}
		})
	}
	r := testReceiver(t)
	if err := feed(r, good, 7); err != nil || len(r.files) != 2 {
		t.Fatalf("the good one: %v, %d files", err, len(r.files))
	}
}

// feed sends b in pieces.
func feed(r *receiver, b []byte, piece int) error {
	for len(b) > 0 {
		n := min(piece, len(b))
		if _, err := r.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return r.finish(&metaAt10)
}

// What a stream claims costs nothing: what it holds does, and no more than a record at a time.
func TestClaimsAreNotBelieved(t *testing.T) {
	r := testReceiver(t)
	head := testStream(10, 0)[:streamHeader]
	if _, err := r.Write(append(head, claim(maxStreamKey, maxStreamValue)...)); err != nil {
		t.Fatal(err)
	}
	if cap(r.buf) > 1<<10 {
		t.Errorf("%d bytes are held for a record of which nothing is there", cap(r.buf))
	}
}

func FuzzStream(f *testing.F) {
	f.Add(testStream(10, 2, testRecord("a", "1"), testRecord("b", "2")), uint8(3))
	f.Add(testStream(10, 1, claim(1, 1<<40)), uint8(200))
	f.Add([]byte(streamMagic), uint8(1))
	h := openHost(f, testConfig(vfs.NewMem()))
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		r := newReceiver(h, testGroup)
		err := feed(r, b, int(piece)+1)
		r.remove()
		if err == nil && (len(b) < streamHeader+streamEnd || binary.BigEndian.Uint64(b[len(b)-8:]) != xxhash.Sum64(b[:len(b)-8])) {
			t.Error("taken though it does not check")
		}
	})
}

// A large state becomes several tables, and is the same at the other end.
func TestStreamOfManyTables(t *testing.T) {
	from := openHost(t, testConfig(vfs.NewMem()))
	tables := Tables{db: from.state, g: testGroup}
	b := tables.Ahead()
	for i := range 5000 {
		b.Set(binary.BigEndian.AppendUint32(nil, uint32(i)), bytes.Repeat([]byte{byte(i)}, i%300))
	}
	b.setApplied(10, 5)
	noErr(t, b.Commit())
	x, size, err := openStream(from.state, testGroup, 10, func() bool { return false })
	noErr(t, err)
	sent, err := io.ReadAll(x)
	noErr(t, err)
	if int64(len(sent)) != size {
		t.Errorf("%d bytes were announced, %d came", size, len(sent))
	}
	r := testReceiver(t)
	r.limit = 8 << 10
	noErr(t, feed(r, sent, 1000), x.Close(), x.Close())
	if len(r.files) < 10 {
		t.Errorf("%d files", len(r.files))
	}
	old := Tables{db: r.h.state, g: testGroup}.Ahead()
	for i := range 9000 { // partly replaced, partly to go
		old.Set(binary.BigEndian.AppendUint32(nil, uint32(i)), []byte("old"))
	}
	noErr(t, old.Commit(), r.h.state.Ingest(r.files))
	var want, got []string
	all := func(list *[]string) func(k, v []byte) bool {
		return func(k, v []byte) bool { *list = append(*list, string(k)+"="+string(v)); return true }
	}
	noErr(t, tables.Scan(nil, nil, all(&want)), Tables{db: r.h.state, g: testGroup}.Scan(nil, nil, all(&got)))
	if len(want) != 5000 || strings.Join(got, ",") != strings.Join(want, ",") {
		t.Errorf("%d records were sent, %d are there", len(want), len(got))
	}
	if _, err := x.Read(make([]byte, 1)); !errors.Is(err, errClosed) {
		t.Errorf("a read after Close: %v", err)
	}
}

// A group that closes lets go of what it is sending, even if the one who reads it does not; and a stream lets go of the tables when all of
// it was read, however long the answer takes.
func TestCloseEndsStreams(t *testing.T) {
	h := openHost(t, testConfig(vfs.NewMem()))
	m := newToy()
	g := openToy(t, h, testGroup, m)
	propose(t, g, m, 0, 300)
	b := g.tables.Ahead()
	b.Set([]byte("large"), make([]byte, 2*streamChunk))
	b.Set([]byte("last"), nil)
	noErr(t, b.Commit(), g.Snapshot(t.Context()))
	_, read, err := g.snaps.Open("")
	noErr(t, err)
	if _, err := io.Copy(io.Discard, read); err != nil || h.sending.Load() != 0 {
		t.Errorf("%d are being sent behind the last byte, %v", h.sending.Load(), err)
	}
	defer read.Close()
	_, r, err := g.snaps.Open("")
	noErr(t, err)
	if _, err := r.Read(make([]byte, 10)); err != nil || h.sending.Load() != 1 {
		t.Fatal(err, h.sending.Load())
	}
	noErr(t, h.Close())
	if _, err := r.Read(make([]byte, 1<<20)); !errors.Is(err, errClosed) {
		t.Errorf("a read of a closed group: %v", err)
	}
	noErr(t, r.Close())
	if h.sending.Load() != 0 {
		t.Errorf("%d are being sent", h.sending.Load())
	}
}

// A record that no replica would take is refused before anything is sent.
func TestTooLargeRecordIsNotSent(t *testing.T) {
	h := openHost(t, testConfig(vfs.NewMem()))
	b := Tables{db: h.state, g: testGroup}.Ahead()
	b.Set([]byte("k"), make([]byte, maxStreamValue+1))
	b.setApplied(10, 5)
	noErr(t, b.Commit())
	if _, _, err := openStream(h.state, testGroup, 10, func() bool { return false }); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Error(err)
	}
}
