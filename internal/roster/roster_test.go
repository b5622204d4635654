package roster

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// member is an active member with addresses of its own.
func member(node uint64, role Role, name string) Member {
	return Member{Node: node, Name: name, Role: role, State: Active, Link: name + ":7422", Raft: name + ":7423"}
}

// founded is a cluster of one router.
func founded(t *testing.T, voters int) *Roster {
	t.Helper()
	r, why := Found(77, voters, member(10, Router, "r1"))
	if why != Done {
		t.Fatal(why)
	}
	return r
}

// with announces members, which must be taken.
func with(t *testing.T, r *Roster, members ...Member) *Roster {
	t.Helper()
	for _, m := range members {
		next, why := r.Announce(m, 1000)
		if why != Done {
			t.Fatalf("%s: %v", m.Name, why)
		}
		r = next
	}
	return r
}

func TestCodec(t *testing.T) {
	r := with(t, founded(t, 3), member(30, Router, "r3"), member(20, Offline, "o1"), member(21, Offline, "o2"))
	r, _ = r.Leave("o2", 1_700_000_000_000)
	for _, want := range []*Roster{founded(t, 1), r} {
		b := want.Append(nil)
		got, err := Parse(b)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v", got, err)
		}
		for n := range b {
			if _, err := Parse(b[:n]); !errors.Is(err, ErrEncoding) {
				t.Errorf("parses from %d of %d bytes: %v", n, len(b), err)
			}
		}
		if _, err := Parse(append(b, 0)); !errors.Is(err, ErrEncoding) {
			t.Errorf("parses with a byte behind it: %v", err)
		}
	}
	for i := range r.Members {
		b := r.Members[i].Append(nil)
		if got, err := ParseMember(b); err != nil || got != r.Members[i] {
			t.Errorf("%+v, %v", got, err)
		}
		for n := range b {
			if _, err := ParseMember(b[:n]); err == nil {
				t.Errorf("a member parses from %d of %d bytes", n, len(b))
			}
		}
	}
}

// TestVector holds the encoding to what other versions wrote.
func TestVector(t *testing.T) {
	const want = "01000000000000004d0103000000000000000a0000000000000000" + "01" + "000000000000000a020100" + "027231" + "0772313a37343232" + "0772313a37343233"
	if got := hex.EncodeToString(founded(t, 3).Append(nil)); got != want {
		t.Errorf("\n%s, want\n%s", got, want)
	}
}

// largest is a roster that takes as much room as any.
func largest() *Roster {
	host := strings.Repeat("h", MaxAddress-len(":65535"))
	r := &Roster{Cluster: 1<<64 - 1, Version: 1<<64 - 1, Voters: 5, Routers: 1<<64 - 1, Offlines: 1}
	for i := range MaxMembers {
		r.Members = append(r.Members, Member{Node: uint64(i + 1), Name: strings.Repeat("n", MaxName), Role: Router, State: Leaving,
			Link: host + ":65535", Raft: host + ":65535", Since: 1<<63 - 1})
	}
	return r
}

func TestLimits(t *testing.T) {
	r := largest()
	b := r.Append(nil)
	if len(b) > MaxSize || len(r.Members[0].Append(nil)) > MaxMemberSize {
		t.Errorf("%d bytes of %d, a member %d of %d", len(b), MaxSize, len(r.Members[0].Append(nil)), MaxMemberSize)
	}
	if got, err := Parse(b); err != nil || !reflect.DeepEqual(got, r) {
		t.Error("the largest does not come back:", err)
	}
	m := member(MaxMembers+1, Router, "one-more")
	r.Members = append(r.Members, m)
	if _, err := Parse(r.Append(nil)); err == nil {
		t.Error("one member too many parses")
	}
	if _, err := Parse(append(bytes.Clone(b[:43]), bytes.Repeat([]byte{0xff}, 20)...)); err == nil {
		t.Error("a number of members without members parses")
	}
}

func TestValid(t *testing.T) {
	good := member(1, Router, "r-1.b")
	if !good.Valid() {
		t.Fatal("not valid")
	}
	for name, spoil := range map[string]func(*Member){
		"id 0":          func(m *Member) { m.Node = 0 },
		"no name":       func(m *Member) { m.Name = "" },
		"long name":     func(m *Member) { m.Name = strings.Repeat("a", MaxName+1) },
		"capital":       func(m *Member) { m.Name = "R1" },
		"leading dot":   func(m *Member) { m.Name = ".r" },
		"gateway":       func(m *Member) { m.Role = 1 },
		"no state":      func(m *Member) { m.State = 0 },
		"active since":  func(m *Member) { m.Since = 1 },
		"before 1970":   func(m *Member) { m.State, m.Since = Leaving, -1 },
		"no port":       func(m *Member) { m.Link = "host" },
		"no host":       func(m *Member) { m.Raft = ":7423" },
		"port 0":        func(m *Member) { m.Raft = "host:0" },
		"port by name":  func(m *Member) { m.Raft = "host:http" },
		"control byte":  func(m *Member) { m.Link = "ho\x1bst:1" },
		"long address":  func(m *Member) { m.Link = strings.Repeat("a", MaxAddress) + ":1" },
		"no address":    func(m *Member) { m.Raft = "" },
		"port too high": func(m *Member) { m.Raft = "host:65536" },
	} {
		m := good
		if spoil(&m); m.Valid() {
			t.Errorf("%s is valid", name)
		}
		r := founded(t, 1)
		r.Members = append(r.Members, m)
		if _, err := Parse(r.Append(nil)); err == nil {
			t.Errorf("a roster with %s parses", name)
		}
	}
	for name, spoil := range map[string]func(*Roster){
		"no cluster":  func(r *Roster) { r.Cluster = 0 },
		"no version":  func(r *Roster) { r.Version = 0 },
		"two voters":  func(r *Roster) { r.Voters = 2 },
		"no founder":  func(r *Roster) { r.Routers = 0 },
		"out of turn": func(r *Roster) { r.Members = []Member{member(2, Router, "b"), member(1, Router, "a")} },
		"twice":       func(r *Roster) { r.Members = []Member{member(2, Router, "b"), member(2, Router, "a")} },
	} {
		r := founded(t, 1)
		spoil(r)
		if _, err := Parse(r.Append(nil)); err == nil {
			t.Errorf("a roster with %s parses", name)
		}
	}
}

// FuzzParse: what parses is valid and has one encoding; nothing else happens.
func FuzzParse(f *testing.F) {
	r, _ := Found(77, 3, member(10, Router, "r1"))
	f.Add(r.Append(nil))
	r, _ = r.Announce(member(20, Offline, "o1"), 1)
	r, _ = r.Announce(member(30, Router, "r2"), 2)
	r, _ = r.Leave("r1", 3)
	f.Add(r.Append(nil))
	f.Add(largest().Append(nil)[:400])
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := ParseMember(b); err == nil && !bytes.Equal(m.Append(nil), b) {
			t.Errorf("% x is encoded as % x", b, m.Append(nil))
		}
		r, err := Parse(b)
		if err != nil {
			return
		}
		if again := r.Append(nil); !bytes.Equal(again, b) || !r.Valid() {
			t.Errorf("% x is encoded as % x", b, again)
		}
	})
}
