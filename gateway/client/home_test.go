package client

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

func openHome(t *testing.T, dir string) *Home {
	t.Helper()
	h, err := OpenHome(dir)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fill makes some of every change; after each, each is called.
func fill(t *testing.T, h *Home, each func()) {
	t.Helper()
	step := func(err error) {
		t.Helper()
		must(t, err)
		each()
	}
	step(h.become(Identity{Account: 17, Device: 1, Handle: "alice"}))
	step(h.putContact(34, "bob"))
	step(h.putContact(34, "bobby")) // an alias
	step(h.putList(34, deviceList{version: 2, devices: keysOf(1, 3)}))
	for i := range 6 {
		_, err := h.putSend(&sendRecord{to: 34, kind: sendMessage, created: 1000, payload: []byte{byte(i), 7}})
		step(err)
	}
	step(h.sync())
	step(h.putDone(2))
	_, err := h.putSend(&sendRecord{to: 34, kind: sendRead, created: 1000, device: 3, payload: []byte{9}})
	step(err)
	_, err = h.putMark(peer{34, 1}, 77)
	step(err)
	step(h.sync())
	_, err = h.putMark(peer{34, 1}, 80)
	step(err)
	step(h.putDone(6))
}

// copyState returns a deep enough copy of what the Home remembers.
func copyState(s *homeState) homeState {
	c := *s
	c.unacked, c.marks = maps.Clone(s.unacked), maps.Clone(s.marks)
	c.contacts, c.names, c.lists = maps.Clone(s.contacts), maps.Clone(s.names), maps.Clone(s.lists)
	return c
}

func TestHomeRemembers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	h := openHome(t, dir)
	key := h.PublicKey()
	fill(t, h, func() {})
	want := copyState(&h.state)
	must(t, h.Close())
	must(t, h.Close())
	for name, mode := range map[string]os.FileMode{".": 0o700, "key": 0o600, "journal": 0o600, "lock": 0o600} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	h = openHome(t, dir)
	if h.PublicKey() != key || !reflect.DeepEqual(h.state, want) {
		t.Fatalf("got %+v\nwant %+v", h.state, want)
	}
	h.mu.Lock()
	must(t, h.compact())
	h.mu.Unlock()
	_, err := h.putMark(peer{34, 1}, 90)
	must(t, err)
	must(t, h.Close())
	want.marks[peer{34, 1}] = 90
	if h = openHome(t, dir); !reflect.DeepEqual(h.state, want) {
		t.Fatalf("after compaction: got %+v\nwant %+v", h.state, want)
	}
	must(t, h.Close())
}

func TestHomeInUse(t *testing.T) {
	dir := t.TempDir()
	h := openHome(t, dir)
	if _, err := OpenHome(dir); !errors.Is(err, ErrHomeInUse) {
		t.Fatalf("got %v", err)
	}
	must(t, h.Close())
	h = openHome(t, dir)
	must(t, h.claim())
	if err := h.claim(); !errors.Is(err, ErrHomeInUse) {
		t.Fatalf("got %v", err)
	}
	h.release()
	must(t, h.Close())
	if err := h.claim(); err == nil {
		t.Fatal("a closed home was claimed")
	}
}

// TestTornTail cuts the journal at every byte: what is left must open as the state after some change, no earlier than the last whole one,
// and be writable.
func TestTornTail(t *testing.T) {
	dir := t.TempDir()
	h := openHome(t, dir)
	type point struct {
		size  int64
		state homeState
	}
	points := []point{{h.pos, copyState(&h.state)}}
	fill(t, h, func() { points = append(points, point{h.pos, copyState(&h.state)}) })
	must(t, h.lock.Close()) // killed: Close would add to the journal
	whole, err := os.ReadFile(h.path("journal"))
	must(t, err)
	for cut := int64(len(journalMagic)); cut <= int64(len(whole)); cut++ {
		must(t, os.WriteFile(h.path("journal"), whole[:cut], 0o600))
		h := openHome(t, dir)
		want := points[0].state
		for _, p := range points {
			if p.size <= cut {
				want = p.state
			}
		}
		if !reflect.DeepEqual(h.state, want) {
			t.Fatalf("cut at %d: got %+v\nwant %+v", cut, h.state, want)
		}
		_, err := h.putMark(peer{99, 1}, 1)
		must(t, err)
		must(t, h.Close())
		h = openHome(t, dir)
		if h.state.marks[peer{99, 1}] != 1 {
			t.Fatalf("cut at %d: not writable", cut)
		}
		must(t, h.Close())
	}
	for cut := range len(journalMagic) {
		must(t, os.WriteFile(h.path("journal"), whole[:cut], 0o600))
		if _, err := OpenHome(dir); !errors.Is(err, ErrHomeCorrupt) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
}

// TestCorruptionIsRefused changes every byte of a journal: wherever that could forget something that was synced, the Home does not open,
// and says where.
func TestCorruptionIsRefused(t *testing.T) {
	dir := t.TempDir()
	h := openHome(t, dir)
	fill(t, h, func() {})
	want := copyState(&h.state)
	must(t, h.Close())
	whole, err := os.ReadFile(h.path("journal"))
	must(t, err)
	covered := len(whole) - syncedSize
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 0x10
		must(t, os.WriteFile(h.path("journal"), damaged, 0o600))
		h, err := OpenHome(dir)
		if i < covered {
			if !errors.Is(err, ErrHomeCorrupt) {
				t.Fatalf("byte %d of %d: %v", i, len(whole), err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(h.state, want) {
			t.Fatalf("byte %d, in the last mark: %v", i, err)
		}
		must(t, h.Close())
	}
}

func TestKeyIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	must(t, openHome(t, dir).Close())
	must(t, os.WriteFile(filepath.Join(dir, "key"), []byte("linecard-key 12\n"), 0o600))
	if _, err := OpenHome(dir); !errors.Is(err, ErrHomeCorrupt) {
		t.Fatalf("got %v", err)
	}
	must(t, os.Remove(filepath.Join(dir, "key")))
	if _, err := OpenHome(dir); !errors.Is(err, ErrHomeCorrupt) {
		t.Fatalf("got %v", err)
	}
}

// TestCompaction writes far more than stays, with a sync now and then as a client does.
func TestCompaction(t *testing.T) {
	dir := t.TempDir()
	h := openHome(t, dir)
	text := bytes.Repeat([]byte("x"), 1000)
	for i := range 6000 {
		r := &sendRecord{to: 34, kind: sendMessage, created: 1, payload: text}
		_, err := h.putSend(r)
		must(t, err)
		if r.id > 3 {
			must(t, h.putDone(r.id-3))
		}
		if i%500 == 0 {
			must(t, h.sync())
		}
	}
	must(t, h.Close())
	st, err := os.Stat(h.path("journal"))
	must(t, err)
	if st.Size() > 2*compactAbove {
		t.Fatalf("journal of %d bytes for 3 messages", st.Size())
	}
	h = openHome(t, dir)
	defer h.Close()
	if h.Unacked() != 3 || h.topID() != 6000 {
		t.Fatalf("%d unacked, top %d", h.Unacked(), h.topID())
	}
}

func TestRoots(t *testing.T) {
	dir := t.TempDir()
	h := openHome(t, dir)
	a, _, _ := ed25519.GenerateKey(nil)
	b, _, _ := ed25519.GenerateKey(nil)
	file := filepath.Join(t.TempDir(), "root.pub")
	must(t, os.WriteFile(file, []byte("# two roots\n"+wire.FormatRootLine("one", a)+"\n\n"+wire.FormatRootLine("one", b)+"\n"), 0o644))
	roots, err := ReadRoots(file)
	must(t, err)
	must(t, h.Pin(roots...))
	must(t, h.Pin(roots[0]))
	if err := h.Pin(Root{"two", a}); !errors.Is(err, ErrRoots) {
		t.Fatalf("got %v", err)
	}
	must(t, h.Close())
	h = openHome(t, dir)
	if got := h.Roots(); len(got) != 2 || !bytes.Equal(got[1].Key, b) || got[0].Cluster != "one" {
		t.Fatalf("got %v", got)
	}
	must(t, h.Close())
	for _, text := range []string{"", "linecard-root one xyz", "nonsense", wire.FormatRootLine("one", a) + "\n" + wire.FormatRootLine("two", b)} {
		if _, err := ParseRoots([]byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
	if _, err := ReadRoots(filepath.Join(dir, "none")); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("got %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "roots"), []byte("nonsense"), 0o600))
	if _, err := OpenHome(dir); !errors.Is(err, ErrHomeCorrupt) {
		t.Fatalf("got %v", err)
	}
}

// TestKilledClientSendsAgain: what was unacked when the process was killed goes again from the next one, with its ids and before anything
// new; what was handled is not shown again.
func TestKilledClientSendsAgain(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		dir := t.TempDir()
		h := openHome(t, dir)
		c, conn := f.established(func(o *Options) { o.Home = h })
		send(t, c, "bob", "x")
		send(t, c, "bob", "y")
		conn.message(2049, 0)
		conn.message(2050, 2049)
		conn.say(down(bobAccount, 1, 5, "bob", "one"), down(bobAccount, 1, 6, "bob", "two"))
		done(t, receiveText(t, c, "one"))
		killed := filepath.Join(t.TempDir(), "killed")
		must(t, os.CopyFS(killed, os.DirFS(dir))) // what kill -9 leaves
		c.Close()
		must(t, h.Close())
		conn.ended()

		h = openHome(t, killed)
		defer h.Close()
		c = f.start(func(o *Options) { o.Home, o.Handle = h, "" })
		defer c.Close()
		conn = f.bind(func(b *stanza.Bound) { b.ID = 2050 })
		if b, err := stanza.ParseBind(conn.intro); err != nil || b.ID != 2050 {
			t.Fatalf("bind %+v, %v", b, err)
		}
		synctest.Wait()
		send(t, c, "bob", "z")
		conn.message(2049, 0)
		conn.say(ack(2049), down(bobAccount, 1, 5, "bob", "one"), down(bobAccount, 1, 6, "bob", "two"))
		receiveText(t, c, "two")
		for _, want := range []uint64{2050, 2050 + 2048} {
			v, ok := conn.hear(time.Minute)
			for ok && v.Tag == stanza.TagDeliveryAck { // of message 5
				v, ok = conn.hear(time.Minute)
			}
			if id, _ := v.Uint(stanza.AttrID); !ok || v.Tag != stanza.TagMessage || id != want {
				t.Fatalf("got %v %d, want message %d", v.Tag, id, want)
			}
		}
	})
}

func TestAdopt(t *testing.T) {
	h := MemoryHome()
	for _, bad := range []Identity{{}, {Account: 1, Device: 1}, {Account: 1, Handle: "x"}, {Account: 1, Device: 1, Handle: "x y"}} {
		if h.Adopt(bad) == nil {
			t.Errorf("adopted %+v", bad)
		}
	}
	must(t, h.Adopt(Identity{1, 2, "X"}))
	must(t, h.Adopt(Identity{1, 2, "x"}))
	if err := h.Adopt(Identity{1, 3, "x"}); !errors.Is(err, ErrOtherName) {
		t.Fatalf("got %v", err)
	}
}

func FuzzReplay(f *testing.F) {
	h, err := OpenHome(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	h.become(Identity{Account: 17, Device: 1, Handle: "alice"})
	h.putSend(&sendRecord{to: 34, kind: sendMessage, created: 1000, payload: []byte("x")})
	h.putList(34, deviceList{version: 2, devices: []stanza.DeviceKey{{Device: 1}}})
	h.putContact(34, "bob")
	h.putMark(peer{34, 1}, 77)
	h.sync()
	h.putDone(1)
	h.Close()
	whole, err := os.ReadFile(h.path("journal"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-5])
	f.Add([]byte(journalMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newHomeState()
		good, err := replay(b, s.apply)
		if err != nil {
			if !errors.Is(err, ErrHomeCorrupt) {
				t.Fatal(err)
			}
			return
		}
		again := newHomeState()
		if n, err := replay(b[:good], again.apply); err != nil || n != good || fmt.Sprint(again) == "" {
			t.Fatalf("the good part: %d of %d, %v", n, good, err)
		}
		data := []byte(journalMagic)
		again.snapshot(func(content []byte) {
			data = appendRecord(data, func(b []byte) []byte { return append(b, content...) })
		})
		back := newHomeState()
		if _, err := replay(data, back.apply); err != nil {
			t.Fatalf("the snapshot: %v", err)
		}
		if len(back.unacked) != len(again.unacked) || len(back.marks) != len(again.marks) || back.top != again.top || len(back.contacts) != len(again.contacts) {
			t.Fatalf("snapshot of %+v gave %+v", again, back)
		}
	})
}

func FuzzPayload(f *testing.F) {
	f.Add(appendPayload(nil, &payload{from: "alice", to: "bob", text: "hi"}))
	f.Add([]byte{1, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePayload(b)
		if err != nil {
			return
		}
		again, err := parsePayload(appendPayload(nil, &p))
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("%+v gave %+v, %v", p, again, err)
		}
	})
}

// TestCompactionOfShortRuns: a home that is used by one short command after the other does not grow for ever either.
func TestCompactionOfShortRuns(t *testing.T) {
	dir := t.TempDir()
	text := bytes.Repeat([]byte("x"), 100<<10)
	for range 60 {
		h := openHome(t, dir)
		for range 2 {
			r := &sendRecord{to: 34, kind: sendMessage, created: 1, payload: text}
			_, err := h.putSend(r)
			must(t, err)
			must(t, h.putDone(r.id))
		}
		must(t, h.Close())
	}
	st, err := os.Stat(filepath.Join(dir, "journal"))
	must(t, err)
	if st.Size() > 2*compactAbove {
		t.Fatalf("journal of %d bytes for no message", st.Size())
	}
}

// TestHomeFailureEndsTheClient: a client whose home cannot be written any more says so and stops, instead of keeping a session for which
// it can do nothing.
func TestHomeFailureEndsTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		h := openHome(t, t.TempDir())
		defer h.Close()
		c, conn := f.established(func(o *Options) {
			o.Home = h
			knowsBob(h)
		})
		defer c.Close()
		conn.say(&stanza.MessageDown{ID: 1, From: bobAccount, FromDevice: 1, SentAt: 1, Body: []byte("x")})
		e, err := c.Receive(t.Context())
		must(t, err)
		h.mu.Lock()
		must(t, h.file.Close())
		h.mu.Unlock()
		if err := e.(*Message).Done(); err == nil {
			t.Fatal("done without a home")
		}
		conn.ended()
		conn.nc.Close()
		<-c.Done()
		if err := c.Err(); !errors.Is(err, os.ErrClosed) {
			t.Fatalf("ended with %v", err)
		}
	})
}
