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
