package roster

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"linecard.example/internal/stanza"
)

// crowd is a roster of n offlines with random ids.
func crowd(t *testing.T, rng *rand.Rand, voters, n int) *Roster {
	r := founded(t, voters)
	for i := range n {
		r = with(t, r, member(rng.Uint64()|1, Offline, "o"+strconv.Itoa(i)))
	}
	return r
}

func TestReplicas(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, voters := range []int{1, 3, 5} {
		for n := range 9 {
			r := crowd(t, rng, voters, n)
			for shard := range 64 {
				got := r.Replicas(nil, stanza.QueueGroup(shard))
				if len(got) != min(voters, n) {
					t.Fatalf("%d replicas on %d members", len(got), n)
				}
				sorted := slices.Clone(got)
				slices.Sort(sorted)
				if len(slices.Compact(sorted)) != len(got) {
					t.Errorf("%v: one of them twice", got)
				}
				for _, node := range got {
					if m := r.Member(node); m == nil || m.Role != Offline || m.State != Active {
						t.Errorf("%d holds %v", node, stanza.QueueGroup(shard))
					}
				}
				if dir := r.Replicas(nil, stanza.DirGroup(shard)); !slices.Equal(dir, []uint64{10}) {
					t.Errorf("a directory on %v", dir)
				}
			}
		}
	}
}

// TestReplicasMoveLittle: a member that comes takes only what is its own from now on, one that goes leaves the rest where it was.
func TestReplicasMoveLittle(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		before := crowd(t, rng, 3, 3+rng.IntN(8))
		joined := with(t, before, member(rng.Uint64()|1, Offline, "new"))
		node := joined.Members[slices.IndexFunc(joined.Members, func(m Member) bool { return m.Name == "new" })].Node
		left, _ := joined.Leave("new", 1)
		for shard := range 64 {
			g := stanza.QueueGroup(shard)
			old, now, then := before.Replicas(nil, g), joined.Replicas(nil, g), left.Replicas(nil, g)
			if !slices.Contains(now, node) && !slices.Equal(now, old) {
				t.Errorf("%v: %v becomes %v by the arrival of %d", g, old, now, node)
			}
			for _, n := range now {
				if n != node && !slices.Contains(old, n) {
					t.Errorf("%v: %v becomes %v by the arrival of %d", g, old, now, node)
				}
			}
			if !slices.Equal(then, old) {
				t.Errorf("%v: %v and not %v after the leave", g, then, old)
			}
		}
	}
}

// TestReplicasSpread: on as many machines as voters everybody prefers a third of the groups; on more, nobody holds more than twice his part.
func TestReplicasSpread(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 20 {
		r := crowd(t, rng, 3, 3)
		first := map[uint64]int{}
		for shard := range 16 {
			first[r.Replicas(nil, stanza.QueueGroup(shard))[0]]++
		}
		for node, n := range first {
			if n < 5 || n > 6 {
				t.Errorf("%d of 16 groups prefer %d", n, node)
			}
		}
		r = crowd(t, rng, 3, 9)
		held := map[uint64]int{}
		for shard := range 256 {
			for _, node := range r.Replicas(nil, stanza.QueueGroup(shard)) {
				held[node]++
			}
		}
		for node, n := range held {
			if n > 2*256*3/9 || n < 256*3/9/2 {
				t.Errorf("%d holds %d of 256 groups", node, n)
			}
		}
	}
}

// TestReplicasStay holds the placement to what it was: versions that differ would move replicas to and fro.
func TestReplicasStay(t *testing.T) {
	r := founded(t, 3)
	for i := range uint64(6) {
		r = with(t, r, member((i+1)*0x123456789abcdef, Offline, "o"+strconv.Itoa(int(i))))
	}
	var got []uint64
	for shard := range 4 {
		for _, node := range r.Replicas(nil, stanza.QueueGroup(shard)) {
			got = append(got, node/0x123456789abcdef)
		}
	}
	want := []uint64{2, 4, 6, 5, 6, 4, 6, 3, 4, 4, 5, 6}
	if !slices.Equal(got, want) {
		t.Errorf("%d, want %d", got, want)
	}
}

func TestReplicasAllocateNothing(t *testing.T) {
	r := crowd(t, rand.New(rand.NewPCG(9, 9)), 3, 9)
	var room [MaxVoters]uint64
	if n := testing.AllocsPerRun(10, func() { _ = r.Replicas(room[:0], stanza.QueueGroup(3)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
