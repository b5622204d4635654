package wire

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestStaticHash(t *testing.T) {
	static := [KeySize]byte{1, 2, 3, 31: 9}
	want := sha256.Sum256(append([]byte("linecard static key"), static[:]...))
	if got := StaticHash(static); !bytes.Equal(got[:], want[:16]) {
		t.Errorf("% x, want % x", got, want[:16])
	}
	if n := testing.AllocsPerRun(100, func() { StaticHash(static) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTicketKeys(t *testing.T) {
	keys := []TicketKey{{ID: 9, Key: [KeySize]byte{1}}, {ID: 8, Key: [KeySize]byte{2}}, {ID: 2}}
	for n := 1; n <= len(keys); n++ {
		b := AppendTicketKeys([]byte("x"), keys[:n])[1:]
		if got, err := ParseTicketKeys(b); err != nil || !slices.Equal(got, keys[:n]) {
			t.Errorf("%d keys: %v, %v", n, got, err)
		}
		if _, err := ParseTicketKeys(b[:len(b)-1]); err == nil {
			t.Errorf("%d keys: a truncated set passes", n)
		}
	}
	for name, bad := range map[string][]TicketKey{
		"none": nil, "id 0": {{ID: 0}}, "ascending": {{ID: 1}, {ID: 2}}, "twice": {{ID: 3}, {ID: 3}}, "too many": {{ID: 9}, {ID: 8}, {ID: 7}, {ID: 6}, {ID: 5}, {ID: 4}, {ID: 3}, {ID: 2}, {ID: 1}},
	} {
		if got, err := ParseTicketKeys(AppendTicketKeys(nil, bad)); err == nil {
			t.Errorf("%s: parsed as %v", name, got)
		}
	}
}

// TestKeysPrintNoKey: whatever verb a log line uses.
func TestKeysPrintNoKey(t *testing.T) {
	secret := [KeySize]byte(bytes.Repeat([]byte{0xab}, KeySize))
	k, g, r := TicketKey{ID: 7, Key: secret}, GrantKey{ID: 7, Seed: secret}, RelaySecret{ID: 7, Key: secret}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		for _, v := range []any{k, &k, []TicketKey{k}, g, &g, []GrantKey{g}, r, &r, []RelaySecret{r}} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, "abab") || strings.Contains(s, "171") {
				t.Errorf("%s of %T shows the key: %s", verb, v, s)
			}
		}
	}
}
