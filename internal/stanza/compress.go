package stanza

import (
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	// MaxList is the most that a compressed list may hold when decompressed, in bytes, and the most memory that doing so may take.
	MaxList = 1 << 20

	// compressAbove is the length from which on list content is sent compressed.
	compressAbove = 512

	// coders bounds the encoder and decoder states kept, each some hundred KiB: lists are rare, and a caller that finds none free
	// waits for microseconds.
	coders = 2
)

// The coders are made at first use and shared: EncodeAll and DecodeAll are safe for concurrent use and start from an empty context
// each time, so that nothing of one stanza shows in the size of another.
var (
	encoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil,
			zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithEncoderConcurrency(coders),
			zstd.WithWindowSize(64<<10),
			zstd.WithLowerEncoderMem(true),
			zstd.WithEncoderCRC(false)) // frames are authenticated
		if err != nil {
			panic("stanza: zstd options: " + err.Error())
		}
		return e
	})
	decoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(coders),
			zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(MaxList),
			zstd.WithDecoderMaxWindow(MaxList),
			zstd.WithDecodeAllCapLimit(true)) // never more than zsize
		if err != nil {
			panic("stanza: zstd options: " + err.Error())
		}
		return d
	})
)

// compress returns list as one zstd frame. Safe for concurrent use.
func compress(list []byte) []byte { return encoder().EncodeAll(list, nil) }

// decompress returns the size bytes (1..MaxList) that body holds, in memory of their own; an error, which wraps ErrStanza, if body
// is no zstd, or holds more or less than size. Safe for concurrent use.
func decompress(body []byte, size int) ([]byte, error) {
	list, err := decoder().DecodeAll(body, make([]byte, 0, size))
	if err != nil || len(list) != size {
		return nil, ErrBody
	}
	return list, nil
}
