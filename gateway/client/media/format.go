package media

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
)

// The format of a blob, version 1: for each chunk of 64 KiB of the file its ciphertext and a tag of 32 bytes over the chunk's number,
// whether it is the last one, and the ciphertext. The last chunk has what is left, 1 to 65,536 bytes; an empty file is one empty chunk.
//
// HMAC beside CTR, rather than an AEAD: the tag commits to the key (no blob opens under two keys to two files), a tag that was cut or
// moved is no tag, and SHA-256 is what the name of the blob costs anyway.
const (
	KeySize   = 32
	HashSize  = sha256.Size
	ChunkSize = 64 << 10
	TagSize   = sha256.Size
	// MaxSize bounds a file: what an upload holds in memory is 32 bytes a chunk of it.
	MaxSize = 64 << 30

	sealedChunk = ChunkSize + TagSize
	keyInfo     = "linecard media 1"
)

// What callers branch on.
var (
	// ErrDamaged: the blob is not what the pointer says: altered, cut, or another one. *DamageError says where.
	ErrDamaged = errors.New("the blob is damaged")
	// ErrChanged: the file is not the one any more that was planned. What was uploaded of it is of no use.
	ErrChanged = errors.New("the file has changed")
	// ErrPointer: a pointer that is malformed, or out of range.
	ErrPointer = errors.New("malformed pointer to a file")
	// ErrTooBig: the file is larger than MaxSize.
	ErrTooBig = errors.New("the file is too big")
)

// DamageError is ErrDamaged with the number of the first chunk that is not right; -1 when no single chunk is to blame.
type DamageError struct{ Chunk int64 }

func (e *DamageError) Error() string {
	if e.Chunk < 0 {
		return ErrDamaged.Error()
	}
	return fmt.Sprintf("%v: chunk %d does not verify", ErrDamaged, e.Chunk)
}

// Is makes errors.Is(err, ErrDamaged) hold.
func (e *DamageError) Is(target error) bool { return target == ErrDamaged }

// BlobSize returns the length of the blob of a file of size bytes, 0 to MaxSize.
func BlobSize(size int64) int64 { return size + chunks(size)*TagSize }

// chunks returns how many chunks a file has.
func chunks(size int64) int64 { return max(1, (size+ChunkSize-1)/ChunkSize) }

// chunkLen returns how many bytes of the file chunk n has.
func chunkLen(size, n int64) int { return int(min(ChunkSize, size-n*ChunkSize)) }

// chunkCipher encrypts and authenticates chunks under a file's key. One goroutine at a time.
type chunkCipher struct {
	block cipher.Block
	mac   hash.Hash
	sum   [TagSize]byte
}

func newChunkCipher(key [KeySize]byte) *chunkCipher {
	both, err := hkdf.Key(sha256.New, key[:], nil, keyInfo, 2*KeySize)
	if err != nil {
		panic(err) // only a length out of range does that
	}
	block, err := aes.NewCipher(both[:KeySize])
	if err != nil {
		panic(err) // only a key of another length does that
	}
	return &chunkCipher{block: block, mac: hmac.New(sha256.New, both[KeySize:])}
}

// xor encrypts or decrypts chunk n from src into dst, of the same length; they may be the same. The counter counts the blocks of the
// whole file, so that no two chunks share one.
func (c *chunkCipher) xor(dst, src []byte, n int64) {
	var iv [aes.BlockSize]byte
	binary.BigEndian.PutUint64(iv[8:], uint64(n)*(ChunkSize/aes.BlockSize))
	cipher.NewCTR(c.block, iv[:]).XORKeyStream(dst, src)
}

// tag returns the tag of chunk n: a view that is valid until the next call.
func (c *chunkCipher) tag(n int64, last bool, ciphertext []byte) []byte {
	var head [9]byte
	binary.BigEndian.PutUint64(head[:], uint64(n))
	if last {
		head[8] = 1
	}
	c.mac.Reset()
	c.mac.Write(head[:])
	c.mac.Write(ciphertext)
	return c.mac.Sum(c.sum[:0])
}
