package roster

import (
	"cmp"
	"slices"

	"linecard.example/internal/stanza"
)

// Replicas appends the ids of the members that are to hold a group to dst, the preferred leader first: the Voters active members of
// its role that come first by rendezvous hash, or all where there are fewer. A member that comes or goes moves a group only if it is, or
// was, one of its own.
//
// The order within a group is by id, begun at a place that the group's number says, and not by hash: on three machines, which all hold
// all, it spreads leaderships evenly, where a hash would give one of them most.
func (r *Roster) Replicas(dst []uint64, g stanza.Group) []uint64 {
	type candidate struct{ score, node uint64 }
	var room [MaxMembers]candidate
	all, role := room[:0], RoleOf(g)
	for i := range r.Members {
		if m := &r.Members[i]; m.Role == role && m.State == Active {
			all = append(all, candidate{score(g, m.Node), m.Node})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.node, b.node))
	})
	all = all[:min(len(all), r.Voters)]
	slices.SortFunc(all, func(a, b candidate) int { return cmp.Compare(a.node, b.node) })
	for i := range all {
		dst = append(dst, all[(i+g.Shard())%len(all)].node)
	}
	return dst
}

// score is a fixed function of both, evenly spread: the finalizer of splitmix64 over their sum. To change it is to move every replica.
func score(g stanza.Group, node uint64) uint64 {
	x := node + uint64(g)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
