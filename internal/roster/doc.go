// Package roster is the list of a cluster's members, and what follows from it alone: who holds the replicas of a raft group.
//
// A member is one router or offline process with a data directory of its own. The list is a record of dir/0 and changes by that
// group's entries only; everybody else has a copy, of which the higher version is the newer. Whoever has the same version computes the
// same placement, so that leaders of different groups need not talk.
//
// # Threading
//
// A Roster is a value that nobody changes once it is shared: a change makes another one. So any goroutine may read it. The package
// reads no clock, draws no random numbers and does no I/O, since replicas fold its changes.
//
// # Files
//
//	roster.go   Roster, Member, look-ups, what is valid
//	change.go   Found, Announce, Leave: the changes, and the closed list of refusals
//	place.go    Replicas: the placement
//	codec.go    the encoding: on links, in records, in DIR/roster
package roster
