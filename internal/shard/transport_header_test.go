package shard

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/vfs"
	"linecard.example/internal/stanza"
)

func sampleHello() hello {
	return hello{purpose: purposeRaft, group: stanza.QueueGroup(7), shards: 16, incarnation: 1 << 60, cluster: "test", from: "a1", to: "b2", format: 3}
}

func TestHelloAndWelcome(t *testing.T) {
	h := sampleHello()
	h.cluster = strings.Repeat("c", maxHeaderName)
	r := bytes.NewReader(append(appendHello(nil, &h), "rest"...))
	got, err := readHello(r)
	if err != nil || got != h {
		t.Fatalf("%+v, %v", got, err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "rest" {
		t.Errorf("left %q: what follows is raft's", rest)
	}
	w := welcome{refusal: accepted, incarnation: 3, node: "b2", format: 4}
	if back, err := readWelcome(bytes.NewReader(appendWelcome(nil, &w))); err != nil || back != w || back.err() != nil {
		t.Fatalf("%+v, %v", back, err)
	}
}

// Who does not say in which format it writes, writes the first.
func TestHeadersWithoutFormat(t *testing.T) {
	h, w := sampleHello(), welcome{refusal: accepted, incarnation: 3, node: "b2", format: 4}
	without := func(b []byte) *bytes.Reader {
		b[5] -= 2
		return bytes.NewReader(b[:len(b)-2])
	}
	if got, err := readHello(without(appendHello(nil, &h))); err != nil || got.format != 1 || got.to != "b2" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := readWelcome(without(appendWelcome(nil, &w))); err != nil || got.format != 1 || got.node != "b2" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestRefusalNumbers(t *testing.T) {
	for i, r := range refusals {
		if i > 0 && (refusalNumber(r.err) != i || !errors.Is((&welcome{refusal: byte(i)}).err(), r.err)) {
			t.Errorf("%s does not come through", r.name)
		}
	}
	for _, n := range []byte{0, byte(len(refusals)), 254} {
		if err := (&welcome{refusal: n}).err(); !errors.Is(err, errOtherRefusal) {
			t.Errorf("refusal %d: %v", n, err)
		}
	}
}

// Every bent header is refused without reading past it.
func TestBadHellos(t *testing.T) {
	h := sampleHello()
	good := appendHello(nil, &h)
	bend := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"magic":            {bend(func(b []byte) []byte { b[0]++; return b }), errHello},
		"version":          {bend(func(b []byte) []byte { b[3]++; return b }), errVersion},
		"huge":             {bend(func(b []byte) []byte { b[4] = 255; return b }), errHello},
		"short":            {bend(func(b []byte) []byte { b[5] = 3; return b }), errHello},
		"purpose":          {bend(func(b []byte) []byte { b[6] = 9; return b }), errHello},
		"no shards":        {bend(func(b []byte) []byte { b[9], b[10] = 0, 0; return b }), errHello},
		"name too long":    {bend(func(b []byte) []byte { b[19] = maxHeaderName + 1; return b }), errHello},
		"name past end":    {bend(func(b []byte) []byte { b[19] = 100; return b }), errHello},
		"no name":          {bend(func(b []byte) []byte { b[19] = 0; return b }), errHello},
		"nothing":          {nil, io.EOF},
		"ends in prefix":   {good[:4], io.ErrUnexpectedEOF},
		"ends in the body": {good[:12], io.ErrUnexpectedEOF},
	} {
		if _, err := readHello(bytes.NewReader(c.b)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func FuzzHello(f *testing.F) {
	h := sampleHello()
	f.Add(appendHello(nil, &h))
	f.Add(appendWelcome(nil, &welcome{refusal: 2, incarnation: 5, node: "n"}))
	f.Add([]byte("LCR\x01\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := readHello(bytes.NewReader(b)); err == nil {
			if again, err := readHello(bytes.NewReader(appendHello(nil, &h))); err != nil || again != h {
				t.Errorf("%+v became %+v, %v", h, again, err)
			}
		}
		if w, err := readWelcome(bytes.NewReader(b)); err == nil {
			if again, err := readWelcome(bytes.NewReader(appendWelcome(nil, &w))); err != nil || again != w {
				t.Errorf("%+v became %+v, %v", w, again, err)
			}
		}
	})
}

func FuzzReplicaStatus(f *testing.F) {
	s := ReplicaStatus{Group: 3, Open: true, Leading: true, Term: 4, Applied: 5, Last: 6, Snapshot: 1 << 63}
	f.Add(s.append([]byte{0, 1, 0, statusSize}))
	f.Add([]byte{0, 2, 0, 1, 0, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		if list, err := readAnswer(bytes.NewReader(b), 0); err == nil {
			for _, s := range list {
				if again := parseStatus(s.append(nil)); again != s {
					t.Errorf("%+v became %+v", s, again)
				}
			}
		}
		_, _ = readQuestion(bytes.NewReader(b)) // must not panic
	})
}

// A process takes nothing from one that writes what it could not read, whoever dials. One that could write a newer format, and does not, is
// a peer: that is how a release that knows one comes into a cluster.
func TestNewerPeer(t *testing.T) {
	ca, all := newAuthority(t), new(members)
	s := newStation(t, ca, all, "n0")
	newer := &station{ca: ca, all: all, id: "n1", fs: vfs.NewMem(), addr: "127.0.0.1:0", writes: 2}
	newer.listen(t)
	if _, err := newer.n.Status(t.Context(), "n0", 0); !errors.Is(err, errFormat) {
		t.Errorf("a newer one dials: %v", err)
	}
	if _, err := s.n.Status(t.Context(), "n1", 0); !errors.Is(err, errFormat) {
		t.Errorf("a newer one is dialled: %v", err)
	}
	able := &station{ca: ca, all: all, id: "n2", fs: vfs.NewMem(), addr: "127.0.0.1:0", writes: 1, reads: 2}
	able.listen(t)
	for _, x := range []struct {
		from *station
		to   string
	}{{able, "n0"}, {s, "n2"}, {able, "n1"}} {
		if _, err := x.from.n.Status(t.Context(), x.to, 0); errors.Is(err, errFormat) {
			t.Errorf("%s to %s: %v", x.from.id, x.to, err)
		}
	}
	if _, err := newer.n.Status(t.Context(), "n2", 0); errors.Is(err, errFormat) {
		t.Errorf("what can be read is refused: %v", err)
	}
}
