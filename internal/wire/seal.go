package wire

import (
	"encoding/binary"
	"errors"

	"golang.org/x/crypto/chacha20poly1305"
)

// MaxFrames is how many frames a session may have in one direction; then it ends (nonce_exhausted).
const MaxFrames = 1<<32 - 1

// ErrOpen: a sealed frame that was cut, changed, or sealed with another key or nonce. The session is unusable.
var ErrOpen = errors.New("wire: frame does not decrypt")

// Sealer seals and opens frames under bare 32-byte keys, which live in slots and not in cipher objects. It is scratch space: one per
// loop or per client, not safe for concurrent use. Seal and Open allocate nothing when dst has room.
//
// Source: RFC 8439; Noise specification, revision 34, section 12.3 (nonce: 4 zero bytes, then 8 bytes little-endian).
type Sealer struct {
	aead  scratchAEAD
	nonce [chacha20poly1305.NonceSize]byte
}

// NewSealer returns a sealer. The key last used stays in it.
func NewSealer() *Sealer { return &Sealer{aead: newScratchAEAD()} }

// Seal appends the sealed plain (TagSize bytes longer) to dst. nonce is the number of the frame in its direction, from 0; a pair of key
// and nonce must never be used twice. dst and plain may overlap only if plain starts just where the output does.
func (s *Sealer) Seal(dst []byte, key *[KeySize]byte, nonce uint64, plain []byte) []byte {
	binary.LittleEndian.PutUint64(s.nonce[4:], nonce)
	return s.aead.with(key).Seal(dst, s.nonce[:], plain, nil)
}

// AppendSealedFrame appends plain (at most MaxPlain bytes, otherwise it panics) as a sealed frame, length prefix and all, to dst.
func (s *Sealer) AppendSealedFrame(dst []byte, key *[KeySize]byte, nonce uint64, plain []byte) []byte {
	if len(plain) > MaxPlain {
		panic("wire: plaintext above MaxPlain")
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(plain)+TagSize))
	return s.Seal(dst, key, nonce, plain)
}

// Open appends the plaintext of sealed, the body of a frame, to dst. On ErrOpen dst comes back without it. dst and sealed may overlap
// only if sealed starts just where the output does.
func (s *Sealer) Open(dst []byte, key *[KeySize]byte, nonce uint64, sealed []byte) ([]byte, error) {
	binary.LittleEndian.PutUint64(s.nonce[4:], nonce)
	out, err := s.aead.with(key).Open(dst, s.nonce[:], sealed, nil)
	if err != nil {
		return dst, ErrOpen
	}
	return out, nil
}
