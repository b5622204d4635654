package shard

import (
	"slices"
	"time"
)

// replica is one server of a group's raft configuration as its leader sees it.
type replica struct {
	id    string
	voter bool
	alive bool // answered lately
	near  bool // alive, and its log lacks little
}

// view is what the leader of a group plans from.
type view struct {
	self string
	want []string  // the nodes that shall be voters, the preferred leader first
	have []replica // the configuration, self included

	low     bool            // the leader's disk is below its floor
	spurned map[string]bool // those that could not take over lately
}

// action is a kind of step.
type action uint8

const (
	rest       action = iota // nothing to do, or something to wait for
	addStandby               // a non-voter that receives the log
	promote                  // non-voter to voter
	remove
	handOver // the leadership
)

var actionNames = [...]string{rest: "rest", addStandby: "add standby", promote: "promote", remove: "remove", handOver: "hand over"}

// String returns the name of a, as in logs.
func (a action) String() string { return actionNames[a] }

// step is one change, the only one until it is done.
type step struct {
	do   action
	node string
	wait time.Duration // how long the step has to be the right one before it is done
	why  string        // rest: what is waited for; empty: all is as it should be
}

// balanceAfter is how long the preferred leader has to be a voter that is near before it is handed the leadership: long enough for
// what a restart of it still breaks to show.
const balanceAfter = 10 * time.Second

// plan returns the next step from what a group has to what it shall have. Every leader plans the same from the same view, so that a
// change of leaders in the middle does no harm. The order of the steps:
//
//  1. Standbys that are not wanted go, those that are wanted come.
//  2. All that shall be voters catch up, before the first is promoted: two voters tolerate no failure, so a group is not left with two
//     because the third is late. For the same reason an even number of wanted nodes makes one of them a standby, unless it votes.
//  3. A dead voter that is not wanted goes before its successor is promoted, since it only raises the majority that is needed, one for
//     one, so that no entry is on fewer replicas than before. Voters that are not wanted and alive go when all that are wanted vote.
//  4. The leader hands over if it is not wanted, and then the next one removes it; at last to the preferred leader.
//
// Before all that a leader whose disk is low hands over to whoever can take over.
//
// No step is taken that would leave a majority to be reached by nodes that do not answer.
func plan(v view) step {
	if len(v.want) == 0 {
		return step{}
	}
	if heir := v.heir(); v.low && heir != "" {
		return step{do: handOver, node: heir}
	}
	for _, r := range v.have {
		if !r.voter && !v.wanted(r.id) {
			return step{do: remove, node: r.id}
		}
	}
	for _, id := range v.want {
		if v.find(id) == nil {
			return step{do: addStandby, node: id}
		}
	}
	up := v.promotions()
	for _, id := range up {
		if !v.find(id).near {
			return step{why: "waits until " + id + " has caught up"}
		}
	}
	if len(up) == 0 {
		return v.settle()
	}
	for _, r := range v.have {
		if r.voter && !r.alive && !v.wanted(r.id) && v.voters() >= len(v.want) {
			return v.majorityAfter(step{do: remove, node: r.id})
		}
	}
	return v.majorityAfter(step{do: promote, node: up[0]})
}

// settle plans what is left when all that shall be voters are.
func (v view) settle() step {
	if !v.wanted(v.self) {
		for _, id := range v.want {
			if r := v.find(id); r.voter && r.near {
				return step{do: handOver, node: id}
			}
		}
		return step{why: "waits for a voter to hand over to"}
	}
	for _, r := range v.have {
		if r.voter && !v.wanted(r.id) {
			return v.majorityAfter(step{do: remove, node: r.id})
		}
	}
	if first := v.find(v.want[0]); first.id != v.self && first.voter && first.near {
		return step{do: handOver, node: first.id, wait: balanceAfter}
	}
	return step{}
}

func (v view) wanted(id string) bool { return slices.Contains(v.want, id) }

func (v view) voters() (n int) {
	for _, r := range v.have {
		if r.voter {
			n++
		}
	}
	return n
}

// find returns a server of the configuration, nil if id is none.
func (v view) find(id string) *replica {
	for i := range v.have {
		if v.have[i].id == id {
			return &v.have[i]
		}
	}
	return nil
}

// promotions returns the standbys that shall become voters, in the order of preference. All that is wanted is in the configuration.
func (v view) promotions() []string {
	var up []string
	for _, id := range v.want {
		if !v.find(id).voter {
			up = append(up, id)
		}
	}
	if len(v.want)%2 == 0 && len(up) > 0 {
		up = up[:len(up)-1]
	}
	return up
}

// majorityAfter returns s if behind it the voters that answer are a majority, else why it waits.
func (v view) majorityAfter(s step) step {
	voters, alive := 0, 0
	for _, r := range v.have {
		if votes := r.voter || s.do == promote && r.id == s.node; !votes || s.do == remove && r.id == s.node {
			continue
		}
		voters++
		if r.alive {
			alive++
		}
	}
	if alive <= voters/2 {
		return step{why: "waits for a majority that answers, to " + s.do.String() + " " + s.node}
	}
	return s
}
