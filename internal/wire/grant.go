package wire

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"

	"linecard.example/internal/stanza"
)

const (
	// BlobSize is the length of a blob's hash, SHA-256, in bytes.
	BlobSize = stanza.BlobSize
	// GrantSize is the length of a grant of this version, in bytes.
	GrantSize = grantSigned + ed25519.SignatureSize
	// GrantTextSize is the length of a grant as text. GrantSize is a multiple of 3, so that no bit of the text is without meaning.
	GrantTextSize = GrantSize / 3 * 4

	grantVersion = 1
	grantSigned  = 1 + 4 + 1 + 3*8 + BlobSize // version, key, method, account, expires, limit, blob
	maxGrantSize = 1 << 56                    // of Limit: far beyond any disk, and room to add to without overflow
	// grantDomain keeps a grant key's signatures from meaning anything elsewhere.
	grantDomain = "linecard grant 1\x00"
)

// Why a grant does not open. The answer to each is a refusal that says nothing about what is stored.
var (
	// ErrGrant: not a grant of this version, or not signed by the key that it names.
	ErrGrant = errors.New("wire: not a grant")
	// ErrGrantKey: signed by a key that is not known, or not any more.
	ErrGrantKey = errors.New("wire: grant of an unknown key")
	// ErrGrantExpired: genuine, and over.
	ErrGrantExpired = errors.New("wire: grant expired")
)

// GrantMethod is what a grant permits: the same number in a query and in the grant.
type GrantMethod = stanza.GrantMethod

// The methods, as stanza has them.
const (
	GrantUpload   = stanza.GrantUpload
	GrantDownload = stanza.GrantDownload
	GrantDelete   = stanza.GrantDelete
)

// Grant permits an account one method on a mediad, until it expires. Who holds it has the permission: it is as secret as what it permits.
// Signed it is
//
//	version     1 byte, 1
//	key         4 bytes, big-endian: the ID of the GrantKey
//	method      1 byte
//	account     8 bytes, big-endian
//	expires     8 bytes, big-endian, seconds since 1970
//	limit       8 bytes, big-endian: bytes that one upload may have, 1 to 2^56; else 0
//	blob        32 bytes: the SHA-256 of what may be downloaded or deleted; of an upload zeroes
//	signature   64 bytes, Ed25519 over "linecard grant 1", a zero byte, and all of the above
//
// As text, in a header or a URL, it is base64url without padding (RFC 4648, section 5).
type Grant struct {
	Method  GrantMethod
	Account stanza.Account
	Expires int64 // unix seconds, 1 to 2^40: not valid from then on
	Limit   uint64
	Blob    [BlobSize]byte
}

// Valid reports whether the fields are what a grant of their method has, and nothing else: one permission has one form.
func (g *Grant) Valid() bool {
	if g.Account == 0 || g.Account > stanza.MaxAccount || g.Expires < 1 || g.Expires > maxTime {
		return false
	}
	noBlob := g.Blob == [BlobSize]byte{}
	switch g.Method {
	case GrantUpload:
		return g.Limit > 0 && g.Limit <= maxGrantSize && noBlob
	case GrantDownload, GrantDelete:
		return g.Limit == 0 && !noBlob
	}
	return false
}

// AppendGrant appends g, signed by key, to dst. It panics on a grant that is not Valid: the caller has checked the query.
func AppendGrant(dst []byte, key *GrantSigner, g *Grant) []byte {
	if !g.Valid() {
		panic("wire: grant with impossible fields")
	}
	start := len(dst)
	dst = append(dst, grantVersion)
	dst = binary.BigEndian.AppendUint32(dst, key.id)
	dst = append(dst, byte(g.Method))
	dst = binary.BigEndian.AppendUint64(dst, uint64(g.Account))
	dst = binary.BigEndian.AppendUint64(dst, uint64(g.Expires))
	dst = binary.BigEndian.AppendUint64(dst, g.Limit)
	dst = append(dst, g.Blob[:]...)
	var buf [len(grantDomain) + grantSigned]byte
	return append(dst, ed25519.Sign(key.private, grantMessage(&buf, dst[start:]))...)
}

// grantMessage is what is signed: the domain and the grant up to its signature.
func grantMessage(buf *[len(grantDomain) + grantSigned]byte, signed []byte) []byte {
	copy(buf[copy(buf[:], grantDomain):], signed)
	return buf[:]
}

// OpenGrant verifies b with the one of keys that it names, both borrowed. now is in unix seconds. Errors: ErrGrant, ErrGrantKey,
// ErrGrantExpired; g is zero then. That a grant has expired is said of genuine ones only.
func OpenGrant(g *Grant, keys []GrantPublic, b []byte, now int64) error {
	*g = Grant{}
	if len(b) != GrantSize || b[0] != grantVersion {
		return ErrGrant
	}
	id := binary.BigEndian.Uint32(b[1:])
	for i := range keys {
		if keys[i].ID != id {
			continue
		}
		return g.open(&keys[i], b, now)
	}
	return ErrGrantKey
}

func (g *Grant) open(key *GrantPublic, b []byte, now int64) error {
	var buf [len(grantDomain) + grantSigned]byte
	if !ed25519.Verify(key.Key[:], grantMessage(&buf, b[:grantSigned]), b[grantSigned:]) {
		return ErrGrant
	}
	r := b[5:]
	got := Grant{
		Method:  GrantMethod(r[0]),
		Account: stanza.Account(binary.BigEndian.Uint64(r[1:])),
		Expires: int64(binary.BigEndian.Uint64(r[9:])),
		Limit:   binary.BigEndian.Uint64(r[17:]),
		Blob:    [BlobSize]byte(r[25:]),
	}
	switch {
	case !got.Valid():
		return ErrGrant
	case now >= got.Expires:
		return ErrGrantExpired
	}
	*g = got
	return nil
}

// AppendGrantText appends the text form of a grant to dst.
func AppendGrantText(dst, grant []byte) []byte { return base64.RawURLEncoding.AppendEncode(dst, grant) }

// ParseGrantText reads the text form and believes nothing of it: OpenGrant judges. Error: ErrGrant. The decoder skips line breaks; a text
// with one is then short of a byte, so that one grant has one text.
func ParseGrantText(text string) (grant [GrantSize]byte, err error) {
	if len(text) != GrantTextSize {
		return grant, ErrGrant
	}
	if n, err := base64.RawURLEncoding.Decode(grant[:], []byte(text)); err != nil || n != GrantSize {
		return [GrantSize]byte{}, ErrGrant
	}
	return grant, nil
}
