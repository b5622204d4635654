package media

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a pointer. A message carries a copy for each device of the recipient in one frame of 64 KiB, so a thumbnail near its limit
// reaches an account of three devices and not one of five.
const (
	MaxName      = 255
	MaxType      = 127
	MaxThumbnail = 16 << 10
	MaxCaption   = 4 << 10
	maxField     = 64 << 10
)

// Numbers of a pointer's fields. They stand in ascending order, each at most once; one that is not known is skipped.
const (
	fieldName      = 1
	fieldType      = 2
	fieldThumbnail = 3
	fieldCaption   = 4
)

// Pointer is what a message says of a file: everything that is needed to fetch and to read it, and nothing that a server needs to know.
// Whoever has it can read the file. Name, Type, Thumbnail and Caption are the sender's claims.
type Pointer struct {
	Blob      [HashSize]byte // SHA-256 of the blob, which is its name at the server
	Key       [KeySize]byte
	Size      int64  // of the file
	Name      string // at most 255 bytes; as the sender has it: SafeName before it touches a file system
	Type      string // media type, at most 127 bytes of printable ASCII
	Thumbnail []byte // a small picture, at most 16 KiB
	Caption   string // at most 4 KiB
}

// Check returns ErrPointer when p cannot be encoded.
func (p *Pointer) Check() error {
	ok := p.Size >= 0 && p.Size <= MaxSize && len(p.Thumbnail) <= MaxThumbnail &&
		len(p.Name) <= MaxName && utf8.ValidString(p.Name) && len(p.Caption) <= MaxCaption && utf8.ValidString(p.Caption) && goodType(p.Type)
	if !ok {
		return ErrPointer
	}
	return nil
}

func goodType(s string) bool {
	return len(s) <= MaxType && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' && r != ' ' || r > '~' }) < 0
}

// Append appends the encoding of p, which must pass Check, to dst.
func (p *Pointer) Append(dst []byte) []byte {
	dst = append(dst, p.Blob[:]...)
	dst = append(dst, p.Key[:]...)
	dst = binary.AppendUvarint(dst, uint64(p.Size))
	dst = appendField(dst, fieldName, p.Name)
	dst = appendField(dst, fieldType, p.Type)
	dst = appendField(dst, fieldThumbnail, string(p.Thumbnail))
	return appendField(dst, fieldCaption, p.Caption)
}

// appendField appends a field unless it is empty.
func appendField(dst []byte, number byte, content string) []byte {
	if content == "" {
		return dst
	}
	dst = binary.AppendUvarint(append(dst, number), uint64(len(content)))
	return append(dst, content...)
}

// ParsePointer decodes b, which anybody may have written. It copies. Error: ErrPointer.
func ParsePointer(b []byte) (*Pointer, error) {
	p := &Pointer{}
	if len(b) < HashSize+KeySize {
		return nil, ErrPointer
	}
	b = b[copy(p.Blob[:], b):]
	b = b[copy(p.Key[:], b):]
	size, b, ok := cutNumber(b, MaxSize)
	if !ok {
		return nil, ErrPointer
	}
	p.Size = int64(size)
	last := 0
	for len(b) > 0 {
		number := int(b[0])
		var length uint64
		if length, b, ok = cutNumber(b[1:], maxField); !ok || number <= last || length == 0 || length > uint64(len(b)) {
			return nil, ErrPointer
		}
		p.setField(number, b[:length])
		b, last = b[length:], number
	}
	if err := p.Check(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Pointer) setField(number int, content []byte) {
	switch number {
	case fieldName:
		p.Name = string(content)
	case fieldType:
		p.Type = string(content)
	case fieldThumbnail:
		p.Thumbnail = bytes.Clone(content)
	case fieldCaption:
		p.Caption = string(content)
	}
}

// cutNumber takes a uvarint in its shortest form off b.
func cutNumber(b []byte, limit uint64) (v uint64, rest []byte, ok bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 || v > limit || n > 1 && b[n-1] == 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}

// maxSafeName leaves room for what a program appends to a name, within the 255 bytes of most file systems.
const maxSafeName = 200

// SafeName returns a name for a file on this machine: the last element of Name, without what could move a cursor, hide the file or
// mean a folder, at most 200 bytes. A pointer without a usable name gets one from its blob.
func (p *Pointer) SafeName() string {
	name := path.Base(strings.ReplaceAll(p.Name, `\`, "/"))
	name = strings.Map(func(r rune) rune {
		if r == '/' || r == utf8.RuneError || !unicode.IsPrint(r) { // formatting characters, bidirectional ones among them, are no print
			return '_'
		}
		return r
	}, name)
	name = strings.Trim(name, " ")
	if trimmed := strings.TrimLeft(name, "."); len(trimmed) < len(name) {
		name = "_" + trimmed
	}
	if len(name) > maxSafeName {
		ext := path.Ext(name)
		if len(ext) > 16 {
			ext = ""
		}
		cut := maxSafeName - len(ext)
		for !utf8.RuneStart(name[cut]) {
			cut--
		}
		name = name[:cut] + ext
	}
	if name == "" || name == "_" {
		return "file-" + hex.EncodeToString(p.Blob[:4])
	}
	return name
}
