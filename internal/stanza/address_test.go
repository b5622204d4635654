package stanza

import (
	"strings"
	"testing"
)

func TestGroups(t *testing.T) {
	for _, c := range []struct {
		g     Group
		shard int
		queue bool
		text  string
	}{
		{DirGroup(0), 0, false, "dir/0"},
		{DirGroup(3), 3, false, "dir/3"},
		{QueueGroup(0), 0, true, "queue/0"},
		{QueueGroup(15), 15, true, "queue/15"},
	} {
		if c.g.Shard() != c.shard || c.g.IsQueue() != c.queue || c.g.String() != c.text {
			t.Errorf("%d: %d %v %q, want %d %v %q", c.g, c.g.Shard(), c.g.IsQueue(), c.g, c.shard, c.queue, c.text)
		}
	}
	if QueueGroup(5) != 0x8005 {
		t.Errorf("QueueGroup(5) = %#x", uint16(QueueGroup(5)))
	}
}

func TestShards(t *testing.T) {
	if got := ShardOf(16*7+3, 16); got != 3 {
		t.Errorf("ShardOf = %d, want 3", got)
	}
	// XXH64 with seed 0, from its reference implementation; another hash would move every handle.
	for handle, want := range map[string]int{"": 0xe999, "a": 0x6e5b} {
		if got := HandleShard(handle, 1<<16); got != want {
			t.Errorf("HandleShard(%q) = %#x, want %#x", handle, got, want)
		}
	}
}

func TestFoldHandle(t *testing.T) {
	for in, want := range map[string]string{
		"a":                     "a",
		"Alice":                 "alice",
		"A.b_c-9":               "a.b_c-9",
		strings.Repeat("Z", 32): strings.Repeat("z", 32),
		"":                      "",
		strings.Repeat("z", 33): "",
		"a b":                   "",
		"ä":                     "",
		"a@":                    "",
		"a[":                    "",
		"a\x00":                 "",
	} {
		got, err := FoldHandle([]byte(in))
		if got != want || (err != nil) != (want == "") {
			t.Errorf("FoldHandle(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestRegions(t *testing.T) {
	for a, want := range map[Account]Region{1: 0, 1<<30 - 1: 0, 1 << 30: 1, MaxAccount: MaxRegion, 7<<30 | 5: 7} {
		if got := a.Region(); got != want || a < got.First() {
			t.Errorf("account %d: region %d from %d, want %d", a, got, got.First(), want)
		}
	}
	for name, want := range map[string]struct {
		handle string
		region Region
		ok     bool
	}{
		"bob": {"bob", 0, false}, "bob@0": {"bob", 0, true}, "Bob@15": {"Bob", 15, true}, "@3": {"", 3, true}, "": {},
		"bob@": {"bob@", 0, false}, "bob@16": {"bob@16", 0, false}, "bob@01": {"bob@01", 0, false}, "bob@256": {"bob@256", 0, false},
		"bob@1@2": {"bob@1@2", 0, false}, "bob@x": {"bob@x", 0, false}, "bob@-1": {"bob@-1", 0, false},
	} {
		handle, r, ok := SplitHandle([]byte(name))
		if string(handle) != want.handle || r != want.region || ok != want.ok {
			t.Errorf("%q: %q, %d, %v", name, handle, r, ok)
		}
	}
}
