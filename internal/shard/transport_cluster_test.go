package shard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
	"linecard.example/internal/stanza"
)

// cutAll closes every connection of a station, as a path that breaks does.
func (s *station) cutAll() {
	s.n.mu.Lock()
	var all []*conn
	for _, p := range s.n.peers {
		for c := range p.conns {
			all = append(all, c)
		}
	}
	s.n.mu.Unlock()
	for _, c := range all {
		c.Conn.Close() // and not c: it learns of it as of any other end
	}
}

// commitAll commits n commands in each group, in all groups at the same time.
func commitAll(t *testing.T, groups, n int, ss ...*station) {
	t.Helper()
	var wg sync.WaitGroup
	for g := range groups {
		wg.Go(func() { commit(t, stanza.Group(g), n, ss...) })
	}
	wg.Wait()
}

// handTo has a group led by one of the stations. A transfer may fail when the machine is too busy for heartbeats.
func handTo(t testing.TB, g stanza.Group, to *station, ss ...*station) {
	t.Helper()
	var err error
	for range 500 {
		lead := leads(t, g, ss...)
		if lead == to {
			return
		}
		if err = lead.gs[g].raft.LeadershipTransferToServer(raft.ServerID(to.id), raft.ServerAddress(to.id)).Error(); err == nil {
			leads(t, g, to)
			return
		}
		time.Sleep(10 * time.Millisecond) // the leader may have ended, and not know it yet
	}
	t.Fatalf("%s is not handed to %s: %v", g, to.id, err)
}

// Sixteen groups of three over TLS: they commit, hand over, lose their connections, lose a process and have it back, and all replicas
// come to the same state.
func TestNetworkOfThree(t *testing.T) {
	const groups = 16
	ss := openStations(t, groups)
	commitAll(t, groups, 20, ss...)

	// Leaders are spread as placement will do it.
	for g := range groups {
		handTo(t, stanza.Group(g), ss[g%3], ss...)
	}
	commitAll(t, groups, 20, ss...)

	// Connections break under load.
	done := make(chan struct{})
	go func() {
		defer close(done)
		commitAll(t, groups, 60, ss...)
	}()
	for i := 0; ; i++ {
		select {
		case <-done:
		case <-time.After(50 * time.Millisecond): // some load between one break and the next
			if i < 5 {
				ss[i%3].cutAll()
			}
			continue
		}
		break
	}

	// One process ends without a word to anybody; the others take over what it led.
	ss[0].n.Close()
	commitAll(t, groups, 10, ss[1], ss[2])
	ss[0].close(t)
	ss[0].listen(t)
	ss[0].open(t, groups, true)
	var wg sync.WaitGroup // all at the same time: raft asks a replica that was away again after 10 s at most, and each group by itself
	for g := range groups {
		wg.Go(func() { concur(t, stanza.Group(g), ss...) })
	}
	wg.Wait()
	if text := ss[1].log.String(); strings.Count(text, "replica cannot be reached") > 10 {
		t.Errorf("an operator reads too much of one restart:\n%s", text)
	}
}

// Nothing is left of a network: no goroutine, no connection.
func TestNetworkLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	ss := openStations(t, 4)
	commitAll(t, 4, 5, ss...)
	for _, s := range slices.Backward(ss) { // followers first: their leader keeps its connections to them
		if err := s.h.Close(); err != nil {
			t.Error(err)
		}
		if n := s.n.Connections(); n != 0 {
			t.Errorf("%s: %d connections", s.id, n)
		}
		s.hangUp(t)
	}
	goroutinesEnd(t, before)
}

// A group closes at once though a replica that it waits for has nothing to say.
func TestCloseWithSilentPeer(t *testing.T) {
	ca, all := newAuthority(t), new(members)
	s := &station{ca: ca, all: all, id: "n0", fs: vfs.NewMem(), addr: "127.0.0.1:0", timeout: time.Hour}
	s.listen(t)
	s.open(t, 1, false)
	awaitLead(t, s.ms[0])
	silent := newStation(t, ca, all, "n1")
	tr := silent.n.transport(0, silent.log.logger()) // nobody takes what arrives
	tr.open()
	defer tr.Close()
	if err := s.gs[0].raft.AddNonvoter("n1", "n1", 0, 10*time.Second).Error(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "connected", func() bool { return silent.n.Connections() > 1 })
	if err := s.h.Close(); err != nil {
		t.Error(err)
	}
}

const refusedTerm = 13 // appends in it are refused by bare

// bare is one end of a group's transport without a group: it counts calls and grants every vote.
func bare(t *testing.T, s *station) *groupTransport {
	t.Helper()
	tr := s.n.transport(0, s.log.logger())
	tr.open()
	t.Cleanup(func() { tr.Close() })
	go func() {
		for {
			select {
			case rpc := <-tr.Consumer():
				if snap, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok {
					n, err := io.Copy(io.Discard, rpc.Reader)
					rpc.Respond(&raft.InstallSnapshotResponse{Success: n == snap.Size}, err)
					continue
				}
				if app, ok := rpc.Command.(*raft.AppendEntriesRequest); ok {
					var err error
					if app.Term == refusedTerm {
						err = errors.New("another term")
					}
					rpc.Respond(&raft.AppendEntriesResponse{Success: true}, err)
					continue
				}
				rpc.Respond(&raft.RequestVoteResponse{Granted: true, Term: 7}, nil)
			case <-tr.l.ctx.Done():
				return
			}
		}
	}()
	return tr
}

// bareStations returns two ends of one group.
func bareStations(t *testing.T) (a, b *station, at, bt *groupTransport) {
	t.Helper()
	ca, all := newAuthority(t), new(members)
	a, b = newStation(t, ca, all, "n0"), newStation(t, ca, all, "n1")
	return a, b, bare(t, a), bare(t, b)
}

// A vote is not lost to connections that lay in the pool while the peer was restarted.
func TestVoteAfterPeerRestart(t *testing.T) {
	a, b, at, bt := bareStations(t)
	var resp raft.RequestVoteResponse
	vote := func() error { return at.RequestVote("n1", "n1", &raft.RequestVoteRequest{Term: 7}, &resp) }
	for range 3 { // which pool does not hold but two
		var wg sync.WaitGroup
		for range maxPool {
			wg.Go(func() {
				var resp raft.RequestVoteResponse
				if err := at.RequestVote("n1", "n1", &raft.RequestVoteRequest{Term: 7}, &resp); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	for range 2 {
		bt.Close()
		b.hangUp(t)
		b.listen(t)
		bt = bare(t, b)
		if err := vote(); err != nil || !resp.Granted {
			t.Fatalf("the vote after a restart is lost: %v", err)
		}
	}
	bt.Close()
	b.hangUp(t)
	if err := vote(); err == nil {
		t.Error("voted without a peer")
	}
	if a.n.Connections() > 2*maxPool {
		t.Errorf("%d connections", a.n.Connections())
	}
}

// A snapshot passes, and one that stands still ends before the hour that raft's transport allows for its size.
func TestSnapshotOverNetwork(t *testing.T) {
	a, b, at, _ := bareStations(t)
	send := func(size int64) (resp raft.InstallSnapshotResponse, err error) {
		err = at.InstallSnapshot("n1", "n1", &raft.InstallSnapshotRequest{Term: 7, Size: size}, &resp, io.LimitReader(zeros{}, size))
		return resp, err
	}
	if resp, err := send(8 << 20); err != nil || !resp.Success {
		t.Fatal(resp, err)
	}
	at.Close()
	a.hangUp(t)
	a.timeout = 200 * time.Millisecond
	a.listen(t)
	at = bare(t, a)
	silent := b.n.transport(1, b.log.logger())
	silent.open()
	defer silent.Close()
	at.l.group = 1 // the dialler's word for it
	ended := make(chan error, 1)
	go func() { _, err := send(1 << 32); ended <- err }()
	select {
	case err := <-ended:
		if answered(err) {
			t.Error(err)
		}
	case <-time.After(60 * time.Second):
		t.Error("still sending to somebody who does not read")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Each write has the timeout to itself, and an answer is waited for from the last byte of its question.
func TestConnDeadlines(t *testing.T) {
	a, b, _, _ := bareStations(t)
	c, err := b.n.dial(context.Background(), "n0", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	soon := time.Now().Add(time.Second)
	if err := c.SetDeadline(soon); err != nil {
		t.Fatal(err)
	}
	before := c.readBy.Load()
	if _, err := c.Write([]byte{0}); err != nil { // half a question
		t.Fatal(err)
	}
	if got := time.Duration(c.readBy.Load() - before); got < b.n.cfg.Timeout-2*time.Second {
		t.Errorf("the write moved the deadline of reads by %v", got)
	}
	far := time.Now().Add(time.Hour)
	if err := c.SetDeadline(far); err != nil {
		t.Fatal(err)
	}
	before = c.readBy.Load()
	if _, err := c.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	if c.readBy.Load() != before {
		t.Error("a write shortened the time for an answer")
	}
	if _, err := readAnswer(c, 0); err != nil {
		t.Error(err)
	}
	if a.n.Connections() == 0 {
		t.Error("not counted")
	}
}

// caused is how the codec wraps errors, without Unwrap.
type caused struct{ error }

func (c caused) Cause() error { return c.error }

func TestWhatErrorsSay(t *testing.T) {
	for _, c := range []struct {
		err             error
		ended, answered bool
	}{
		{nil, false, true},
		{errors.New("node rejected"), false, true},
		{caused{errors.New("no map")}, false, true},
		{io.EOF, true, false},
		{fmt.Errorf("x: %w", io.ErrUnexpectedEOF), true, false},
		{lost(syscall.ECONNRESET), true, false},
		{caused{caused{lost(&net.OpError{Err: net.ErrClosed})}}, true, false},
		{lost(os.ErrDeadlineExceeded), false, false},
		{caused{lost(os.ErrDeadlineExceeded)}, false, false},
		{lost(fmt.Errorf("refused: %w", errNotServed)), false, false},
	} {
		if ended(c.err) != c.ended || answered(c.err) != c.answered {
			t.Errorf("%v: ended %v, answered %v", c.err, ended(c.err), answered(c.err))
		}
	}
}

// An append does not wait when the replica answers heartbeats with an error: it may be the append that puts an end to that.
func TestAppendAfterRefusedHeartbeat(t *testing.T) {
	_, _, at, _ := bareStations(t)
	beat := &raft.AppendEntriesRequest{Term: refusedTerm, RPCHeader: raft.RPCHeader{Addr: []byte("n0")}}
	entries := &raft.AppendEntriesRequest{Term: 7, PrevLogEntry: 1, PrevLogTerm: 1}
	var resp raft.AppendEntriesResponse
	if err := at.AppendEntries("n1", "n1", beat, &resp); err == nil || !answered(err) {
		t.Fatal(err)
	}
	if err := at.AppendEntries("n1", "n1", entries, &resp); err != nil {
		t.Fatal(err)
	}
}
