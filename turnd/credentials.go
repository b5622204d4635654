package turnd

import (
	"crypto/md5"
	"slices"
	"sync/atomic"
	"time"

	"linecard.example/internal/wire"
)

// maxUsername bounds names (RFC 5389 15.3 has 513).
const maxUsername = 512

// longTermKey is what requests are sealed with (RFC 5389 15.4).
func longTermKey(username, realm, password string) []byte {
	sum := md5.Sum([]byte(username + ":" + realm + ":" + password))
	return sum[:]
}

// credentials knows who may use the relay. Safe for concurrent use.
type credentials struct {
	realm  string
	life   time.Duration // how far in the future a name may expire
	static map[string][]byte
	now    func() time.Time

	secrets atomic.Pointer[[]wire.RelaySecret] // newest first; replaced, never changed
}

func newCredentials(cfg Config, now func() time.Time) *credentials {
	c := &credentials{realm: cfg.Realm, life: cfg.CredentialLife.D(), static: map[string][]byte{}, now: now}
	for name, password := range cfg.Users {
		c.static[name] = longTermKey(name, cfg.Realm, password)
	}
	c.secrets.Store(&[]wire.RelaySecret{})
	return c
}

// set replaces the secrets and reports whether they are others than before.
func (c *credentials) set(s []wire.RelaySecret) (changed bool) {
	kept := slices.Clone(s[:min(len(s), wire.MaxRelaySecrets)])
	return !slices.Equal(*c.secrets.Swap(&kept), kept)
}

// ready reports whether those are let in whom a gateway has given credentials: static users say nothing about clients.
func (c *credentials) ready() bool { return len(*c.secrets.Load()) > 0 }

// check verifies m, which was parsed from p, and returns whose it is and the key that answers are sealed with. The owner is what an
// account's names have in common whenever they expire, so that an allocation can be refreshed with newer credentials.
func (c *credentials) check(m *message, p []byte) (owner string, key []byte, ok bool) {
	if string(m.realm) != c.realm || len(m.username) == 0 || len(m.username) > maxUsername {
		return "", nil, false
	}
	name := string(m.username)
	if key := c.static[name]; key != nil {
		return name, key, m.genuine(p, key)
	}
	account, expires, ok := wire.ParseRelayName(name)
	now := c.now()
	if !ok || expires <= now.Unix() || expires > now.Add(c.life).Unix() {
		return "", nil, false
	}
	secrets := *c.secrets.Load()
	for i := range secrets {
		password := string(secrets[i].AppendPassword(nil, name))
		if key := longTermKey(name, c.realm, password); m.genuine(p, key) {
			return ":" + account, key, true // no static user has such a name: Validate
		}
	}
	return "", nil, false
}
