package shard

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
	"linecard.example/internal/stanza"
)

// seat is a replica whose leader the test plays: it gets the entries and states that the test sends, and nothing else happens to it.
type seat struct {
	h    *Host
	m    *toy
	g    *toyGroup
	lead *raft.InmemTransport
	term uint64
}

// script is what the leaders of a seat's group have in their logs: entry i of term 1 up to termOne, then of term 2. Entry 1 is the
// configuration, in which the seat has no vote.
const (
	scriptEnd = 100
	termOne   = 60
)

func scriptTerm(i uint64) uint64 {
	if i <= termOne {
		return 1
	}
	return 2
}

var seatConf = raft.Configuration{Servers: []raft.Server{
	{Suffrage: raft.Voter, ID: "lead", Address: "lead"}, {Suffrage: raft.Nonvoter, ID: "n1", Address: "n1"}}}

// scriptEntry returns entry i, or another of the same index for another term than the script's.
func scriptEntry(i, term uint64) *raft.Log {
	l := &raft.Log{Index: i, Term: term, Type: raft.LogCommand}
	if i == 1 {
		l.Type, l.Data = raft.LogConfiguration, raft.EncodeConfiguration(seatConf)
		return l
	}
	p := pack{nonce: 1, seq: i, stamp: int64(1000 + i), count: 2}
	l.Data = make([]byte, packHeader)
	p.putHeader(l.Data)
	l.Data = appendCommand(l.Data, fmt.Appendf(nil, "k%d", i%17))
	l.Data = appendCommand(l.Data, fmt.Appendf(nil, "term %d entry %d", term, i))
	return l
}

func openSeat(fs vfs.FS, change func(*HostConfig)) (*seat, error) {
	cfg := testConfig(fs)
	cfg.Join, cfg.TrailingLogs = true, 3
	change(&cfg)
	_, trans := raft.NewInmemTransportWithTimeout("n1", 5*time.Second)
	_, lead := raft.NewInmemTransportWithTimeout("lead", 5*time.Second)
	lead.Connect("n1", trans)
	trans.Connect("lead", lead)
	cfg.Transport = func(stanza.Group) (raft.Transport, raft.ServerAddress) { return trans, "n1" }
	h, err := OpenHost(cfg)
	if err != nil {
		return nil, err
	}
	s := &seat{h: h, m: newToy(), lead: lead, term: 1}
	if s.g, err = Open[int, uint64](h, testGroup, s.m); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return s, nil
}

func (s *seat) header() raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("lead"), Addr: []byte("lead")}
}

// append sends entries lo..hi of the script, or with other than 0 the same indexes as of that term, and what is committed.
func (s *seat) append(lo, hi, commit, other uint64) (ok bool, err error) {
	req := &raft.AppendEntriesRequest{RPCHeader: s.header(), Term: s.term, PrevLogEntry: lo - 1, LeaderCommitIndex: commit}
	if lo > 1 {
		req.PrevLogTerm = scriptTerm(lo - 1)
	}
	for i := lo; i <= hi; i++ {
		term := scriptTerm(i)
		if other != 0 {
			term = other
		}
		req.Entries = append(req.Entries, scriptEntry(i, term))
	}
	var resp raft.AppendEntriesResponse
	err = s.lead.AppendEntries("n1", "n1", req, &resp)
	return resp.Success, err
}

// mustAppend is append of the script's own entries, all committed, to a replica that has those before them.
func (s *seat) mustAppend(lo, hi uint64) error {
	s.term = max(s.term, scriptTerm(hi))
	ok, err := s.append(lo, hi, hi, 0)
	if err == nil && !ok {
		err = fmt.Errorf("entries %d to %d were not taken", lo, hi)
	}
	if err != nil {
		return err
	}
	return s.reach(hi)
}

// reach waits until entry i is applied: raft answers before.
func (s *seat) reach(i uint64) error {
	limit := time.Now().Add(20 * time.Second)
	for s.g.appliedAt.Load() < i {
		if time.Now().After(limit) {
			return fmt.Errorf("applied %d, want %d", s.g.appliedAt.Load(), i)
		}
		time.Sleep(100 * time.Microsecond) // the shard goroutine publishes it, and tells nobody
	}
	return nil
}

func (s *seat) hash() (h uint64, err error) {
	err = s.g.Call(context.Background(), func() { h = s.m.Hash() })
	return h, err
}

// is compares the state with the script's after entry at.
func (s *seat) is(p *play, at uint64) error {
	got, err := s.hash()
	if err == nil && got != p.hashes[at] {
		err = fmt.Errorf("the state at %d is not the script's", at)
	}
	return err
}

// sent is a state as it goes over the wire.
type sent struct {
	index   uint64 // of its snapshot
	applied uint64 // F
	bytes   []byte
}

// state reads the newest snapshot as raft would to send it.
func (s *seat) state() (x sent, err error) {
	meta, r, err := s.g.snaps.Open("")
	if err != nil {
		return x, err
	}
	b, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close(), r.Close()); err != nil {
		return x, err
	}
	if int64(len(b)) != meta.Size {
		return x, fmt.Errorf("%d bytes were announced, %d came", meta.Size, len(b))
	}
	return sent{index: meta.Index, applied: binary.BigEndian.Uint64(b[7:]), bytes: b}, nil
}

// install sends a state.
func (s *seat) install(x sent) (ok bool, err error) {
	s.term = max(s.term, scriptTerm(x.index))
	req := &raft.InstallSnapshotRequest{
		RPCHeader: s.header(), SnapshotVersion: 1, Term: s.term, LastLogIndex: x.index, LastLogTerm: scriptTerm(x.index),
		Configuration: raft.EncodeConfiguration(seatConf), ConfigurationIndex: 1, Size: int64(len(x.bytes)),
	}
	var resp raft.InstallSnapshotResponse
	err = s.lead.InstallSnapshot("n1", "n1", req, &resp, bytes.NewReader(x.bytes))
	return resp.Success, err
}

func (s *seat) mustInstall(x sent) error {
	ok, err := s.install(x)
	if err == nil && !ok {
		err = fmt.Errorf("the state at %d was not taken", x.index)
	}
	return err
}

// play is what a leader of the script can send, and what must come of it.
type play struct {
	hashes []uint64 // of the state, by applied index
	states []sent   // at 40 with F 50, at 80 with F 85
}

// rehearse folds the script on a replica of its own.
func rehearse(t *testing.T) *play {
	t.Helper()
	s, err := openSeat(vfs.NewMem(), func(*HostConfig) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.h.Close() })
	p := &play{hashes: make([]uint64, scriptEnd+1)}
	note := func(i uint64) {
		t.Helper()
		if p.hashes[i], err = s.hash(); err != nil {
			t.Fatal(err)
		}
	}
	note(0)
	for i := uint64(1); i <= scriptEnd; i++ {
		if err := s.mustAppend(i, i); err != nil {
			t.Fatal(err)
		}
		note(i)
		if i == 40 || i == 80 {
			if err := s.g.Snapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if i == 50 || i == 85 {
			onShard(t, s.g, func() { err = s.g.flush(0) })
			x, err2 := s.state()
			if err = errors.Join(err, err2); err != nil {
				t.Fatal(err)
			}
			if x.applied != i || x.index != map[uint64]uint64{50: 40, 85: 80}[i] {
				t.Fatalf("state at %d, applied %d", x.index, x.applied)
			}
			p.states = append(p.states, x)
		}
	}
	return p
}
