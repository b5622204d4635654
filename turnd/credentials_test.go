package turnd

import (
	"strconv"
	"testing"
	"time"

	"linecard.example/internal/wire"
)

// secret returns the secret with a number.
func secret(id uint32) wire.RelaySecret {
	return wire.RelaySecret{ID: id, Key: [wire.KeySize]byte{byte(id)}}
}

// credential makes a name and its password with that secret, for an account that may be any text.
func credential(id uint32, account string, expires int64) (name, password string) {
	s := secret(id)
	name = strconv.FormatInt(expires, 10) + ":" + account
	return name, string(s.AppendPassword(nil, name))
}

// sealed makes a request with credentials, as a client does.
func sealed(name, realm, password string) []byte {
	var id [12]byte
	b := begin(nil, refreshRequest, &id)
	b = attr(b, attrUsername, []byte(name)...)
	b = attr(b, attrRealm, []byte(realm)...)
	return seal(b, longTermKey(name, realm, password))
}

// TestCredentials: who is let in, and as whom.
func TestCredentials(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	cfg := testConfig()
	c := newCredentials(cfg, func() time.Time { return now })
	if c.ready() {
		t.Error("ready with static users only")
	}
	c.set([]wire.RelaySecret{secret(4), secret(3), secret(2), secret(1)})
	at := func(id uint32, account string, d time.Duration) (string, string) {
		return credential(id, account, now.Add(d).Unix())
	}
	check := func(what, name, realm, password, owner string) {
		t.Helper()
		p := sealed(name, realm, password)
		var m message
		if !m.parse(p) {
			t.Fatalf("%s: does not parse", what)
		}
		got, key, ok := c.check(&m, p)
		if ok != (owner != "") || ok && (got != owner || !m.genuine(p, key)) {
			t.Errorf("%s: %q, %v; want %q", what, got, ok, owner)
		}
	}
	name, password := at(4, "00ab", time.Hour)
	check("newest secret", name, "linecard", password, ":00ab")
	check("other realm", name, "other", password, "")
	check("wrong password", name, "linecard", password+"x", "")
	check("no password", name, "linecard", "", "")
	check("another's name", "9"+name, "linecard", password, "")
	name, password = at(3, "00ab", time.Minute)
	check("the one that signs", name, "linecard", password, ":00ab")
	name, password = at(2, "00ab", time.Minute)
	check("the one that did", name, "linecard", password, ":00ab")
	name, password = at(1, "00ab", time.Minute)
	check("the one before that", name, "linecard", password, "")
	name, password = at(3, "00ab", 0)
	check("expired", name, "linecard", password, "")
	name, password = at(3, "00ab", cfg.CredentialLife.D()+time.Second)
	check("for longer than allowed", name, "linecard", password, "")
	name, password = at(3, "", time.Minute)
	check("nobody", name, "linecard", password, "")
	check("static", "anna", "linecard", "secret-a", "anna")
	check("static, wrong", "anna", "linecard", "secret-b", "")
	name, password = at(3, "anna", time.Minute)
	check("an account with a static user's name", name, "linecard", password, ":anna")
	check("no name", "", "linecard", "", "")
	c.set([]wire.RelaySecret{secret(6), secret(5), secret(4)})
	name, password = at(3, "00ab", time.Hour)
	check("rotated away", name, "linecard", password, "")
}

// TestNewerCredentials: an allocation is its account's, whatever credentials it was made with.
func TestNewerCredentials(t *testing.T) {
	cfg := testConfig()
	cfg.Users = nil
	s, err := New(cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	if ok, _ := s.Ready(); ok {
		t.Error("ready without a secret")
	}
	s.SetSecrets([]wire.RelaySecret{secret(1)})
	run(t, s)
	if ok, why := s.Ready(); !ok {
		t.Errorf("not ready: %s", why)
	}
	expires := time.Now().Add(time.Hour).Unix()
	name, password := credential(1, "00ab", expires)
	d := dial(t, s.Addrs("udp")[0], name, password)
	d.allocate()
	s.SetSecrets([]wire.RelaySecret{secret(2), secret(1)})
	d.user, d.password = credential(2, "00ab", expires+5)
	if code := d.request(refreshRequest, wantLifetime(600)); code != 0 {
		t.Errorf("Refresh with newer credentials: %d", code)
	}
	d.user, d.password = credential(2, "00ac", expires+5)
	if code := d.request(refreshRequest, wantLifetime(600)); code != codeWrongCredentials {
		t.Errorf("Refresh by another account: %d", code)
	}
}
