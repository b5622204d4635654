package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
)

// The server's side of the handshakes stands on symmetric and not on flynn/noise, which allocates 109 objects of 8 KB for each XX, hash
// and HMAC states most of them: in a storm of reconnecting clients that is garbage by the gigabyte, and a fifth of the time beside the
// Diffie-Hellman. The client's side is flynn/noise, and spec_test.go is a third implementation: vectors hold where all of them agree.

// symmetric is Noise's SymmetricState and the CipherState in it for 25519, ChaChaPoly and SHA256. Source: Noise specification,
// revision 34, sections 5.1, 5.2 and 4.3. It allocates nothing. Secret: clear it after use.
type symmetric struct {
	ck, h, k [sha256.Size]byte
	n        uint64
	keyed    bool // a key was mixed in
}

// start is InitializeSymmetric and MixHash(prologue); the prologue comes in two parts.
func (s *symmetric) start(protocol string, transcript, head []byte) {
	*s = symmetric{}
	if len(protocol) <= len(s.h) {
		copy(s.h[:], protocol)
	} else {
		var name [64]byte
		s.h = sha256.Sum256(name[:copy(name[:], protocol)])
	}
	s.ck = s.h
	var b [len(s.h) + MaxTranscript + MaxEarlyBody]byte
	in := append(append(append(b[:0], s.h[:]...), transcript...), head...)
	s.h = sha256.Sum256(in)
}

// mixHash is MixHash.
func (s *symmetric) mixHash(data []byte) {
	if len(data) > 256 { // never what a stranger sends before he has proved anything
		s.mixLong(data)
		return
	}
	var b [len(s.h) + 256]byte
	copy(b[:], s.h[:])
	s.h = sha256.Sum256(b[:len(s.h)+copy(b[len(s.h):], data)])
}

func (s *symmetric) mixLong(data []byte) {
	var b [len(s.h) + MaxEarlyBody]byte
	s.h = sha256.Sum256(append(append(b[:0], s.h[:]...), data...))
}

// mixKey is MixKey.
func (s *symmetric) mixKey(material *[KeySize]byte) {
	temp := hmac256(&s.ck, material[:])
	s.ck = hmac256(&temp, []byte{1})
	s.k = next256(&temp, &s.ck, 2)
	s.n, s.keyed = 0, true
}

// mixKeyAndHash is MixKeyAndHash, the token psk.
func (s *symmetric) mixKeyAndHash(psk *[KeySize]byte) {
	temp := hmac256(&s.ck, psk[:])
	s.ck = hmac256(&temp, []byte{1})
	hash := next256(&temp, &s.ck, 2)
	s.mixHash(hash[:])
	s.k = next256(&temp, &hash, 3)
	s.n, s.keyed = 0, true
}

// seal is EncryptAndHash; it appends to dst.
func (s *symmetric) seal(w *workspace, dst, plain []byte) []byte {
	at := len(dst)
	if !s.keyed {
		dst = append(dst, plain...)
	} else {
		dst = w.with(&s.k).Seal(dst, w.number(s.n), plain, s.h[:])
		s.n++
	}
	s.mixHash(dst[at:])
	return dst
}

// open is DecryptAndHash; it appends to dst.
func (s *symmetric) open(w *workspace, dst, data []byte) ([]byte, error) {
	if !s.keyed {
		s.mixHash(data)
		return append(dst, data...), nil
	}
	out, err := w.with(&s.k).Open(dst, w.number(s.n), data, s.h[:])
	if err != nil {
		return dst, ErrOpen
	}
	s.n++
	s.mixHash(data)
	return out, nil
}

// split is Split: the keys of initiator to responder and back.
func (s *symmetric) split() (up, down [KeySize]byte) {
	temp := hmac256(&s.ck, nil)
	up = hmac256(&temp, []byte{1})
	return up, next256(&temp, &up, 2)
}

// mixDH is MixKey(DH(private, public)); ErrKeyShare for a low-order point.
func (s *symmetric) mixDH(private, public *[KeySize]byte) error {
	var secret [KeySize]byte
	if !sharedSecret(&secret, private, public) {
		return fmt.Errorf("%w: %w", ErrHandshake, ErrKeyShare)
	}
	s.mixKey(&secret)
	clear(secret[:])
	return nil
}

// hmac256 is HMAC-SHA256 (RFC 2104) of at most 33 bytes under a key of 32.
func hmac256(key *[sha256.Size]byte, data []byte) [sha256.Size]byte {
	var inner [sha256.BlockSize + sha256.Size + 1]byte
	var outer [sha256.BlockSize + sha256.Size]byte
	for i := range sha256.BlockSize {
		inner[i], outer[i] = 0x36, 0x5c
	}
	for i, b := range key {
		inner[i] ^= b
		outer[i] ^= b
	}
	sum := sha256.Sum256(inner[:sha256.BlockSize+copy(inner[sha256.BlockSize:], data)])
	copy(outer[sha256.BlockSize:], sum[:])
	return sha256.Sum256(outer[:])
}

// next256 is one further output of HKDF: HMAC of the output before and a number.
func next256(key, before *[sha256.Size]byte, number byte) [sha256.Size]byte {
	var in [sha256.Size + 1]byte
	copy(in[:], before[:])
	in[sha256.Size] = number
	return hmac256(key, in[:])
}

// workspace is what a step of a handshake needs for its time: what a cipher is given escapes to the heap, so it stands here and is
// used again.
type workspace struct {
	scratchAEAD
	nonce [chacha20poly1305.NonceSize]byte
	s     symmetric
	e     [KeySize]byte // an ephemeral private key
}

var workspaces = sync.Pool{New: func() any { return &workspace{scratchAEAD: newScratchAEAD()} }}

func borrow() *workspace { return workspaces.Get().(*workspace) }

// giveBack wipes the secrets of w.
func giveBack(w *workspace) {
	w.with(&[KeySize]byte{})
	w.s, w.e = symmetric{}, [KeySize]byte{}
	workspaces.Put(w)
}

// number returns the nonce of a message, valid until the next call.
func (w *workspace) number(n uint64) []byte {
	binary.LittleEndian.PutUint64(w.nonce[4:], n)
	return w.nonce[:]
}
