package stanza

// View is a decoded stanza: it borrows the bytes that it was decoded from. The zero View is empty. A View is a small value; it is safe
// for concurrent use as long as nobody writes those bytes.
type View struct {
	Tag Tag
	attrSet
	raw  []byte
	body []byte
}

// Body returns the body, nil without one. It is a view into the frame.
func (v View) Body() []byte { return v.body }

// Raw returns the whole stanza as it was encoded, unknown attributes included: append it to relay the stanza unchanged. It is a
// view into the frame.
func (v View) Raw() []byte { return v.raw }

// attrSet is a run of validated attributes with a bit for each number present. View and Record embed it for its accessors.
type attrSet struct {
	present uint64
	attrs   []byte
}

// Has reports whether the attribute is there, in whatever wire type.
func (s attrSet) Has(a Attr) bool { return a <= MaxAttr && s.present>>a&1 != 0 }

// Uint returns a varint attribute; false if it is absent or of another wire type.
func (s attrSet) Uint(a Attr) (uint64, bool) {
	b, ok := s.find(a, wireVarint)
	if !ok {
		return 0, false
	}
	v, _ := uvarint(b)
	return v, true
}

// Bytes returns a bytes attribute, a view into the frame; false if it is absent or of another wire type.
func (s attrSet) Bytes(a Attr) ([]byte, bool) {
	b, ok := s.find(a, wireBytes)
	if !ok {
		return nil, false
	}
	val, _, _ := span(b)
	return val, true
}

// Fixed returns a fixed8 attribute (big-endian); false if it is absent or of another wire type.
func (s attrSet) Fixed(a Attr) ([8]byte, bool) {
	b, ok := s.find(a, wireFixed)
	if !ok {
		return [8]byte{}, false
	}
	return [8]byte(b[:8]), true
}

// List returns the records of a list attribute, views into the frame; false if it is absent or of another wire type.
func (s attrSet) List(a Attr) (Records, bool) {
	b, ok := s.find(a, wireList)
	if !ok {
		return Records{}, false
	}
	val, _, _ := span(b)
	return Records{rest: val}, true
}

// find returns the bytes from the attribute's value on. The attributes were validated, so that lengths need no check here.
func (s attrSet) find(a Attr, w wireType) ([]byte, bool) {
	if !s.Has(a) {
		return nil, false
	}
	key, b := keyOf(a, w), s.attrs
	for len(b) > 0 && b[0] < key {
		b = b[1+valueLen(b[1:], wireType(b[0]&3)):]
	}
	if len(b) == 0 || b[0] != key {
		return nil, false
	}
	return b[1:], true
}

// valueLen returns the length of the validated value at the start of b.
func valueLen(b []byte, w wireType) int {
	switch w {
	case wireVarint:
		n := 0
		for b[n] >= 0x80 {
			n++
		}
		return n + 1
	case wireFixed:
		return 8
	}
	l, n := uvarint(b)
	return n + int(l)
}

// Records walks the records of a list. The zero Records is empty. Not safe for concurrent use; copy it to walk twice.
type Records struct{ rest []byte }

// Record is one record of a list: attributes only. It borrows like a View.
type Record struct{ attrSet }

// Next returns the next record; false behind the last.
func (r *Records) Next() (Record, bool) {
	if len(r.rest) == 0 {
		return Record{}, false
	}
	attrs, rest, err := span(r.rest)
	if err != nil { // only content that was never validated
		r.rest = nil
		return Record{}, false
	}
	r.rest = rest
	rec := Record{attrSet{attrs: attrs}}
	for b := attrs; len(b) > 0; b = b[1+valueLen(b[1:], wireType(b[0]&3)):] {
		rec.present |= 1 << (b[0] >> 2)
	}
	return rec, true
}
