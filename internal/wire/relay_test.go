package wire

import (
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"linecard.example/internal/stanza"
)

func TestRelaySecrets(t *testing.T) {
	secrets := []RelaySecret{{ID: 9, Key: [KeySize]byte{1}}, {ID: 8, Key: [KeySize]byte{2}}, {ID: 2}}
	for n := 1; n <= len(secrets); n++ {
		b := AppendRelaySecrets([]byte("x"), secrets[:n])[1:]
		if got, err := ParseRelaySecrets(b); err != nil || !slices.Equal(got, secrets[:n]) {
			t.Errorf("%d secrets: %v, %v", n, got, err)
		}
		if got, err := ParseRelaySecrets(b[:len(b)-1]); !errors.Is(err, ErrRelaySecrets) || got != nil {
			t.Errorf("%d secrets: a truncated set passes: %v", n, got)
		}
	}
	for name, bad := range map[string][]RelaySecret{
		"none": nil, "id 0": {{ID: 0}}, "ascending": {{ID: 1}, {ID: 2}}, "twice": {{ID: 3}, {ID: 3}}, "too many": {{ID: 4}, {ID: 3}, {ID: 2}, {ID: 1}},
	} {
		if got, err := ParseRelaySecrets(AppendRelaySecrets(nil, bad)); !errors.Is(err, ErrRelaySecrets) || got != nil {
			t.Errorf("%s: parsed as %v", name, got)
		}
	}
}

// TestRelaySecretsOfKeys: the newest ones, each its own and none a ticket key; what signs is known for a rotation before and for one after.
func TestRelaySecretsOfKeys(t *testing.T) {
	var keys []TicketKey
	for id := uint32(1); id <= MaxTicketKeys; id++ {
		keys = slices.Insert(keys, 0, TicketKey{ID: id, Key: [KeySize]byte{byte(id)}})
		secrets := RelaySecrets(keys)
		if len(secrets) != min(int(id), MaxRelaySecrets) {
			t.Fatalf("%d of %d keys", len(secrets), id)
		}
		for i, s := range secrets {
			if s != keys[i].RelaySecret() || s.ID != keys[i].ID || s.Key == keys[i].Key || s.Key == keys[i].GrantKey().Seed || i > 0 && s.Key == secrets[i-1].Key {
				t.Errorf("secret %d of %d", i, id)
			}
		}
		if signs := SigningKey(keys).RelaySecret(); id > 1 && (signs == secrets[0] || id > 2 && signs == secrets[2]) {
			t.Errorf("of %d keys %v signs", id, signs)
		}
	}
}

// TestRelaySecretVector: worked out by other means: printf 'linecard relay secret 1' | openssl dgst -sha256 -mac hmac -macopt hexkey:c0c1...df.
func TestRelaySecretVector(t *testing.T) {
	k := TicketKey{ID: 7, Key: [KeySize]byte(fill(0xc0))}
	if s := k.RelaySecret(); hex.EncodeToString(s.Key[:]) != "0e913fe5b885646cb085ac088cf0ed43abfdfedaefd31184a8485a8d7dbf6882" {
		t.Errorf("%x", s.Key[:])
	}
}

// TestRelayPassword: the common draft's form, computed by other means: printf 1700000000:alice | openssl dgst -sha1 -hmac north -binary | base64.
// HMAC fills a short key up with zeros.
func TestRelayPassword(t *testing.T) {
	s := RelaySecret{}
	copy(s.Key[:], "north")
	if got := string(s.AppendPassword([]byte("x"), "1700000000:alice")); got != "xCd/49soE35ICqcJF/bCTn8Z4OyE=" {
		t.Error(got)
	}
}

func TestRelayName(t *testing.T) {
	for account, want := range map[stanza.Account]string{21: "1800000900:21", 1<<64 - 1: "1800000900:18446744073709551615"} {
		name := string(AppendRelayName(nil, account, 1_800_000_900))
		if name != want {
			t.Errorf("%q, want %q", name, want)
		}
		if text, expires, ok := ParseRelayName(name); !ok || text != want[len("1800000900:"):] || expires != 1_800_000_900 {
			t.Errorf("%q: %q, %d, %v", name, text, expires, ok)
		}
	}
	for _, bad := range []string{"", ":", "1", "1:", ":1", "x:1", "1x:1", " 1:1", "9223372036854775808:1", "21:1800000900:"[:3]} {
		if account, expires, ok := ParseRelayName(bad); ok || account != "" || expires != 0 {
			t.Errorf("%q: %q, %d, %v", bad, account, expires, ok)
		}
	}
}
