package wire

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"linecard.example/internal/stanza"
)

// RelaySecret is what credentials for a relay are made with by gateways and verified with by turnds. It is worked out from the ticket key with
// its ID, as a GrantKey is. Unlike those its users are two: who has it can make credentials, and learns nothing about the ticket key.
type RelaySecret struct {
	ID  uint32
	Key [KeySize]byte // secret
}

// String names the secret without giving it away, whoever prints it.
func (s RelaySecret) String() string { return fmt.Sprintf("relay secret %d", s.ID) }

// Format is String for every verb: none is a way around it.
func (s RelaySecret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// RelaySecret returns the relay secret that belongs to k.
func (k *TicketKey) RelaySecret() RelaySecret {
	mac := hmac.New(sha256.New, k.Key[:])
	mac.Write([]byte("linecard relay secret 1"))
	return RelaySecret{ID: k.ID, Key: [KeySize]byte(mac.Sum(nil))}
}

// MaxRelaySecrets is how many are known at once, at most: the newest, which does not sign yet (SigningKey), the one that does, and the one
// before that, whose credentials are good for a rotation more.
const MaxRelaySecrets = 3

// RelaySecrets returns those that belong to keys, newest first.
func RelaySecrets(keys []TicketKey) []RelaySecret {
	secrets := make([]RelaySecret, min(len(keys), MaxRelaySecrets))
	for i := range secrets {
		secrets[i] = keys[i].RelaySecret()
	}
	return secrets
}

// ErrRelaySecrets says that bytes are no set of relay secrets.
var ErrRelaySecrets = errors.New("wire: malformed relay secrets")

// AppendRelaySecrets appends 1 to MaxRelaySecrets secrets, newest first, to dst: for each its ID, 4 bytes big-endian, and the key.
func AppendRelaySecrets(dst []byte, secrets []RelaySecret) []byte { return appendKeys(dst, secrets) }

// ParseRelaySecrets reads what AppendRelaySecrets wrote; it keeps nothing of b. IDs descend strictly and are not 0. Errors are ErrRelaySecrets.
func ParseRelaySecrets(b []byte) ([]RelaySecret, error) {
	if secrets := parseKeys[RelaySecret](b, MaxRelaySecrets); secrets != nil {
		return secrets, nil
	}
	return nil, ErrRelaySecrets
}

// AppendRelayName appends the name that account may use relays with until expires (seconds since 1970), as the common draft of a REST API for
// TURN has it and coturn's use-auth-secret understands: EXPIRES:ACCOUNT, both decimal.
func AppendRelayName(dst []byte, account stanza.Account, expires int64) []byte {
	dst = append(strconv.AppendInt(dst, expires, 10), ':')
	return strconv.AppendUint(dst, uint64(account), 10)
}

// ParseRelayName takes a name apart. Nothing is known of it before its password was verified: account is any text but "", a part of name.
func ParseRelayName(name string) (account string, expires int64, ok bool) {
	stamp, account, _ := strings.Cut(name, ":")
	expires, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || account == "" {
		return "", 0, false
	}
	return account, expires, true
}

// AppendPassword appends the password that belongs to a name: base64 of the HMAC-SHA1 of the name, as that draft has it. A turnd works it
// out of the name that a client says.
func (s *RelaySecret) AppendPassword(dst []byte, name string) []byte {
	mac := hmac.New(sha1.New, s.Key[:])
	mac.Write([]byte(name))
	return base64.StdEncoding.AppendEncode(dst, mac.Sum(nil))
}
