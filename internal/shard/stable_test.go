package shard

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
	"linecard.example/internal/disktest"
)

// A crash between the two writes of a vote leaves no vote in the new term for whom this replica voted for before: raft would confirm it
// without comparing logs.
func TestCrashWithinAVote(t *testing.T) {
	fs := vfs.NewMem()
	s := seatFor(t, fs, func(*HostConfig) {})
	vote := func(term, last uint64) bool {
		t.Helper()
		req := &raft.RequestVoteRequest{RPCHeader: s.header(), Term: term, LastLogIndex: last, LastLogTerm: scriptTerm(last), LeadershipTransfer: true}
		var resp raft.RequestVoteResponse
		noErr(t, s.lead.RequestVote("n1", "n1", req, &resp))
		return resp.Granted
	}
	if !vote(3, 1) {
		t.Fatal("no vote with an empty log")
	}
	s.term = 4
	noErr(t, s.mustAppend(1, 50))
	noErr(t, s.g.stable.SetUint64(keyTerm, 7), s.g.stable.SetUint64(keyVote, 7), s.h.Close()) // for somebody else
	s = seatFor(t, fs, func(c *HostConfig) { c.Bootstrap = false })
	if vote(7, 49) {
		t.Error("a vote for a log that lacks what this replica has")
	}
	if !vote(7, 50) {
		t.Error("no vote in a term in which it has not voted")
	}
	if !vote(7, 49) {
		t.Error("the vote that was given is not confirmed")
	}
}

// A vote is there after a power cut, once raft has been told so, and else the one before it or none: never a mixture.
func TestPowerCutWithinAVote(t *testing.T) {
	disktest.MustSurvive(t, func(d *disktest.Disk) error {
		s, err := openSeat(d, func(*HostConfig) {})
		if err != nil {
			return err
		}
		done, asked := uint64(0), uint64(0)
		for term := uint64(1); term <= 20 && !d.Cut(); term++ {
			asked = term
			err := errors.Join(s.g.stable.SetUint64(keyVote, term), s.g.stable.Set(keyCandidate, fmt.Append(nil, "of ", term)))
			if err != nil {
				return err
			}
			if !d.Cut() {
				done = term
			}
		}
		d.Off()
		_ = s.h.Close()
		d.PowerOn()
		if s, err = openSeat(d, func(c *HostConfig) { c.Bootstrap = done == 0 }); err != nil {
			return fmt.Errorf("opening after the cut: %w", err)
		}
		defer s.h.Close()
		term, err := s.g.stable.GetUint64(keyVote)
		who, err2 := s.g.stable.Get(keyCandidate)
		if err = errors.Join(err, err2); err != nil {
			return err
		}
		if want := fmt.Sprint("of ", term); term < done || term > asked || len(who) > 0 && string(who) != want || len(who) == 0 && term == done && done > 0 {
			return fmt.Errorf("term %d of %d to %d, for %q", term, done, asked, who)
		}
		return nil
	})
}
