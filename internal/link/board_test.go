package link

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"linecard.example/internal/roster"
	"linecard.example/internal/stanza"
)

// rosters returns a cluster's roster in versions 1 to n.
func rosters(t testing.TB, cluster uint64, n int) []*roster.Roster {
	t.Helper()
	of := func(i int) roster.Member {
		name := "r" + strings.Repeat("x", i)
		return roster.Member{Node: uint64(i + 1), Name: name, Role: roster.Router, State: roster.Active, Link: name + ":1", Raft: name + ":2"}
	}
	r, why := roster.Found(cluster, 3, of(0))
	all := []*roster.Roster{r}
	for i := 1; i < n && why == roster.Done; i++ {
		r, why = r.Announce(of(i), 0)
		all = append(all, r)
	}
	if why != roster.Done {
		t.Fatal(why)
	}
	return all
}

// knows waits until a board has a version.
func knows(t testing.TB, b *Board, version uint64) {
	t.Helper()
	changed := b.Changed()
	defer b.Unwatch(changed)
	limit := time.After(20 * time.Second)
	for b.Current() == nil || b.Current().Version < version {
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("waited in vain for version %d", version)
		}
	}
	if v := b.Current().Version; v != version {
		t.Fatalf("version %d, want %d", v, version)
	}
}

// TestBoardSpreads: what one process knows comes to all that are connected to anybody, whoever dialled, and to those that come later.
func TestBoardSpreads(t *testing.T) {
	noLeaks(t)
	ca := newAuthority(t)
	boards := [3]*Board{NewBoard(), NewBoard(), NewBoard()}
	addr, _ := serve(t, "127.0.0.1:0", ca.config(t), NewEndpoint(info(RoleRouter), newRecorder(t), Options{Board: boards[1]}))
	v := rosters(t, 5, 4)
	if err := boards[0].Offer(v[0]); err != nil { // before there is anybody
		t.Fatal(err)
	}
	first := newRecorder(t)
	dial(t, NewEndpoint(info(RoleGateway), first, Options{Board: boards[0]}), addr, RoleRouter, ca.config(t))
	knows(t, boards[1], 1)
	dial(t, NewEndpoint(info(RoleOffline), newRecorder(t), Options{Board: boards[2]}), addr, RoleRouter, ca.config(t))
	knows(t, boards[2], 1)
	if err := boards[2].Offer(v[2]); err != nil { // from a dialler through the server to a dialler
		t.Fatal(err)
	}
	knows(t, boards[0], 3)
	knows(t, boards[1], 3)
	if err := boards[1].Offer(v[1]); err != nil || boards[1].Current().Version != 3 {
		t.Errorf("an older one counts: %v", err)
	}
	if err := boards[1].Offer(v[3]); err != nil {
		t.Fatal(err)
	}
	knows(t, boards[0], 4)
	knows(t, boards[2], 4)
	if n := first.count(); n != 0 {
		t.Errorf("the daemon saw %d envelopes", n)
	}
}

// TestBoardNeedsNoCredit: the newest roster passes a stream whose credits are spent, ahead of what is pending, and takes the place of one
// that waits.
func TestBoardNeedsNoCredit(t *testing.T) {
	v := rosters(t, 5, 3)
	board := NewBoard()
	e := NewEndpoint(info(RoleRouter), newRecorder(t), Options{Board: board})
	s := newStream(e, intro{info: info(RoleGateway), window: 300, kinds: kindEnd - 1}, false)
	s.up()
	for s.Send(message(1)) == nil {
	}
	for _, r := range v {
		if err := board.Offer(r); err != nil {
			t.Fatal(err)
		}
	}
	b := s.out.take()
	var env Envelope
	rest, err := DecodeEnvelope(b.buf, &env)
	if err != nil || len(rest) > 0 || env.Kind != KindRoster || env.Size() != 0 || !bytes.Equal(env.Payload, v[2].Append(nil)) {
		t.Fatalf("%v, %v, %d bytes behind it", env.Kind, err, len(rest))
	}
	if b = s.out.take(); b.buf[0] != byte(KindMessage) {
		t.Errorf("then %v", Kind(b.buf[0]))
	}
	s.out.drain()
	if b = s.out.take(); b != nil {
		t.Errorf("then %v", Kind(b.buf[0]))
	}
	s.fail(ErrStopped)
	s.down()
}

// TestBoardTellsOnce: a peer is told a version once, none that it sent itself, and none at all if it is of an older build.
func TestBoardTellsOnce(t *testing.T) {
	v := rosters(t, 5, 3)
	board := NewBoard()
	e := NewEndpoint(info(RoleRouter), newRecorder(t), Options{Board: board})
	source := newStream(e, intro{info: info(RoleGateway), window: 300, kinds: kindEnd - 1}, false)
	other := newStream(e, intro{info: info(RoleGateway), window: 300, kinds: kindEnd - 1}, false)
	old := newStream(e, intro{info: info(RoleGateway), window: 300, kinds: kindsOld}, false)
	for _, s := range []*Stream{source, other, old} {
		s.up()
	}
	posted := func(s *Stream) bool { return s.out.notice != nil }
	payload := v[1].Append(nil)
	if err := source.receive(AppendEnvelope(nil, &Envelope{Kind: KindRoster, Payload: payload})); err != nil {
		t.Fatal(err)
	}
	if posted(source) || !posted(other) || posted(old) {
		t.Errorf("source %v, other %v, old %v", posted(source), posted(other), posted(old))
	}
	other.out.take()
	if err := other.receive(AppendEnvelope(nil, &Envelope{Kind: KindRoster, Payload: v[0].Append(nil)})); err != nil || posted(other) || posted(source) {
		t.Errorf("told again: %v", err)
	}
	if err := old.Send(&Envelope{Kind: KindAnnounce, Group: stanza.DirGroup(0)}); !errors.Is(err, ErrKind) {
		t.Errorf("an older peer is sent an announcement: %v", err)
	}
	if err := source.receive(AppendEnvelope(nil, &Envelope{Kind: KindRoster, Payload: payload[1:]})); !errors.Is(err, ErrProtocol) || !errors.Is(err, roster.ErrEncoding) {
		t.Errorf("a roster that is none: %v", err)
	}
	if err := source.receive(AppendEnvelope(nil, &Envelope{Kind: KindRoster, Payload: rosters(t, 6, 3)[2].Append(nil)})); !errors.Is(err, ErrOtherCluster) {
		t.Errorf("another cluster's: %v", err)
	}
	if board.Current().Version != 2 || board.Current().Cluster != 5 {
		t.Errorf("%+v", board.Current())
	}
	for _, s := range []*Stream{source, other, old} {
		s.fail(ErrStopped)
		s.down()
	}
}

// TestTwoFoundations: processes of two clusters that were founded under one name do not become peers; one that does not know yet does.
func TestTwoFoundations(t *testing.T) {
	noLeaks(t)
	ca := newAuthority(t)
	board := func(cluster uint64) *Board {
		b := NewBoard()
		if err := b.Offer(rosters(t, cluster, 1)[0]); err != nil {
			t.Fatal(err)
		}
		return b
	}
	addr, _ := serve(t, "127.0.0.1:0", ca.config(t), NewEndpoint(info(RoleRouter), newRecorder(t), Options{Board: board(5)}))
	var log lines
	a, c := newRecorder(t), newRecorder(t)
	dial(t, NewEndpoint(info(RoleGateway), a, Options{Board: board(6), Logger: slog.New(slog.NewTextHandler(&log, nil))}), addr, RoleRouter, ca.config(t))
	log.await(t, `another one was founded under the name \"test\"`)
	dial(t, NewEndpoint(info(RoleOperator), c, Options{}), addr, RoleRouter, ca.config(t))
	c.stream(0)
	if len(a.ups) > 0 {
		t.Error("up in spite of it")
	}
}

// TestNoBoard: endpoints without one work as ever.
func TestNoBoard(t *testing.T) {
	var b *Board
	if b.Current() != nil || b.Offer(rosters(t, 5, 1)[0]) != nil {
		t.Error("a nil board")
	}
	e := NewEndpoint(info(RoleRouter), newRecorder(t), Options{})
	s := newStream(e, intro{info: info(RoleGateway), window: 300, kinds: kindEnd - 1}, false)
	s.up()
	if err := s.receive(AppendEnvelope(nil, &Envelope{Kind: KindRoster, Payload: []byte("anything")})); err != nil {
		t.Error(err)
	}
	s.fail(ErrStopped)
	s.down()
}
