package config

import (
	"math"
	"strings"
	"testing"
	"time"
)

type sample struct {
	Wait  Duration `toml:"wait"`
	Room  Size     `toml:"room"`
	Inner struct {
		Name string `toml:"name"`
	} `toml:"inner"`
}

func TestDecode(t *testing.T) {
	s := sample{Wait: Duration(time.Second), Room: 7}
	if err := Decode([]byte("room = \"4MiB\"\n[inner]\nname = \"x\"\n"), &s); err != nil {
		t.Fatal(err)
	}
	if s.Wait.D() != time.Second || s.Room != 4<<20 || s.Inner.Name != "x" {
		t.Fatalf("got %+v", s)
	}
}

func TestDecodeFaults(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown keys, all of them", "wate = \"1s\"\nrom = \"1B\"\n", "\"rom\""},
		{"unknown key in a table", "[inner]\nnme = \"x\"\n", "inner.nme"},
		{"no unit", "wait = \"10\"\n", "want a number with a unit"},
		{"size without unit", "room = \"10\"\n", "want a whole number with a unit"},
		{"size overflow", "room = \"99999999999GiB\"\n", "want a whole number with a unit"},
		{"negative size", "room = \"-1B\"\n", "want a whole number with a unit"},
		{"syntax", "wait = \n", "line 1"},
		{"wrong type", "inner = 3\n", "line 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s sample
			err := Decode([]byte(c.text), &s)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want it to contain %q", err, c.want)
			}
		})
	}
}

func TestSizeText(t *testing.T) {
	for _, s := range []Size{0, 1, 1023, 1 << 10, 3 << 20, 5 << 30} {
		b, _ := s.MarshalText()
		var got Size
		if err := got.UnmarshalText(b); err != nil || got != s {
			t.Errorf("%d -> %s -> %d, %v", s, b, got, err)
		}
	}
}

func TestFaults(t *testing.T) {
	f := NewFaults("part.")
	f.Count("a", 3, 1, 3)
	f.Count("b", 4, 1, 3)
	f.Size("c", 1<<10, 2<<10, 4<<10)
	f.Span("d", Duration(time.Hour), time.Second, time.Minute)
	f.Rate("e", math.NaN())
	f.Rate("f", 1)
	want := []string{"part.b: 4: want 1 to 3", "part.c: 1KiB: want 2KiB to 4KiB", "part.d: 1h0m0s: want 1s to 1m0s",
		"part.e: NaN: want above 0 and at most 1e9 per second"}
	got := f.List()
	if len(got) != len(want) {
		t.Fatalf("%v", got)
	}
	for i, w := range want {
		if got[i].Error() != w {
			t.Errorf("%q, want %q", got[i], w)
		}
	}
}
