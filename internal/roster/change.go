package roster

import "slices"

// Refusal says why a change was not made. The numbers are a wire format: they only grow.
type Refusal uint8

// The refusals.
const (
	Done         Refusal = 0  // none: the change was made, or was in effect already
	BadMember    Refusal = 1  // what was announced cannot be read, or is not a member
	NameTaken    Refusal = 2  // another member has the name
	AddressTaken Refusal = 3  // another member has the address of links or of raft
	OtherRole    Refusal = 4  // that data directory is known as one of another role
	NoSuchMember Refusal = 5  // nobody has that name
	LastMember   Refusal = 6  // the only active member of its role
	Full         Refusal = 7  // MaxMembers
	OtherCluster Refusal = 8  // a cluster of that name which was founded at another time
	NotFounded   Refusal = 9  // no cluster was founded here yet
	BadVoters    Refusal = 10 // not 1, 3 or 5
	Busy         Refusal = 11 // too much is pending: ask again
	Unknown      Refusal = 12 // it may have been made, or may be made later: ask again
	OtherNode    Refusal = 13 // the data directory is known under another name
	OtherName    Refusal = 14 // the certificate was issued for another name
	refusals     Refusal = 15
)

var refusalTexts = [refusals]string{
	"done", "not a member", "another member has that name", "another member has that address", "its data directory is known as one of another role",
	"no active member has that name", "it is the only active member of its role, and the data would go with it",
	"the cluster has as many members as it may", "it belongs to another cluster of that name", "no cluster was founded there yet",
	"the number of replicas is not 1, 3 or 5", "too many changes are pending; try again", "the outcome is unknown; ask again",
	"its data directory is known under another name: it is a copy of that member's, and an empty one can join; a member keeps its name",
	"its certificate was issued for another name",
}

// String returns a text for operators, "unknown refusal" outside of the list.
func (r Refusal) String() string {
	if r >= refusals {
		return "unknown refusal"
	}
	return refusalTexts[r]
}

// keepLeaving is for how long a leaving member stays in the list, in ms: its address is needed as long as a group has it as a voter.
const keepLeaving = 30 * 24 * 3600 * 1000

// Found returns the roster of a new cluster, with the router that begins its directory.
func Found(cluster uint64, voters int, first Member) (*Roster, Refusal) {
	first.State, first.Since = Active, 0
	switch {
	case !ValidVoters(voters):
		return nil, BadVoters
	case cluster == 0 || !first.Valid() || first.Role != Router:
		return nil, BadMember
	}
	return &Roster{Cluster: cluster, Version: 1, Voters: voters, Routers: first.Node, Members: []Member{first}}, Done
}

// Announce returns the roster with m in it, or with its addresses as m has them; stamp is that of the entry. The first one of a role
// becomes its founder. A member that is leaving goes on leaving, and names stay: who comes with the id of another and a name of his own
// has a copy of its directory. The roster is r itself when nothing changes.
func (r *Roster) Announce(m Member, stamp int64) (*Roster, Refusal) {
	m.State, m.Since = Active, 0
	if !m.Valid() {
		return r, BadMember
	}
	if old := r.Member(m.Node); old != nil {
		if old.Role != m.Role {
			return r, OtherRole
		}
		if old.Name != m.Name {
			return r, OtherNode
		}
		m.State, m.Since = old.State, old.Since
		if *old == m {
			return r, Done
		}
	}
	if why := r.taken(&m); why != Done {
		return r, why
	}
	next := r.clone()
	next.forget(stamp, m.Node)
	i, known := next.find(m.Node)
	switch {
	case known:
		next.Members[i] = m
		return next, Done
	case len(next.Members) >= MaxMembers:
		return r, Full
	}
	next.Members = slices.Insert(next.Members, i, m)
	if m.Role == Offline && next.Offlines == 0 {
		next.Offlines = m.Node
	}
	return next, Done
}

// taken says whether another active member has what m needs for itself. What leaving ones have may be taken over: most often the same
// machine comes back with an empty disk.
func (r *Roster) taken(m *Member) Refusal {
	if m.State != Active {
		return Done
	}
	for i := range r.Members {
		o := &r.Members[i]
		switch {
		case o.Node == m.Node || o.State != Active:
		case o.Name == m.Name:
			return NameTaken
		case o.Link == m.Link || o.Raft == m.Raft:
			return AddressTaken
		}
	}
	return Done
}

// Leave returns the roster with the active member of that name leaving. The roster is r itself when it is leaving already.
func (r *Roster) Leave(name string, stamp int64) (*Roster, Refusal) {
	active := slices.IndexFunc(r.Members, func(m Member) bool { return m.Name == name && m.State == Active })
	if active < 0 {
		if slices.ContainsFunc(r.Members, func(m Member) bool { return m.Name == name }) {
			return r, Done
		}
		return r, NoSuchMember
	}
	if r.Count(r.Members[active].Role, Active) == 1 {
		return r, LastMember
	}
	next := r.clone()
	m := &next.Members[active]
	m.State, m.Since = Leaving, max(stamp, 0)
	next.forget(stamp, m.Node)
	return next, Done
}

// forget drops members that have been leaving for long, but for one of them, and the one that is leaving for longest if there is no room.
func (r *Roster) forget(stamp int64, but uint64) {
	r.Members = slices.DeleteFunc(r.Members, func(m Member) bool {
		return m.State == Leaving && m.Node != but && m.Since < stamp-keepLeaving
	})
	if len(r.Members) < MaxMembers {
		return
	}
	oldest := -1
	for i := range r.Members {
		m := &r.Members[i]
		if m.State == Leaving && m.Node != but && (oldest < 0 || m.Since < r.Members[oldest].Since) {
			oldest = i
		}
	}
	if oldest >= 0 {
		r.Members = slices.Delete(r.Members, oldest, oldest+1)
	}
}
