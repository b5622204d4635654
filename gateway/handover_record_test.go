package gateway

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"testing"

	"linecard.example/internal/wire"
)

// fullRecord has every field at its largest.
func fullRecord() record {
	return record{
		rx: [wire.KeySize]byte(bytes.Repeat([]byte{1}, wire.KeySize)), tx: [wire.KeySize]byte(bytes.Repeat([]byte{2}, wire.KeySize)),
		rxNonce: maxNonce, txNonce: maxNonce - 1, account: 1<<34 - 1, device: 1<<16 - 1, serial: 1<<64 - 1, epoch: 1<<64 - 2,
		base: 1<<32 - 2, written: 1<<32 - 1, unacked: 1<<16 - 1, unanswered: 255, noted: 1<<16 - 1, send: 1<<16 - 1, lookups: 255,
		interval: 900, silent: 1<<16 - 1, stuck: 255, warned: true,
		inbound: bytes.Repeat([]byte{3}, wire.LenSize+wire.MaxBody), outbound: bytes.Repeat([]byte{4}, 1<<20),
	}
}

func TestRecord(t *testing.T) {
	for _, r := range []record{fullRecord(), {account: 1, device: 1, serial: 1}} {
		b := appendRecord([]byte("before"), &r)
		var got record
		rest, err := decodeRecord(append(b[len("before"):], "behind"...), &got)
		if err != nil || string(rest) != "behind" {
			t.Fatalf("%v, left %q", err, rest)
		}
		r.inbound, r.outbound = slices.Concat([]byte{}, r.inbound), slices.Concat([]byte{}, r.outbound)
		if !bytes.Equal(r.inbound, got.inbound) || !bytes.Equal(r.outbound, got.outbound) {
			t.Error("bytes differ")
		}
		got.inbound, got.outbound, r.inbound, r.outbound = nil, nil, nil, nil
		if !reflect.DeepEqual(got, r) {
			t.Errorf("%+v became %+v", r, got)
		}
	}
}

// TestRecordOfNoSession: what no session can have is refused.
func TestRecordOfNoSession(t *testing.T) {
	for name, change := range map[string]func(*record){
		"account": func(r *record) { r.account = 0 }, "device": func(r *record) { r.device = 0 }, "serial": func(r *record) { r.serial = 0 },
		"base": func(r *record) { r.base = 2 }, "unacked": func(r *record) { r.unacked = 2 }, "large account": func(r *record) { r.account = 1 << 34 },
		"long frame": func(r *record) { r.inbound = make([]byte, wire.LenSize+wire.MaxBody+1) },
	} {
		r := record{account: 1, device: 1, serial: 1, written: 1}
		change(&r)
		if _, err := decodeRecord(appendRecord(nil, &r), &r); !errors.Is(err, errRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRecordHasTheSlot: whoever adds a field to the slot decides here what a hand-over does with it.
func TestRecordHasTheSlot(t *testing.T) {
	moves := []string{"rx", "tx", "account", "serial", "epoch", "rxNonce", "txNonce", "base", "written", "lastSeen", "device", "noted", "send",
		"unacked", "lookups", "inflight", "progress", "interval", "flags"}
	anew := []string{"self", "tokenTime", "state", "charged", "answered"}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[session]()) {
		if !slices.Contains(moves, f.Name) && !slices.Contains(anew, f.Name) {
			t.Errorf("%s: does a hand-over carry it?", f.Name)
		}
	}
}

func FuzzRecord(f *testing.F) {
	for _, r := range []record{{account: 1, device: 1, serial: 1}, {account: 7, device: 2, serial: 9, epoch: 3, written: 5, base: 2, inbound: []byte("in"), outbound: []byte("out")}} {
		f.Add(appendRecord(nil, &r))
	}
	f.Add([]byte("LCHO"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r record
		rest, err := decodeRecord(b, &r)
		if err != nil {
			return
		}
		var again record
		if _, err := decodeRecord(appendRecord(nil, &r), &again); err != nil || len(rest) > len(b) {
			t.Fatalf("%+v: %v", r, err)
		}
		if !reflect.DeepEqual(r, again) {
			t.Fatalf("%+v became %+v", r, again)
		}
		if h, err := parseHello(b); err == nil {
			if back, err := parseHello(h.append(nil)); err != nil || back != h {
				t.Fatalf("%+v became %+v: %v", h, back, err)
			}
		}
	})
}

// TestRecordsAreWiped: a page that grows leaves no keys behind.
func TestRecordsAreWiped(t *testing.T) {
	r := fullRecord()
	first := appendRecord(roomFor(nil, &record{}), &record{account: 1, device: 1, serial: 1, rx: r.rx})
	before := first[:len(first):len(first)]
	grown := roomFor(first, &r)
	if &grown[0] == &before[0] || !bytes.Equal(before, make([]byte, len(before))) {
		t.Error("the old buffer holds keys")
	}
	full := appendRecord(grown, &r)
	if &full[0] != &grown[0] {
		t.Error("there was no room")
	}
	if n := len(appendRecord(nil, &record{rxNonce: maxNonce, txNonce: maxNonce, account: 1<<34 - 1, serial: 1 << 63})); n > recordSize {
		t.Errorf("%d bytes of at most %d", n, recordSize)
	}
}
