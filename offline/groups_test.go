package offline

import (
	"testing"

	"github.com/cockroachdb/pebble/vfs"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// TestGroupsComeAndGo: a group that is closed answers as if it had never been here and gives back all credit; opened again, while streams
// are up, it says hello on them and has what it had.
func TestGroupsComeAndGo(t *testing.T) {
	const shards = 4
	fs := vfs.NewMem()
	o, closeAll := openDaemon(t, fs, true, shards)
	h := &harness{t: t, o: o, woken: make(chan struct{}, 1)}
	gw := h.peerOf(shards)
	for range shards {
		gw.take(link.KindHello)
	}
	const account = stanza.Account(2)
	for id := uint64(1); id <= 3; id++ {
		gw.storeIn(shards, id, id-1, account)
		gw.take(link.KindAck)
		if err := o.CloseGroup(2); err != nil {
			t.Fatal(err)
		}
		gw.storeIn(shards, id+1, id, account)
		if e := gw.take(link.KindNotLeader); e.ID != id+1 || e.Group != stanza.QueueGroup(2) {
			t.Errorf("%+v", e)
		}
		if err := o.OpenGroup(2); err != nil {
			t.Fatal(err)
		}
		if err := o.OpenGroup(2); err == nil {
			t.Error("open twice")
		}
		if e := gw.take(link.KindHello); e.Group != stanza.QueueGroup(2) {
			t.Errorf("hello of %v", e.Group)
		}
	}
	if err := o.OpenGroup(shards); err == nil {
		t.Error("a group past the last is open")
	}
	gw.send(link.Envelope{Kind: link.KindAttach, Group: stanza.QueueGroup(2), Gateway: gw.id, Account: account, Device: 1, Slot: 1, Gen: 1, Serial: 1})
	for id := uint64(1); id <= 3; id++ {
		if e, got := gw.delivered(); got != id {
			t.Errorf("message %d as delivery %d, want %d", got, e.ID, id)
		}
	}
	if held := o.Endpoint().Usage(link.RoleGateway); held.Unhandled != 0 {
		t.Errorf("%+v", held)
	}
	if n := len(o.Turned()); n != shards {
		t.Errorf("%d groups turn", n)
	}
	gw.stop()
	closeAll()
}
