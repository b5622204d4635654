package stanza

// Builder appends one stanza, or one record of a list, to a slice. Attributes come in ascending order, known ones in their own wire
// type: anything else is a programmer's error and panics. Zero values are written when they are set; leave an attribute out to
// say "none". Not safe for concurrent use. It allocates only to grow the slice.
//
//	b := stanza.Begin(dst, stanza.TagAck)
//	b.Bytes(stanza.AttrIDs, packed)
//	dst = b.End(nil)
type Builder struct {
	dst   []byte
	start int  // of the stanza or record in dst
	attrs int  // where attributes begin
	last  Attr // highest attribute so far
}

// Begin starts a stanza behind dst, which it retains until End.
func Begin(dst []byte, t Tag) Builder {
	if t == 0 || t >= rawBit {
		panic("stanza: tag out of range")
	}
	start := len(dst)
	return Builder{dst: append(dst, byte(t), 0), start: start, attrs: start + 2}
}

// BeginRecord starts a record of a list behind dst, which it retains until EndRecord.
func BeginRecord(dst []byte) Builder {
	start := len(dst)
	return Builder{dst: append(dst, 0), start: start, attrs: start + 1}
}

// Uint appends a varint attribute.
func (b *Builder) Uint(a Attr, v uint64) {
	b.key(a, wireVarint)
	b.dst = appendUvarint(b.dst, v)
}

// Bytes appends a bytes attribute; it copies v.
func (b *Builder) Bytes(a Attr, v []byte) {
	b.key(a, wireBytes)
	b.dst = append(appendUvarint(b.dst, uint64(len(v))), v...)
}

// Fixed appends a fixed8 attribute, big-endian.
func (b *Builder) Fixed(a Attr, v [8]byte) {
	b.key(a, wireFixed)
	b.dst = append(b.dst, v[:]...)
}

// List appends a list attribute; records is what BeginRecord..EndRecord or AppendDevices appended. It copies records.
func (b *Builder) List(a Attr, records []byte) {
	b.key(a, wireList)
	b.dst = append(appendUvarint(b.dst, uint64(len(records))), records...)
}

func (b *Builder) key(a Attr, w wireType) {
	if a <= b.last || a > MaxAttr {
		panic("stanza: attributes not ascending")
	}
	if known := attrWires[a]; known != wireNone && known != w {
		panic("stanza: attribute of another wire type")
	}
	b.last = a
	b.dst = append(b.dst, keyOf(a, w))
}

// End finishes the stanza with a body, nil or empty for none, and returns dst with it appended. The body is copied once, to its
// final place. Stanzas over MaxStanza are the caller's to notice: no receiver takes them.
func (b *Builder) End(body []byte) []byte {
	content := len(b.dst) - b.attrs
	hasAttrs := content > 0
	if len(body) > 0 {
		content += len(body)
		if hasAttrs {
			content++
		} else {
			b.dst[b.start] |= rawBit
		}
	}
	b.putLength(content)
	if len(body) > 0 {
		if hasAttrs {
			b.dst = append(b.dst, bodyMark)
		}
		b.dst = append(b.dst, body...)
	}
	return b.dst
}

// AppendWith appends v to dst with a bytes attribute more, and everything that v has as it is, unknown attributes included. A stanza that
// has the attribute already is appended unchanged. dst must not overlap with v.
func (v View) AppendWith(dst []byte, a Attr, value []byte) []byte {
	if v.Has(a) {
		return append(dst, v.raw...)
	}
	at, b := 0, Begin(dst, v.Tag)
	for at < len(v.attrs) && v.attrs[at] < byte(a)<<2 {
		at += 1 + valueLen(v.attrs[at+1:], wireType(v.attrs[at]&3))
	}
	b.dst = append(b.dst, v.attrs[:at]...)
	b.Bytes(a, value)
	b.dst = append(b.dst, v.attrs[at:]...)
	return b.End(v.body)
}

// EndRecord finishes the record and returns dst with it appended.
func (b *Builder) EndRecord() []byte {
	b.putLength(len(b.dst) - b.attrs)
	return b.dst
}

// putLength writes the length before the attributes, moving them when it needs more than the one byte kept for it: bodies are
// appended behind, so that only attributes ever move.
func (b *Builder) putLength(n int) {
	if extra := uvarintLen(uint64(n)) - 1; extra > 0 {
		var room [9]byte
		end := len(b.dst)
		b.dst = append(b.dst, room[:extra]...)
		copy(b.dst[b.attrs+extra:], b.dst[b.attrs:end])
	}
	appendUvarint(b.dst[:b.attrs-1], uint64(n))
}
