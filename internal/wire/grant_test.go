package wire

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"linecard.example/internal/stanza"
)

var testGrantKey = GrantKey{ID: 7, Seed: [ed25519.SeedSize]byte(fill(0xA0))}

// testGrants has one grant of each method.
func testGrants() map[string]Grant {
	blob := [BlobSize]byte(fill(0x60))
	return map[string]Grant{
		"upload":   {Method: GrantUpload, Account: 18, Expires: 1_800_000_900, Limit: 100 << 20},
		"download": {Method: GrantDownload, Account: stanza.MaxAccount, Expires: 1_800_000_900, Blob: blob},
		"delete":   {Method: GrantDelete, Account: 1, Expires: 1, Blob: blob},
	}
}

func signGrant(g Grant) []byte { return AppendGrant(nil, testGrantKey.Signer(), &g) }

func TestGrant(t *testing.T) {
	keys := []GrantPublic{{ID: 9}, testGrantKey.Public(), {ID: 3}}
	for name, g := range testGrants() {
		b := AppendGrant([]byte("x"), testGrantKey.Signer(), &g)[1:]
		if len(b) != GrantSize {
			t.Fatalf("%s: %d bytes", name, len(b))
		}
		var got Grant
		if err := OpenGrant(&got, keys, b, g.Expires-1); err != nil || got != g {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if err := OpenGrant(&got, keys, b, g.Expires); !errors.Is(err, ErrGrantExpired) || got != (Grant{}) {
			t.Errorf("%s: on its last second: %+v, %v", name, got, err)
		}
		if err := OpenGrant(&got, keys[:1], b, 0); !errors.Is(err, ErrGrantKey) || got != (Grant{}) {
			t.Errorf("%s: without its key: %+v, %v", name, got, err)
		}
		other := []GrantPublic{{ID: testGrantKey.ID, Key: (&GrantKey{Seed: [32]byte{1}}).Public().Key}}
		if err := OpenGrant(&got, other, b, 0); !errors.Is(err, ErrGrant) {
			t.Errorf("%s: of another key with its number: %v", name, err)
		}
	}
}

// TestGrantForged changes each bit, and each length: nothing but the very bytes opens, and what is no more genuine is not called expired.
func TestGrantForged(t *testing.T) {
	keys := []GrantPublic{testGrantKey.Public()}
	for name, g := range testGrants() {
		good := signGrant(g)
		for bit := range len(good) * 8 {
			b := bytes.Clone(good)
			b[bit/8] ^= 1 << (bit % 8)
			var got Grant
			err := OpenGrant(&got, keys, b, g.Expires)
			if !errors.Is(err, ErrGrant) && !errors.Is(err, ErrGrantKey) || got != (Grant{}) {
				t.Fatalf("%s, bit %d: %+v, %v", name, bit, got, err)
			}
		}
		for _, b := range [][]byte{nil, good[:1], good[:len(good)-1], append(bytes.Clone(good), 0)} {
			if err := OpenGrant(new(Grant), keys, b, 0); !errors.Is(err, ErrGrant) {
				t.Errorf("%s of %d bytes: %v", name, len(b), err)
			}
		}
	}
}

// TestGrantDomain: a signature over the same bytes without the context is no grant's.
func TestGrantDomain(t *testing.T) {
	b := signGrant(testGrants()["upload"])
	private := ed25519.NewKeyFromSeed(testGrantKey.Seed[:])
	copy(b[grantSigned:], ed25519.Sign(private, b[:grantSigned]))
	if err := OpenGrant(new(Grant), []GrantPublic{testGrantKey.Public()}, b, 0); !errors.Is(err, ErrGrant) {
		t.Error(err)
	}
}

// TestGrantFields: what a signer never writes is not taken from one that does, and is not written.
func TestGrantFields(t *testing.T) {
	good := testGrants()
	for name, spoil := range map[string]func(up, down *Grant){
		"no method":            func(g, d *Grant) { g.Method, d.Method = 0, 0 },
		"another method":       func(g, d *Grant) { g.Method, d.Method = 4, 4 },
		"no account":           func(g, d *Grant) { g.Account, d.Account = 0, 0 },
		"account too large":    func(g, d *Grant) { g.Account, d.Account = stanza.MaxAccount+1, 1<<64-1 },
		"never valid":          func(g, d *Grant) { g.Expires, d.Expires = 0, -1 },
		"for ever":             func(g, d *Grant) { g.Expires, d.Expires = maxTime+1, 1<<63-1 },
		"limit":                func(g, d *Grant) { g.Limit, d.Limit = 0, 1 },
		"limit too large":      func(g, d *Grant) { g.Limit, d.Limit = maxGrantSize+1, 1<<64-1 },
		"blob":                 func(g, d *Grant) { g.Blob, d.Blob = [BlobSize]byte{1}, [BlobSize]byte{} },
		"methods changed":      func(g, d *Grant) { g.Method, d.Method = d.Method, g.Method },
		"upload made a delete": func(g, d *Grant) { g.Method, d.Method = GrantDelete, GrantUpload },
	} {
		up, down := good["upload"], good["download"]
		spoil(&up, &down)
		for _, g := range []Grant{up, down} {
			if g.Valid() {
				t.Errorf("%s: %+v passes", name, g)
			}
			b := forceGrant(g)
			if err := OpenGrant(new(Grant), []GrantPublic{testGrantKey.Public()}, b, 0); !errors.Is(err, ErrGrant) {
				t.Errorf("%s: %+v opens: %v", name, g, err)
			}
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s: %+v is signed", name, g)
					}
				}()
				signGrant(g)
			}()
		}
	}
}

// forceGrant signs whatever is in g.
func forceGrant(g Grant) []byte {
	b := signGrant(testGrants()["upload"])[:grantSigned]
	b[5] = byte(g.Method)
	put := func(at int, v uint64) {
		for i := range 8 {
			b[at+i] = byte(v >> (56 - 8*i))
		}
	}
	put(6, uint64(g.Account))
	put(14, uint64(g.Expires))
	put(22, g.Limit)
	copy(b[30:], g.Blob[:])
	private := ed25519.NewKeyFromSeed(testGrantKey.Seed[:])
	return append(b, ed25519.Sign(private, append([]byte("linecard grant 1\x00"), b...))...)
}

func TestGrantText(t *testing.T) {
	b := signGrant(testGrants()["download"])
	text := string(AppendGrantText([]byte("x"), b)[1:])
	if text != base64.RawURLEncoding.EncodeToString(b) || len(text) != GrantTextSize {
		t.Fatal(text)
	}
	if got, err := ParseGrantText(text); err != nil || !bytes.Equal(got[:], b) {
		t.Errorf("%x, %v", got, err)
	}
	for _, bad := range []string{
		"", text[1:], text + "A", text + "=", "\n" + text[1:], text[:len(text)-1] + "\r", text + "\n", "+" + text[1:], "/" + text[1:], strings.Repeat("=", GrantTextSize),
	} {
		if got, err := ParseGrantText(bad); !errors.Is(err, ErrGrant) || got != [GrantSize]byte{} {
			t.Errorf("%q: %x, %v", bad, got, err)
		}
	}
}

// TestGrantKey: the key of a ticket key is its own, and stays.
func TestGrantKey(t *testing.T) {
	k := TicketKey{ID: 7, Key: [KeySize]byte(fill(0x10))}
	mac := hmac.New(sha256.New, fill(0x10))
	mac.Write([]byte("linecard grant key 1"))
	if g := k.GrantKey(); g.ID != 7 || !bytes.Equal(g.Seed[:], mac.Sum(nil)) || g.Seed == k.Key {
		t.Errorf("%d %x", g.ID, g.Seed)
	}
	other := TicketKey{ID: 7}
	if other.GrantKey().Seed == k.GrantKey().Seed {
		t.Error("two keys have one")
	}
	keys := []TicketKey{{ID: 9}, {ID: 8}, {ID: 7}}
	for n, want := range map[int]uint32{1: 9, 2: 8, 3: 8} {
		if got := SigningKey(keys[:n]).ID; got != want {
			t.Errorf("of %d keys %d signs, want %d", n, got, want)
		}
	}
}

func TestGrantPublics(t *testing.T) {
	keys := []GrantPublic{{ID: 9, Key: [32]byte{1}}, {ID: 8, Key: [32]byte{2}}, {ID: 2}}
	for n := 1; n <= len(keys); n++ {
		b := AppendGrantPublics([]byte("x"), keys[:n])[1:]
		if got, err := ParseGrantPublics(b); err != nil || !slices.Equal(got, keys[:n]) {
			t.Errorf("%d keys: %v, %v", n, got, err)
		}
		if got, err := ParseGrantPublics(b[:len(b)-1]); !errors.Is(err, ErrGrantKeys) || got != nil {
			t.Errorf("%d keys: a truncated set passes: %v", n, got)
		}
	}
	many := make([]GrantPublic, MaxGrantKeys+1)
	for i := range many {
		many[i].ID = uint32(99 - i)
	}
	for name, bad := range map[string][]GrantPublic{
		"none": nil, "id 0": {{ID: 0}}, "ascending": {{ID: 1}, {ID: 2}}, "twice": {{ID: 3}, {ID: 3}}, "too many": many,
	} {
		if got, err := ParseGrantPublics(AppendGrantPublics(nil, bad)); !errors.Is(err, ErrGrantKeys) || got != nil {
			t.Errorf("%s: parsed as %v", name, got)
		}
	}
}
