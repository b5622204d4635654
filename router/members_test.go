package router

import (
	"context"
	"math/rand/v2"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"

	"linecard.example/internal/link"
	"linecard.example/internal/roster"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// testMember is an active router.
func testMember(node uint64) *roster.Member {
	name := "r" + strconv.FormatUint(node, 10)
	return &roster.Member{Node: node, Name: name, Role: roster.Router, State: roster.Active, Link: name + ":1", Raft: name + ":2"}
}

// testRoster is a cluster's roster with these routers, the first of which founded it.
func testRoster(cluster uint64, nodes ...uint64) *roster.Roster {
	r, _ := roster.Found(cluster, 3, *testMember(nodes[0]))
	for _, n := range nodes[1:] {
		r, _ = r.Announce(*testMember(n), 0)
	}
	return r
}

// randomChange draws a change of the roster, of few members.
func randomChange(rng *rand.Rand) command {
	m := testMember(1 + rng.Uint64N(8))
	switch rng.IntN(4) {
	case 0:
		return command{op: opRoster, text: testRoster(1+rng.Uint64N(2), m.Node, 20, 21).Append(nil)}
	case 1:
		return command{op: opLeave, text: []byte(m.Name)}
	}
	m.Role += roster.Role(rng.IntN(2))
	return command{op: opAnnounce, text: m.Append(nil)}
}

// founded is dir/0 of a cluster that router 1 has founded, and an operator's stream to it.
func founded(t *testing.T) (*harness, *fakeStream) {
	t.Helper()
	h, s := foundedNow(t)
	h.tick(50 * time.Millisecond)
	return h, s
}

// foundedNow is the same before anything else has happened.
func foundedNow(t *testing.T) (*harness, *fakeStream) {
	t.Helper()
	h := newHarnessOf(t, 0, nil)
	h.m.board = link.NewBoard()
	if err := h.m.board.Offer(testRoster(7, 1)); err != nil {
		t.Fatal(err)
	}
	s := h.up(link.RoleOperator, 9, 9)
	s.take(t, link.KindHello)
	s.nothing(t)
	return h, s
}

// ask has an operator ask, and returns the answer.
func ask(h *harness, s *fakeStream, kind link.Kind, payload []byte) roster.Refusal {
	h.t.Helper()
	h.send(s, link.Envelope{Kind: kind, Group: stanza.DirGroup(0), ID: 77, Payload: payload})
	e := s.take(h.t, link.KindMemberAnswer)
	if e.ID != 77 || e.Group != h.m.id || len(e.Payload) != 1 {
		h.t.Fatalf("%+v", e)
	}
	return roster.Refusal(e.Payload[0])
}

// TestRosterFounded: what the process founded gets into the log, and from there into the records of the next life.
func TestRosterFounded(t *testing.T) {
	h, _ := founded(t)
	want := testRoster(7, 1)
	if !reflect.DeepEqual(h.m.directory.roster, want) || !reflect.DeepEqual(h.m.board.Current(), want) {
		t.Errorf("%+v, shown %+v", h.m.directory.roster, h.m.board.Current())
	}
	entries := h.g.index
	h.tick(time.Hour)
	if h.g.index != entries {
		t.Error("it is taken over again and again")
	}
	h.restart()
	if !reflect.DeepEqual(h.m.directory.roster, want) {
		t.Errorf("after a restart %+v", h.m.directory.roster)
	}
}

// TestRosterAtOnce: who joins in the moment in which the founder begins to lead is not told that there is no cluster.
func TestRosterAtOnce(t *testing.T) {
	h, s := foundedNow(t)
	if got := ask(h, s, link.KindAnnounce, testMember(2).Append(nil)); got != roster.Done || h.m.directory.roster.Version != 2 {
		t.Errorf("%v, %+v", got, h.m.directory.roster)
	}
}

// TestRosterChanges: members come and go by the word of operators, and the process hears of each change.
func TestRosterChanges(t *testing.T) {
	h, s := founded(t)
	for i, c := range []struct {
		kind    link.Kind
		payload []byte
		want    roster.Refusal
		version uint64
	}{
		{link.KindAnnounce, testMember(2).Append(nil), roster.Done, 2},
		{link.KindAnnounce, testMember(2).Append(nil), roster.Done, 2},
		{link.KindAnnounce, append(testMember(3).Append(nil), 0), roster.BadMember, 2},
		{link.KindAnnounce, nil, roster.BadMember, 2},
		{link.KindLeave, []byte("r2"), roster.Done, 3},
		{link.KindLeave, []byte("r1"), roster.LastMember, 3},
		{link.KindLeave, []byte("r9"), roster.NoSuchMember, 3},
		{link.KindLeave, []byte("R 9"), roster.NoSuchMember, 3},
	} {
		if got := ask(h, s, c.kind, c.payload); got != c.want {
			t.Errorf("%d: %v, want %v", i, got, c.want)
		}
		if v := h.m.board.Current().Version; v != c.version {
			t.Errorf("%d: the board has version %d, want %d", i, v, c.version)
		}
	}
	h.restart()
	if r := h.m.directory.roster; r.Version != 3 || r.Member(2).State != roster.Leaving || r.Member(2).Since == 0 {
		t.Errorf("%+v", r)
	}
}

// TestRosterAsked: who cannot change it says so, and what is not known to be done is not said to be.
func TestRosterAsked(t *testing.T) {
	h, s := founded(t)
	h.g.full = true
	if got := ask(h, s, link.KindLeave, []byte("r2")); got != roster.Busy {
		t.Error(got)
	}
	h.g.full, h.g.outcome = false, shard.Unknown
	if got := ask(h, s, link.KindLeave, []byte("r2")); got != roster.Unknown {
		t.Error(got)
	}
	h.g.outcome = shard.Committed
	h.m.Follow()
	h.send(s, link.Envelope{Kind: link.KindAnnounce, ID: 5, Payload: testMember(2).Append(nil)})
	if e := s.take(t, link.KindNotLeader); e.ID != 5 {
		t.Errorf("%+v", e)
	}
	alone := newHarnessOf(t, 0, nil)
	there := alone.up(link.RoleOperator, 9, 9)
	there.take(t, link.KindHello)
	if got := ask(alone, there, link.KindLeave, []byte("r2")); got != roster.NotFounded {
		t.Error(got)
	}
	h.m.Lead(h.m.term + 1)
	h.settle()
	s = h.up(link.RoleOperator, 10, 9)
	s.take(t, link.KindHello)
	s.cert = "r3"
	if got := ask(h, s, link.KindAnnounce, testMember(2).Append(nil)); got != roster.OtherName || h.m.directory.roster.Member(2) != nil {
		t.Errorf("by another's certificate: %v", got)
	}
	if got := ask(h, s, link.KindAnnounce, testMember(3).Append(nil)); got != roster.Done {
		t.Errorf("by its own certificate: %v", got)
	}
	h.send(h.gateway(3, 1), link.Envelope{Kind: link.KindAnnounce, ID: 5, Payload: testMember(2).Append(nil)})
	if h.m.directory.roster.Member(2) != nil {
		t.Error("a gateway has changed the roster")
	}
	other := newHarness(t, nil)
	s = other.up(link.RoleOperator, 9, 9)
	s.take(t, link.KindHello)
	other.send(s, link.Envelope{Kind: link.KindAnnounce, ID: 5, Payload: testMember(2).Append(nil)})
	s.nothing(t)
}

// TestRosterFoundedAnew: a directory of which an operator has made another cluster forgets the members of the one that it comes from.
func TestRosterFoundedAnew(t *testing.T) {
	h, _ := founded(t)
	if err := h.m.board.Offer(testRoster(7, 1, 2, 3)); err != nil {
		t.Fatal(err)
	}
	h.tick(50 * time.Millisecond)
	h.restart() // from a backup
	h.m.board = link.NewBoard()
	anew := testRoster(9, 5)
	if err := h.m.board.Offer(anew); err != nil {
		t.Fatal(err)
	}
	h.tick(50 * time.Millisecond)
	if !reflect.DeepEqual(h.m.directory.roster, anew) {
		t.Fatalf("%+v", h.m.directory.roster)
	}
	s := h.up(link.RoleOperator, 9, 9)
	s.take(t, link.KindHello)
	if got := ask(h, s, link.KindAnnounce, testMember(6).Append(nil)); got != roster.Done || h.m.board.Current().Version != 2 {
		t.Errorf("%v, %+v", got, h.m.board.Current())
	}
}

// TestRosterFromBackup: a directory that is older than what the members know takes that over, once it can; one of another cluster does not.
func TestRosterFromBackup(t *testing.T) {
	h, _ := founded(t)
	newer := testRoster(7, 1, 2, 3)
	if err := h.m.board.Offer(newer); err != nil {
		t.Fatal(err)
	}
	h.g.outcome = shard.Rejected
	h.tick(50 * time.Millisecond)
	h.m.Follow()
	h.g.outcome = shard.Committed
	h.tick(50 * time.Millisecond)
	if h.m.directory.roster.Version != 1 {
		t.Error("who does not lead, or is rejected, takes over")
	}
	h.m.Lead(h.m.term + 1)
	h.settle()
	h.tick(50 * time.Millisecond)
	if !reflect.DeepEqual(h.m.directory.roster, newer) {
		t.Errorf("%+v", h.m.directory.roster)
	}
	h.m.board = link.NewBoard()
	if err := h.m.board.Offer(testRoster(8, 1, 2, 3, 4)); err != nil {
		t.Fatal(err)
	}
	h.tick(50 * time.Millisecond)
	if h.m.directory.roster.Cluster != 7 {
		t.Error("another cluster's")
	}
}

// TestRosterElsewhere: only dir/0 has one.
func TestRosterElsewhere(t *testing.T) {
	h := newHarness(t, nil)
	h.m.board = link.NewBoard()
	if err := h.m.board.Offer(testRoster(7, 1)); err != nil {
		t.Fatal(err)
	}
	h.tick(time.Second)
	if h.m.directory.roster != nil {
		t.Error("dir/1 has it too")
	}
}

// TestRosterOverLinks: an operator changes the roster of a real router, which keeps it over restarts, from the log and from a snapshot.
func TestRosterOverLinks(t *testing.T) {
	fs := vfs.NewStrictMem()
	dir := stanza.DirGroup(0)
	for life, snapshot := range []bool{false, true, false} {
		board := link.NewBoard()
		if life == 0 {
			if err := board.Offer(testRoster(7, 1)); err != nil { // as founded
				t.Fatal(err)
			}
		}
		d := startRouter(t, fs, life == 0, func(_ *Config, deps *Deps) { deps.Board = board })
		op := newFakeDaemon(t, link.RoleOperator, 9, uint64(life+1))
		link.Connect(op.endpoint, d.r.Endpoint())
		awaitVersion(t, d, uint64(1+life))
		op.send(link.Envelope{Kind: link.KindAnnounce, Group: dir, ID: 5, Payload: testMember(uint64(2 + life)).Append(nil)})
		if why := roster.Refusal(op.wait(link.KindMemberAnswer, dir).Payload[0]); why != roster.Done {
			t.Error(why)
		}
		awaitVersion(t, d, uint64(2+life))
		if r := board.Current(); r.Version != uint64(2+life) || r.Member(uint64(2+life)) == nil {
			t.Errorf("life %d: %+v", life, r)
		}
		if snapshot {
			if err := d.r.hosted[0].group.Snapshot(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		d.close()
		fs.ResetToSyncedState()
	}
}

// awaitVersion waits until the router has led dir/0 and its log has a version of the roster.
func awaitVersion(t *testing.T, d *daemon, version uint64) {
	t.Helper()
	h := d.r.hosted[0]
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) { // raft elects and commits, and tells nobody outside
		var have uint64
		leading := false
		err := h.group.Call(context.Background(), func() {
			leading = h.shard.leading
			if r := h.shard.shown; r != nil {
				have = r.Version
			}
		})
		if err != nil || time.Now().After(end) {
			t.Fatalf("version %d, want %d: %v", have, version, err)
		}
		if leading && have == version {
			return
		}
	}
}
