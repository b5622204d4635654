package link

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"testing"
	"unsafe"

	"linecard.example/internal/stanza"
)

// TestWorkerOfAGateway: the number survives the random part beside it, and only another run of the same worker is a replacement.
func TestWorkerOfAGateway(t *testing.T) {
	id := func(node uint64, worker uint16, random uint64) GatewayID {
		return Info{Node: node, Incarnation: NewIncarnation(worker, random)}.Gateway()
	}
	for _, n := range []uint16{0, 1, 1<<15 + 7, 1<<16 - 1} {
		if got := id(1, n, 1<<64-1).Worker(); got != n {
			t.Errorf("worker %d became %d", n, got)
		}
	}
	old := id(1, 3, 5)
	for other, want := range map[GatewayID]bool{id(1, 3, 6): true, old: false, id(1, 4, 6): false, id(2, 3, 6): false, id(1, 0, 5): false} {
		if other.Replaces(old) != want {
			t.Errorf("%+v replaces %+v: %v", other, old, !want)
		}
	}
}

func full() *Envelope {
	return &Envelope{
		Kind: KindStore, Flags: 0xff, Group: 0xffff, Reason: math.MaxUint16, Term: math.MaxUint64,
		Gateway: GatewayID{math.MaxUint64, math.MaxUint64}, Slot: math.MaxUint32, Gen: math.MaxUint32,
		Account: math.MaxUint64, Device: math.MaxUint32, ID: math.MaxUint64, Serial: math.MaxUint64, Epoch: math.MaxUint64,
		Charge: math.MaxUint32, RetryAfter: math.MaxUint32, Payload: make([]byte, MaxPayload),
	}
}

// TestEncoding pins the wire format: links join binaries of different builds.
func TestEncoding(t *testing.T) {
	for _, c := range []struct {
		name string
		e    Envelope
		hex  string
	}{
		{"only a kind", Envelope{Kind: KindHello}, "010000"},
		{"hello", Envelope{Kind: KindHello, Group: stanza.QueueGroup(3), Term: 300}, "01000a8003ac02"},
		{"flags", Envelope{Kind: KindRegister, Flags: FlagInvited}, "05000101"},
		{"reason", Envelope{Kind: KindClose, Slot: 1, Gen: 2, Reason: 300, RetryAfter: 127}, "0940c4ac0201027f"},
		{"fixed fields", Envelope{Kind: KindAttach, Gateway: GatewayID{1, 2}, Serial: MakeFence(1, 5)},
			"0f08300000000000000001000000000000000200000100000" + "00005"},
		{"epoch", Envelope{Kind: KindDeliver, Epoch: 3, ID: 128, Payload: []byte("xy")}, "129400" + "8001" + "0000000000000003" + "027879"},
		{"message", Envelope{Kind: KindMessage, Account: 5, Device: 1, ID: 9, Charge: 80, Payload: []byte{0}}, "0ba7000501095001" + "00"},
	} {
		got := AppendEnvelope(nil, &c.e)
		if hex.EncodeToString(got) != c.hex {
			t.Errorf("%s: %x, want %s", c.name, got, c.hex)
		}
		var e Envelope
		rest, err := DecodeEnvelope(append(got, 0xaa), &e)
		if err != nil || !bytes.Equal(rest, []byte{0xaa}) || !reflect.DeepEqual(e, c.e) {
			t.Errorf("%s: %+v, rest %x, %v", c.name, e, rest, err)
		}
	}
}

func TestEncodingExtremes(t *testing.T) {
	b := AppendEnvelope(nil, full())
	if len(b) > maxHeader+MaxPayload {
		t.Errorf("header of %d bytes, maxHeader says %d", len(b)-MaxPayload, maxHeader)
	}
	var e Envelope
	if rest, err := DecodeEnvelope(b, &e); err != nil || len(rest) != 0 || !reflect.DeepEqual(&e, full()) {
		t.Errorf("decode: %v", err)
	}
	for n := range 300 { // every cut is truncated, none panics
		if _, err := DecodeEnvelope(b[:n], &e); !errors.Is(err, ErrEnvelope) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	if s := unsafe.Sizeof(Item{}); s > EnvelopeCharge {
		t.Errorf("an item takes %d bytes, charged are %d", s, EnvelopeCharge)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct {
		name, hex string
		want      error
	}{
		{"empty", "", errTruncated},
		{"no mask", "0100", errTruncated},
		{"kind 0", "000000", errKind},
		{"kind past the list", "2d0000", errKind},
		{"zero flags", "01000100", errCanonical},
		{"zero group", "0100020000", errCanonical},
		{"zero varint", "01008000", errCanonical},
		{"long varint", "0100808100", errCanonical},
		{"reason of 17 bits", "010004808004", errRange},
		{"slot of 33 bits", "0100408080808010", errRange},
		{"varint of 65 bits", "010008ffffffffffffffffff02", errRange},
		{"varint without end", "01000880", errTruncated},
		{"short fixed", "01001000000000000000", errTruncated},
		{"short payload", "0180000261", errTruncated},
		{"empty payload", "01800000", errCanonical},
		{"long payload", "018000818008", errPayload},
	} {
		b, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		var e Envelope
		if _, err = DecodeEnvelope(b, &e); !errors.Is(err, c.want) || !errors.Is(err, ErrEnvelope) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestKinds(t *testing.T) {
	seen := map[string]bool{}
	for k := KindHello; k < kindEnd; k++ {
		if n := k.String(); n == "" || seen[n] {
			t.Errorf("kind %d has the name %q", k, n)
		} else {
			seen[n] = true
		}
	}
	if kindEnd.String() != "unknown" || RoleOffline.String() != "offline" || Role(0).String() != "unknown" {
		t.Error("names")
	}
	if f := MakeFence(3, 9); f.Term() != 3 || f <= MakeFence(2, 1<<40-1) {
		t.Error("fences")
	}
}

func TestCodecAllocates(t *testing.T) {
	e, buf := message(1), make([]byte, 0, 1024)
	var out Envelope
	if n := testing.AllocsPerRun(1000, func() { buf = AppendEnvelope(buf[:0], e) }); n != 0 {
		t.Errorf("append: %v allocations", n)
	}
	if n := testing.AllocsPerRun(1000, func() { _, _ = DecodeEnvelope(buf, &out) }); n != 0 {
		t.Errorf("decode: %v allocations", n)
	}
}

func FuzzEnvelope(f *testing.F) {
	f.Add(AppendEnvelope(nil, message(1)))
	small := full()
	small.Payload = []byte("p")
	f.Add(AppendEnvelope(AppendEnvelope(nil, small), &Envelope{Kind: KindHello, Group: 3, Term: 2}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for whole := b; len(whole) > 0; {
			var e Envelope
			rest, err := DecodeEnvelope(whole, &e)
			if err != nil {
				if !errors.Is(err, ErrEnvelope) {
					t.Fatalf("error %v", err)
				}
				return
			}
			used := whole[:len(whole)-len(rest)]
			if again := AppendEnvelope(nil, &e); !bytes.Equal(again, used) {
				t.Fatalf("%x decoded and encoded is %x", used, again)
			}
			if len(used) > maxHeader+MaxPayload || e.Size() < 0 {
				t.Fatal("bounds")
			}
			whole = rest
		}
	})
}

func FuzzIntro(f *testing.F) {
	in := intro{info: info(RoleRouter), want: RoleOffline, window: DefaultCredits, kinds: kindEnd - 1, founded: 300}
	f.Add(appendIntro(nil, &in))
	in.refused = 3
	whole := appendIntro(nil, &in)
	f.Add(whole)
	f.Add(whole[:len(whole)-3]) // as older peers say it
	self := info(RoleOffline)
	mine := intro{info: self, founded: 300}
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := parseIntro(b)
		if err != nil {
			return
		}
		if p := in.info; in.check(&mine, 0) == nil && (!p.Role.valid() || in.founded != 0 && in.founded != 300 || in.want != self.Role || p.Cluster != self.Cluster || p.Shards != self.Shards ||
			in.window < 1 || in.refused != 0) {
			t.Fatalf("%+v may talk to %+v", in, self)
		}
		if again, err := parseIntro(appendIntro(nil, &in)); err != nil || again != in {
			t.Fatalf("%+v became %+v, %v", in, again, err)
		}
	})
}

// TestLineOfAGateway: the processes that hand sessions over to each other form a line, which wraps around; none of them replaces another,
// and each that one process offers its sessions to has an id of its own.
func TestLineOfAGateway(t *testing.T) {
	first := GatewayID{Node: 1, Incarnation: NewIncarnation(3, 1<<64-1)}
	id := first
	for n := range 300 {
		failed, next := id.Successor(1, 5), id.Successor(2, uint16(3+n%2))
		if !next.Succeeds(id) || id.Succeeds(next) || next.Replaces(id) || id.Replaces(next) || next.Worker() != uint16(3+n%2) {
			t.Fatalf("%d: %x after %x", n, next.Incarnation, id.Incarnation)
		}
		if failed == next || !next.Succeeds(failed) || !failed.Succeeds(id) || next.Replaces(failed) {
			t.Fatalf("%d: %x after %x, which did not get far", n, next.Incarnation, failed.Incarnation)
		}
		id = next
	}
	if id.Succeeds(id) || !id.Successor(MaxHeirs, 3).Succeeds(id) {
		t.Error("succeeds itself, or the last heir does not")
	}
	other := GatewayID{Node: 1, Incarnation: NewIncarnation(3, 7)}
	if !other.Replaces(first) || other.Successor(1, 3).Succeeds(first) || first.Succeeds(other) {
		t.Error("lines are mixed up")
	}
}
