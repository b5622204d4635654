package shard

import (
	"fmt"
	"strings"
	"testing"
)

// viewOf reads a view: "A* B C! d d? | B A C" is a leader A, the voters B and C, of which C is dead, a standby D that is near and one that
// is not (? behind a name), and what is wanted. Voters are written in upper case.
func viewOf(text string) view {
	have, want, _ := strings.Cut(text, "|")
	v := view{want: strings.Fields(want)}
	for _, f := range strings.Fields(have) {
		id := strings.TrimRight(f, "*!?")
		r := replica{id: strings.ToUpper(id), voter: id == strings.ToUpper(id), alive: true, near: true}
		switch f[len(id):] {
		case "*":
			v.self = r.id
		case "!":
			r.alive, r.near = false, false
		case "?":
			r.near = false
		}
		v.have = append(v.have, r)
	}
	return v
}

func (s step) text() string {
	if s.do == rest {
		return s.why
	}
	return fmt.Sprint(s.do, " ", s.node)
}

func TestPlan(t *testing.T) {
	for _, c := range []struct{ view, want string }{
		{"A* |", ""},
		{"A* | A", ""},
		// One becomes three: both catch up, then both are promoted.
		{"A* | A B C", "add standby B"},
		{"A* b? | A B C", "add standby C"},
		{"A* b? c | A B C", "waits until B has caught up"},
		{"A* b c? | A B C", "waits until C has caught up"},
		{"A* b c! | A B C", "waits until C has caught up"},
		{"A* b c | A B C", "promote B"},
		{"A* B c | A B C", "promote C"},
		{"A* B c? | A B C", "waits until C has caught up"},
		{"A* B C | A B C", ""},
		// Two tolerate no failure: the second stays a standby, unless it votes already.
		{"A* | A B", "add standby B"},
		{"A* b | A B", ""},
		{"A* b | B A", ""},
		{"A* B C | A B", "remove C"},
		{"A* B C! | A B", "remove C"},
		{"A* B | A B", ""},
		{"A* B C d | A B C D", ""},
		// A dead one is replaced.
		{"A* B C! | A B D", "add standby D"},
		{"A* B C! d? | A B D", "waits until D has caught up"},
		{"A* B C! d | A B D", "remove C"},
		{"A* B d | A B D", "promote D"},
		{"A* B C! D | A B D", "remove C"},
		// Two dead ones are replaced one for one.
		{"A* B C D! E! f g | A B C F G", "remove D"},
		{"A* B C E! f g | A B C F G", "promote F"},
		{"A* B C E! F g | A B C F G", "remove E"},
		{"A* B C F g | A B C F G", "promote G"},
		// One that is alive is replaced: the new one first.
		{"A* B C d | A B D", "promote D"},
		{"A* B C D | A B D", "remove C"},
		// The leader itself goes.
		{"A* B C d | B C D", "promote D"},
		{"A* B C D | B C D", "hand over B"},
		{"A* B! C D | B C D", "hand over C"},
		{"A* B! C! d | B C D", "waits for a majority that answers, to promote D"},
		{"A* B! C? D! | B C D", "waits for a voter to hand over to"},
		{"A B* C D | B C D", "remove A"},
		// One that is wanted and does not answer is nobody's business but the operator's.
		{"A* B C! | A B C", ""},
		{"A* B! C! D | A B C", "waits for a majority that answers, to remove D"},
		// Standbys that are not wanted go at any time.
		{"A* b! C | A C", "remove B"},
		// Leaders are balanced, if the preferred one is fit for it.
		{"A* B C | B A C", "hand over B"},
		{"A* B? C | B A C", ""},
		{"A* B! C | B A C", ""},
	} {
		if got := plan(viewOf(c.view)).text(); got != c.want {
			t.Errorf("%s: %q, want %q", c.view, got, c.want)
		}
	}
}

// Whatever is there and whatever is wanted, with all alive the steps end, in what is wanted, and never leave a majority to dead nodes.
func TestPlanEnds(t *testing.T) {
	nodes := []string{"A", "B", "C", "D", "E", "F"}
	for bits := range 1 << (2 * len(nodes)) {
		v := view{}
		for i, id := range nodes {
			if bits>>i&1 != 0 {
				v.have = append(v.have, replica{id: id, voter: true, alive: true, near: true})
			}
			if bits>>(i+len(nodes))&1 != 0 {
				v.want = append(v.want, id)
			}
		}
		if len(v.have) == 0 || len(v.want) == 0 {
			continue
		}
		v.self = v.have[0].id
		begun := fmt.Sprint(v.have, v.want)
		s := plan(v)
		for n := 0; s.do != rest; n++ {
			if n == 30 {
				t.Fatalf("%s: no end: %v", begun, s)
			}
			v = after(v, s)
			s = plan(v)
		}
		if s.why != "" || !v.wanted(v.self) {
			t.Fatalf("%s: ends with %+v, %q, led by %s", begun, v.have, s.why, v.self)
		}
		if len(v.have) != len(v.want) || v.voters() < len(v.want)-1 || len(v.want)%2 == 1 && v.voters() != len(v.want) {
			t.Fatalf("%s: ends with %+v", begun, v.have)
		}
	}
}

// after returns v as it is when s is done.
func after(v view, s step) view {
	w := view{self: v.self, want: v.want}
	for _, r := range v.have {
		if r.id == s.node && s.do == remove {
			continue
		}
		r.voter = r.voter || r.id == s.node && s.do == promote
		w.have = append(w.have, r)
	}
	switch s.do {
	case addStandby:
		w.have = append(w.have, replica{id: s.node, alive: true, near: true})
	case handOver:
		w.self = s.node
	}
	return w
}
