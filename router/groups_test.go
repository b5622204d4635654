package router

import (
	"testing"

	"github.com/cockroachdb/pebble/vfs"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// handleOf returns a handle that shard n creates.
func handleOf(n int) string {
	for i := 'a'; ; i++ {
		if s := "grp" + string(i); stanza.HandleShard(s, testShards) == n {
			return s
		}
	}
}

// TestGroupsComeAndGo: a group that is opened while streams are up takes part in them at once; one that is closed answers as if it had
// never been here, gives back all credit, and has its data when it is opened again.
func TestGroupsComeAndGo(t *testing.T) {
	d := startRouter(t, vfs.NewMem(), true, func(_ *Config, deps *Deps) { deps.Groups = []int{0, 1} })
	gw := newFakeDaemon(t, link.RoleGateway, 1, 1)
	stop := link.Connect(gw.endpoint, d.r.Endpoint())
	gw.wait(link.KindHello, stanza.DirGroup(1))
	late := stanza.DirGroup(2)
	k := key(5)
	r := stanza.Register{Handle: []byte(handleOf(2))}
	ask := link.Envelope{Kind: link.KindRegister, Group: late, Slot: 3, Gen: 1, Payload: r.Append(k[:])}
	gw.send(ask)
	if e := gw.wait(link.KindNotLeader, late); e.Slot != 3 {
		t.Errorf("%+v", e)
	}
	var account stanza.Account
	for life := range 2 {
		if err := d.r.OpenGroup(2); err != nil {
			t.Fatal(err)
		}
		if err := d.r.OpenGroup(2); err == nil {
			t.Error("open twice")
		}
		gw.wait(link.KindHello, late)
		gw.send(ask)
		e := gw.wait(link.KindBound, late)
		if life == 0 {
			account = e.Account
		}
		if e.Account != account || account == 0 {
			t.Errorf("account %d, then %d", account, e.Account)
		}
		if n := len(d.r.Turned()); n != 3 {
			t.Errorf("%d groups turn", n)
		}
		if err := d.r.CloseGroup(2); err != nil {
			t.Fatal(err)
		}
		gw.send(ask)
		gw.wait(link.KindNotLeader, late)
	}
	if err := d.r.CloseGroup(2); err != nil {
		t.Error("closed twice:", err)
	}
	if err := d.r.OpenGroup(testShards); err == nil {
		t.Error("a group past the last is open")
	}
	if held := d.r.Endpoint().Usage(link.RoleGateway); held.Unhandled != 0 {
		t.Errorf("%+v", held)
	}
	families, err := d.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if n := len(f.GetMetric()); f.GetName() == "linecard_router_accounts" && n != 2 {
			t.Errorf("%d groups have gauges", n)
		}
	}
	stop()
	d.close()
}

// TestGroupKnowsTheQueue: a group that comes here later knows who leads its queue, though that was said before, and not who has said since that he
// does not, or whose stream is down.
func TestGroupKnowsTheQueue(t *testing.T) {
	d := startRouter(t, vfs.NewMem(), true, func(_ *Config, deps *Deps) { deps.Groups = []int{0} })
	first, second := newFakeDaemon(t, link.RoleOffline, 2, 1), newFakeDaemon(t, link.RoleOffline, 3, 1)
	stopFirst := link.Connect(d.r.Endpoint(), first.endpoint)
	defer link.Connect(d.r.Endpoint(), second.endpoint)()
	queue := func(n int) stanza.Group { return stanza.QueueGroup(n) }
	told := func(s *fakeDaemon, n int) { // after this the router has handled what it was sent before
		s.send(link.Envelope{Kind: link.KindQueueDropped, Group: queue(n)})
		s.send(link.Envelope{Kind: link.KindHello, Group: queue(0), Term: uint64(100 + n)})
		if e := s.wait(link.KindAttachDone, queue(0)); e.Term != uint64(100+n) {
			t.Fatalf("%+v", e)
		}
	}
	first.send(link.Envelope{Kind: link.KindHello, Group: queue(1), Term: 4})
	first.send(link.Envelope{Kind: link.KindHello, Group: queue(2), Term: 7})
	told(first, 1)
	second.send(link.Envelope{Kind: link.KindHello, Group: queue(1), Term: 5})
	second.send(link.Envelope{Kind: link.KindHello, Group: queue(2), Term: 6}) // of an earlier leader
	told(second, 2)
	for n, s := range map[int]*fakeDaemon{1: second, 2: first} {
		term := map[int]uint64{1: 5, 2: 7}[n]
		if err := d.r.OpenGroup(n); err != nil {
			t.Fatal(err)
		}
		if e := s.wait(link.KindAttachDone, queue(n)); e.Term != term {
			t.Errorf("queue/%d: attachments done for term %d", n, e.Term)
		}
		if err := d.r.CloseGroup(n); err != nil {
			t.Fatal(err)
		}
	}
	second.send(link.Envelope{Kind: link.KindNotLeader, Group: queue(1)})
	told(second, 3)
	stopFirst()
	for n := 1; n <= 2; n++ {
		if last := d.r.heard.of(n); last.from != nil {
			t.Errorf("queue/%d is led by node %d", n, last.from.Peer().Node)
		}
	}
	d.close()
}
