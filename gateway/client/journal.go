package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// The journal is a file of records, appended only:
//
//	magic     16 bytes, then records of
//	length    4 bytes big-endian: bytes of content, 1 to maxRecord
//	checksum  4 bytes big-endian: CRC-32C of length and content
//	content   kind byte and fields: record.go
//
// After a sync the next append begins with a recSynced record that names the offset up to which everything is on disk. So a damaged
// record can be judged: before an offset that a later recSynced names it is corruption, and refused; elsewhere it is what a crash
// leaves of writes that nobody was promised anything for, and cut off. Compaction writes a new file and renames it over the old one.
const (
	journalMagic = "linecard-home 1\n"
	recordHead   = 8
	maxRecord    = 1 << 17
	syncedSize   = recordHead + 9
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendRecord appends the record whose content fill appends.
func appendRecord(dst []byte, fill func([]byte) []byte) []byte {
	start := len(dst)
	dst = fill(append(dst, 0, 0, 0, 0, 0, 0, 0, 0))
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-recordHead))
	binary.BigEndian.PutUint32(dst[start+4:], recordSum(dst[start:]))
	return dst
}

func recordSum(rec []byte) uint32 {
	return crc32.Update(crc32.Checksum(rec[:4], castagnoli), castagnoli, rec[recordHead:])
}

// cutRecord takes the first record's content off b; ok is false when there is no whole, undamaged record.
func cutRecord(b []byte) (content, rest []byte, ok bool) {
	if len(b) < recordHead+1 {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(b)
	if n == 0 || n > maxRecord || int(n) > len(b)-recordHead {
		return nil, nil, false
	}
	end := recordHead + int(n)
	if binary.BigEndian.Uint32(b[4:]) != recordSum(b[:end]) {
		return nil, nil, false
	}
	return b[recordHead:end], b[end:], true
}

// replay gives the content of each record to apply and returns the offset up to which the journal is good. What follows is a torn
// tail. Errors wrap ErrHomeCorrupt: a damaged record that had been synced, or content that apply does not take.
func replay(b []byte, apply func(content []byte) error) (good int64, err error) {
	if len(b) < len(journalMagic) || string(b[:len(journalMagic)]) != journalMagic {
		return 0, fmt.Errorf("%w: journal: not one of this version", ErrHomeCorrupt)
	}
	rest := b[len(journalMagic):]
	for len(rest) > 0 {
		at := int64(len(b) - len(rest))
		content, tail, ok := cutRecord(rest)
		if !ok {
			if syncedBeyond(rest[1:], at) {
				return 0, fmt.Errorf("%w: journal: bad record at byte %d", ErrHomeCorrupt, at)
			}
			return at, nil
		}
		if err := apply(content); err != nil {
			return 0, fmt.Errorf("%w: journal: record at byte %d: %w", ErrHomeCorrupt, at, err)
		}
		rest = tail
	}
	return int64(len(b)), nil
}

// syncedBeyond looks in b, at any alignment, for a recSynced record that names an offset above at.
func syncedBeyond(b []byte, at int64) bool {
	for ; len(b) >= syncedSize; b = b[1:] {
		if b[recordHead] != recSynced || b[3] != syncedSize-recordHead {
			continue
		}
		if content, _, ok := cutRecord(b); ok && len(content) == 9 && int64(binary.BigEndian.Uint64(content[1:])) > at {
			return true
		}
	}
	return false
}

// writeFile replaces the file at once and durably: a crash leaves the old one or the new one.
func writeFile(path string, data []byte) (err error) {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// makeDir makes a directory with those above it, durably: a home that was there when its key was registered must be there after a
// power failure.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
