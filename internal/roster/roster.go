package roster

import (
	"cmp"
	"net"
	"slices"
	"strconv"

	"linecard.example/internal/stanza"
)

// Role is the daemon that a member runs. The numbers are those of the links' roles.
type Role uint8

// Roles of members. Gateways are none: they hold no replica.
const (
	Router  Role = 2
	Offline Role = 3
)

// String returns the daemon's name, "unknown" outside of the list.
func (r Role) String() string {
	switch r {
	case Router:
		return "router"
	case Offline:
		return "offline"
	}
	return "unknown"
}

func (r Role) valid() bool { return r == Router || r == Offline }

// RoleOf returns the role whose members hold a group.
func RoleOf(g stanza.Group) Role {
	if g.IsQueue() {
		return Offline
	}
	return Router
}

// State says whether a member is to hold replicas.
type State uint8

const (
	// Active members hold the replicas that the placement gives them.
	Active State = 1
	// Leaving members are to hold none. That is for good: a machine that is to come back gets an empty data directory, hence another id.
	Leaving State = 2
)

// String returns "active" or "leaving", "unknown" outside of the list.
func (s State) String() string {
	switch s {
	case Active:
		return "active"
	case Leaving:
		return "leaving"
	}
	return "unknown"
}

// Limits of a roster.
const (
	MaxMembers = 128
	MaxName    = 63
	MaxAddress = 128
	MaxVoters  = 5
)

// Member is one router or offline process.
type Member struct {
	Node  uint64 // durable id of its data directory, not 0
	Name  string // that of its keys, 1 to MaxName of a-z 0-9 . -
	Role  Role
	State State
	Link  string // HOST:PORT of its link listener
	Raft  string // HOST:PORT of its raft listener
	Since int64  // leaving: the stamp of the entry that said so, ms since 1970
}

// Roster is the list of members. Shared ones are never changed.
type Roster struct {
	// Cluster is drawn when the cluster is founded: two that were founded under one name differ in it.
	Cluster uint64
	// Version counts the changes, from 1.
	Version uint64
	// Voters is how many replicas a group has, 1, 3 or 5, where there are members enough.
	Voters int
	// Routers and Offlines are the ids of the members that began the groups of their role, as the only replica; 0: not yet. They stay
	// when the member is gone: nobody may begin them a second time.
	Routers, Offlines uint64
	// Members are ordered by id.
	Members []Member
}

// Founder returns the id of the member that began the groups of a role, 0 if there was none yet.
func (r *Roster) Founder(role Role) uint64 {
	if role == Router {
		return r.Routers
	}
	return r.Offlines
}

// Member returns the member with that id, nil if there is none. It is for reading only.
func (r *Roster) Member(node uint64) *Member {
	if i, ok := r.find(node); ok {
		return &r.Members[i]
	}
	return nil
}

func (r *Roster) find(node uint64) (int, bool) {
	return slices.BinarySearchFunc(r.Members, node, func(m Member, id uint64) int { return cmp.Compare(m.Node, id) })
}

// Count returns how many members of a role are in a state.
func (r *Roster) Count(role Role, state State) (n int) {
	for i := range r.Members {
		if m := &r.Members[i]; m.Role == role && m.State == state {
			n++
		}
	}
	return n
}

// clone returns a copy with a version of its own, to change.
func (r *Roster) clone() *Roster {
	c := *r
	c.Members = slices.Clone(r.Members)
	c.Version++
	return &c
}

// Valid reports whether m may stand in a roster.
func (m *Member) Valid() bool {
	return m.Node != 0 && ValidName(m.Name) && m.Role.valid() && ValidAddress(m.Link) && ValidAddress(m.Raft) &&
		(m.State == Active && m.Since == 0 || m.State == Leaving && m.Since >= 0)
}

// ValidName reports whether s is 1 to MaxName of a-z 0-9 . -, and begins with a letter or a digit.
func ValidName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if ('a' > c || c > 'z') && ('0' > c || c > '9') && (i == 0 || c != '.' && c != '-') {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= MaxName
}

// ValidAddress reports whether s can be dialled: HOST:PORT with both.
func ValidAddress(s string) bool {
	if len(s) > MaxAddress {
		return false
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false // it is printed and logged
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// ValidVoters reports whether groups may have n replicas: two or four tolerate no more failures than one or three.
func ValidVoters(n int) bool { return n >= 1 && n <= MaxVoters && n%2 == 1 }

// Valid reports whether r is one that changes lead to.
func (r *Roster) Valid() bool {
	if r.Cluster == 0 || r.Version == 0 || !ValidVoters(r.Voters) || r.Routers == 0 || len(r.Members) > MaxMembers {
		return false
	}
	for i := range r.Members {
		if !r.Members[i].Valid() || i > 0 && r.Members[i].Node <= r.Members[i-1].Node {
			return false
		}
	}
	return true
}
