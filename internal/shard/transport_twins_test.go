package shard

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Who wins when a second process comes with a node id.
func TestContest(t *testing.T) {
	const ms = time.Millisecond
	p := &peerConns{incarnation: 1, conns: map[*conn]struct{}{}}
	old := &conn{accepted: true}
	p.conns[old] = struct{}{}
	for i, c := range []struct {
		now, read time.Duration // read: when bytes came last
		rival     uint64
		want      error
	}{
		{5000 * ms, 4999 * ms, 2, errEarlier}, // what came before proves nothing: it may be dead since
		{5500 * ms, 4999 * ms, 2, errEarlier},
		{5600 * ms, 5550 * ms, 2, ErrDuplicate}, // it lives
		{6100 * ms, 5550 * ms, 2, ErrDuplicate}, // and has to prove it again
		{6500 * ms, 5550 * ms, 2, errEarlier},
		{6600 * ms, 5550 * ms, 3, errEarlier}, // a third has a window of its own
		{7500 * ms, 5550 * ms, 2, errEarlier},
		{8400 * ms, 5550 * ms, 2, errEarlier},
		{8500 * ms, 5550 * ms, 2, nil},
	} {
		old.used.Store(int64(c.read))
		if err := p.contest(c.rival, c.now); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%d: %v, want %v", i, err, c.want)
		}
	}
	old.accepted = false // a status connection that we keep says nothing
	if err := p.contest(4, 9000*ms); err != nil {
		t.Error(err)
	}
}

// A second process under a node id is refused as long as the first one lives, says so at its start, and gets in when the first is gone.
func TestDuplicateNode(t *testing.T) {
	ca, all := newAuthority(t), new(members)
	s, first := newStation(t, ca, all, "n0"), newStation(t, ca, all, "n1")
	s.open(t, 1, false)
	ctx, stop := context.WithCancel(context.Background())
	if _, err := first.n.Status(ctx, "n0", 0); err != nil {
		t.Fatal(err)
	}
	lives := make(chan struct{})
	go func() {
		defer close(lives)
		for ctx.Err() == nil {
			_, _ = first.n.Status(ctx, "n0", 0)
			time.Sleep(time.Millisecond) // what a replica of some groups causes anyway
		}
	}()
	second := &station{ca: ca, all: all, id: "n1", run: 10, addr: "127.0.0.1:0"}
	second.listen(t)
	err := second.n.CheckUnique(context.Background(), []string{"n0", "n1", "n7"})
	if !errors.Is(err, ErrDuplicate) || !strings.Contains(err.Error(), "n0") {
		t.Errorf("a second process under the id may start: %v", err)
	}
	const said = "another process runs as this node: node n1"
	eventually(t, "logged", func() bool { return strings.Contains(s.log.String(), said) })
	if text := s.log.String(); strings.Count(text, said) != 1 {
		t.Errorf("logged more than once:\n%s", text)
	}
	if again := <-second.n.Failed(); !errors.Is(again, ErrDuplicate) {
		t.Errorf("a process that runs hears %v", again)
	}
	stop()
	<-lives
	first.hangUp(t)
	third := &station{ca: ca, all: all, id: "n1", run: 11, addr: "127.0.0.1:0"}
	third.listen(t)
	if err := third.n.CheckUnique(context.Background(), []string{"n0", "n1", "n7"}); err != nil {
		t.Errorf("the first has ended: %v", err)
	}
	if _, err := third.n.Status(context.Background(), "n0", 0); err != nil {
		t.Error(err)
	}
}

// One peer has to say for a while that there is another process, and to take no connection meanwhile: it may have read late what a process
// sent before it died.
func TestTwinsProven(t *testing.T) {
	const ms = time.Millisecond
	w := &twins{since: map[string]time.Duration{}, found: make(chan error, 1)}
	for i, c := range []struct {
		node  string
		err   error
		now   time.Duration
		proof bool
	}{
		{"a", ErrDuplicate, 1000 * ms, false},
		{"b", ErrDuplicate, 1500 * ms, false},
		{"a", errEarlier, 3400 * ms, false},
		{"b", nil, 3450 * ms, false}, // taken
		{"a", errors.New("unreachable"), 3500 * ms, false},
		{"a", ErrDuplicate, 3600 * ms, false}, // begins anew
		{"b", ErrDuplicate, 5000 * ms, false},
		{"a", errEarlier, 6000 * ms, false},
		{"a", ErrDuplicate, 6099 * ms, false},
		{"a", ErrDuplicate, 6100 * ms, true},
		{"b", ErrDuplicate, 9999 * ms, true}, // said once
	} {
		w.heard(c.node, c.err, c.now)
		if (w.proven() != nil) != c.proof {
			t.Errorf("%d: %v", i, w.proven())
		}
	}
	if len(w.found) != 1 || !errors.Is(<-w.found, ErrDuplicate) {
		t.Error("nobody is told")
	}
}

// Appends to a replica that does not answer wait for a heartbeat to get through, and for nothing when nobody sends any.
func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := time.Now()
		now := func() time.Duration { return time.Since(base) }
		p := new(pulse)
		ctx, cancel := context.WithCancel(context.Background())
		if !p.await(ctx, now) {
			t.Error("waits though nothing failed")
		}
		p.note(false)
		const away = time.Hour // raft alone would wait 10 s between attempts by then
		go func() {
			for range away / time.Second {
				p.tried.Store(int64(now()))
				time.Sleep(time.Second)
				p.note(false)
			}
			p.note(true)
		}()
		if !p.await(ctx, now) || now() != away {
			t.Errorf("ended after %v, the replica was back after %v", now(), away)
		}
		p.note(false)
		began := now()
		p.tried.Store(int64(began))
		if p.await(ctx, now) || now()-began > 2*pulseless {
			t.Errorf("waits for heartbeats that nobody sends")
		}
		p.tried.Store(int64(now()))
		time.AfterFunc(time.Second, cancel)
		if p.await(ctx, now) {
			t.Error("goes on though the group closed")
		}
	})
}
