package roster

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"testing"
)

func TestFound(t *testing.T) {
	r := founded(t, 3)
	if !r.Valid() || r.Version != 1 || r.Founder(Router) != 10 || r.Founder(Offline) != 0 || r.Count(Router, Active) != 1 {
		t.Errorf("%+v", r)
	}
	for want, try := range map[Refusal]func() (*Roster, Refusal){
		BadVoters: func() (*Roster, Refusal) { return Found(1, 4, member(10, Router, "r1")) },
		BadMember: func() (*Roster, Refusal) { return Found(1, 3, member(10, Offline, "o1")) },
	} {
		if r, why := try(); r != nil || why != want {
			t.Errorf("%v, want %v", why, want)
		}
	}
}

func TestAnnounce(t *testing.T) {
	r := with(t, founded(t, 3), member(30, Offline, "o1"), member(20, Router, "r2"), member(25, Offline, "o2"))
	if r.Version != 4 || r.Founder(Offline) != 30 || !r.Valid() {
		t.Errorf("%+v", r)
	}
	moved := member(20, Router, "r2")
	moved.Raft = "elsewhere:1"
	changed := with(t, r, moved)
	if changed.Version != 5 || *changed.Member(20) != moved || r.Member(20).Raft == "elsewhere:1" {
		t.Errorf("%+v", changed.Member(20))
	}
	if again := with(t, changed, moved); again != changed {
		t.Error("what is known already makes a version")
	}
	sameLink, sameRaft, other := member(40, Router, "r4"), member(40, Router, "r4"), member(20, Offline, "o3")
	sameLink.Link, sameRaft.Raft = "r2:7422", "o1:7423"
	for _, c := range []struct {
		m    Member
		want Refusal
	}{
		{member(40, Router, "r2"), NameTaken}, {member(40, Offline, "r1"), NameTaken}, {sameLink, AddressTaken}, {sameRaft, AddressTaken},
		{other, OtherRole}, {member(20, Router, "r4"), OtherNode}, {Member{}, BadMember}, {member(40, 1, "g1"), BadMember},
	} {
		if next, why := r.Announce(c.m, 1); next != r || why != c.want {
			t.Errorf("%s: %v, want %v", c.m.Name, why, c.want)
		}
	}
}

// TestWipedDisk: a machine that comes back without its data has another id. It is refused under its old name until an operator has said that
// the old one is gone, and is then a member of its own.
func TestWipedDisk(t *testing.T) {
	r := with(t, founded(t, 3), member(20, Router, "r2"))
	wiped := member(21, Router, "r2")
	if _, why := r.Announce(wiped, 5); why != NameTaken {
		t.Fatal(why)
	}
	r, why := r.Leave("r2", 5)
	if why != Done {
		t.Fatal(why)
	}
	r = with(t, r, wiped)
	if r.Member(20).State != Leaving || r.Member(20).Since != 5 || r.Member(21).State != Active {
		t.Errorf("%+v", r.Members)
	}
	if back, why := r.Announce(member(20, Router, "r2"), 9); why != Done || back.Member(20).State != Leaving {
		t.Errorf("who left is back: %v %+v", why, back.Members)
	}
}

func TestLeave(t *testing.T) {
	r := with(t, founded(t, 1), member(20, Offline, "o1"))
	for name, want := range map[string]Refusal{"r1": LastMember, "o1": LastMember, "x": NoSuchMember} {
		if next, why := r.Leave(name, 1); next != r || why != want {
			t.Errorf("%s: %v, want %v", name, why, want)
		}
	}
	r = with(t, r, member(30, Router, "r2"))
	left, why := r.Leave("r1", 1)
	if why != Done || left.Version != r.Version+1 || left.Member(10).State != Leaving || left.Founder(Router) != 10 || r.Member(10).State != Active {
		t.Errorf("%v %+v", why, left)
	}
	if again, why := left.Leave("r1", 2); again != left || why != Done {
		t.Errorf("again: %v", why)
	}
	if _, why := left.Leave("r2", 2); why != LastMember {
		t.Error(why)
	}
}

// TestForget: who left stays in the list for a month, or until the room is needed.
func TestForget(t *testing.T) {
	r := with(t, founded(t, 1), member(20, Router, "r2"), member(30, Router, "r3"))
	r, _ = r.Leave("r2", 1000)
	r, _ = r.Leave("r3", 2000)
	r, _ = r.Announce(member(40, Router, "r4"), 1000+keepLeaving)
	if r.Member(20) == nil || r.Member(30) == nil {
		t.Error("forgotten too early")
	}
	r, _ = r.Announce(member(50, Router, "r5"), 1001+keepLeaving)
	if r.Member(20) != nil || r.Member(30) == nil {
		t.Error("not forgotten, or the wrong one")
	}
	for i := len(r.Members); i < MaxMembers; i++ {
		r, _ = r.Announce(member(uint64(100+i), Offline, "o"+strconv.Itoa(i)), 3000)
	}
	r, why := r.Announce(member(1, Router, "r6"), 3000)
	if why != Done || r.Member(30) != nil || len(r.Members) != MaxMembers {
		t.Errorf("%v: %d members", why, len(r.Members))
	}
	if next, why := r.Announce(member(2, Router, "r7"), 3000); next != r || why != Full {
		t.Error(why)
	}
	r, why = r.Leave("r6", 3000)
	if next, _ := r.Leave("r6", 3000); why != Done || next.Member(1) == nil {
		t.Error("the one that leaves was forgotten at once", why)
	}
}

// TestRandomChanges: whatever is asked for, the roster stays valid, its encoding comes back, what it was before stays as it was, and each
// role has one founder at most, for ever.
func TestRandomChanges(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		r := founded(t, 3)
		stamp := int64(0)
		for range 300 {
			stamp += rng.Int64N(keepLeaving / 4)
			before := r.Append(nil)
			role := Router + Role(rng.IntN(2))
			name := role.String()[:1] + strconv.Itoa(rng.IntN(12))
			var next *Roster
			var why Refusal
			if rng.IntN(3) == 0 {
				next, why = r.Leave(name, stamp)
			} else {
				next, why = r.Announce(member(1+rng.Uint64N(40), role, name), stamp)
			}
			if !slices.Equal(r.Append(nil), before) {
				t.Fatal("a change changed what it was made from")
			}
			got, err := Parse(next.Append(nil))
			if err != nil || !reflect.DeepEqual(got, next) || why != Done && next != r || next != r && next.Version != r.Version+1 {
				t.Fatalf("%v %v: %+v", why, err, next)
			}
			if next.Routers != r.Routers || r.Offlines != 0 && next.Offlines != r.Offlines {
				t.Fatal("a second founder")
			}
			r = next
		}
	}
}

func TestTexts(t *testing.T) {
	seen := map[string]bool{}
	for why := range refusals + 1 {
		if text := why.String(); text == "" || seen[text] {
			t.Errorf("refusal %d: %q", why, text)
		} else {
			seen[text] = true
		}
	}
	if Router.String() != "router" || Offline.String() != "offline" || Role(0).String() != "unknown" || Active.String() != "active" ||
		Leaving.String() != "leaving" || State(9).String() != "unknown" {
		t.Error("names changed: links, files and operators have them")
	}
}
