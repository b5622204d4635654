package router

import (
	"bytes"
	"math"
	"reflect"
	"testing"
)

var sampleCommands = []command{
	{op: opFacts, shards: 16, text: []byte("cluster")},
	{op: opRegister, text: []byte("ann"), key: key(1), create: true, id: 300},
	{op: opRegister, text: bytes.Repeat([]byte("x"), maxHandle), key: key(2), id: maxUint},
	{op: opLink, account: maxAccount, by: maxDevice, key: key(3)},
	{op: opUnlink, account: 17, by: 1, device: 2},
	{op: opDropDone, account: 17, device: 2},
	{op: opNote, account: 17, device: 2, id: 1024},
	{op: opInviteCreate, digest: [16]byte{1, 2}, until: 1_700_000_000_000},
	{op: opInviteRedeem, digest: [16]byte{1, 2}, key: key(4), text: []byte("ann")},
	{op: opInviteExpire, until: 1_700_000_000_000},
	{op: opTicketKey, id: math.MaxUint32, key: key(5)},
	{op: opRoster, text: testRoster(3, 1, 2).Append(nil)},
	{op: opAnnounce, text: testMember(3).Append(nil)},
	{op: opLeave, text: []byte("r3")},
}

func TestCommandCodec(t *testing.T) {
	for _, c := range sampleCommands {
		b := c.append(nil)
		if len(b) > maxCommand {
			t.Errorf("operation %d has %d bytes", c.op, len(b))
		}
		got, err := decodeCommand(b)
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("operation %d: %+v, %v", c.op, got, err)
		}
		for n := range b {
			if _, err := decodeCommand(b[:n]); err == nil {
				t.Errorf("operation %d decodes from %d of %d bytes", c.op, n, len(b))
			}
		}
		if _, err := decodeCommand(append(b, 0)); err == nil {
			t.Errorf("operation %d decodes with a byte too many", c.op)
		}
	}
	for _, b := range [][]byte{{2, 1, 1, 1, 'x'}, {1, 0}, {1, 99}, {1, 6, 0x80, 0, 1, 1}, {1, 1, 1, 0}, {1, 1, 1, 65}} {
		if c, err := decodeCommand(b); err == nil {
			t.Errorf("% x decodes to %+v", b, c)
		}
	}
}

func TestRecordCodec(t *testing.T) {
	a := &accountRecord{version: 9, next: 5, handle: []byte("ann"), devices: []deviceRecord{{number: 1, noted: 5000, key: key(1)}, {number: 4, key: key(4)}}}
	empty := &accountRecord{version: 10, next: 5, handle: []byte("ann"), devices: []deviceRecord{}, revive: key(4)}
	got := &accountRecord{} // in place of what was decoded before
	for _, want := range []*accountRecord{a, empty, a} {
		b := want.append(nil)
		if err := got.decode(b); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v", got, err)
		}
		if n := testing.AllocsPerRun(10, func() { _ = got.decode(b) }); n != 0 {
			t.Errorf("%v allocations to decode", n)
		}
		for n := range b {
			if err := new(accountRecord).decode(b[:n]); err == nil {
				t.Errorf("decodes from %d of %d bytes", n, len(b))
			}
		}
	}
	if n := len((&accountRecord{version: 1, next: 2, handle: []byte("someone"), devices: []deviceRecord{{number: 1, noted: 300, key: key(1)}}}).append(nil)); n > 47 {
		t.Errorf("an account with one device takes %d bytes", n)
	}
	for _, want := range []inviteRecord{{until: 77}, {until: 1 << 50, handle: "ann", key: key(1)}} {
		b := want.append(nil)
		if got, err := decodeInvite(b); err != nil || got != want {
			t.Errorf("%+v, %v", got, err)
		}
		for n := range b {
			if _, err := decodeInvite(b[:n]); err == nil {
				t.Errorf("an invite decodes from %d of %d bytes", n, len(b))
			}
		}
		if _, err := decodeInvite(append(b, 0)); err == nil {
			t.Error("an invite with a byte behind it decodes")
		}
	}
}
