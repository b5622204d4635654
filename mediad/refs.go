package mediad

import (
	"strconv"
	"strings"

	"linecard.example/internal/stanza"
)

// reference keeps a blob alive for an account. It is the name of an empty file or object: HASH.ACCOUNT.SIZE, both numbers decimal. Its
// time of modification is when it was made or renewed. The size stands in it so that listing the names is all that quotas need.
type reference struct {
	hash    blobHash
	account stanza.Account
	size    int64
}

// name is what parseReference reads.
func (r reference) name() string {
	b := make([]byte, 0, 2*len(r.hash)+42)
	b = append(b, r.hash.String()...)
	b = strconv.AppendUint(append(b, '.'), uint64(r.account), 10)
	b = strconv.AppendInt(append(b, '.'), r.size, 10)
	return string(b)
}

// parseReference takes only what name writes, so that an account has one reference to a blob.
func parseReference(name string) (r reference, ok bool) {
	parts := strings.Split(name, ".")
	if len(parts) != 3 {
		return r, false
	}
	if r.hash, ok = parseHash(parts[0]); !ok {
		return r, false
	}
	account, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return r, false
	}
	if r.size, err = strconv.ParseInt(parts[2], 10, 64); err != nil || r.size < 0 {
		return r, false
	}
	r.account = stanza.Account(account)
	return r, r.name() == name
}
