package stanza

// Decode validates the first stanza of b wholly (canonical form, limits, wire types of known attributes) and returns a view of it
// and the bytes behind it. Both borrow b. It does not allocate. On error, which wraps ErrStanza, v and rest are zero.
func Decode(b []byte) (v View, rest []byte, err error) {
	if len(b) == 0 {
		return View{}, nil, ErrTruncated
	}
	tag := Tag(b[0] &^ rawBit)
	if tag == 0 {
		return View{}, nil, ErrTag
	}
	length, n := uvarint(b[1:])
	if n <= 0 {
		return View{}, nil, varintFault(n)
	}
	head := 1 + n
	if length > uint64(MaxStanza-head) {
		return View{}, nil, ErrTooLong
	}
	end := head + int(length)
	if end > len(b) {
		return View{}, nil, ErrTruncated
	}
	content := b[head:end:end]
	v = View{Tag: tag, raw: b[:end:end]}
	if b[0]&rawBit != 0 {
		if len(content) == 0 {
			return View{}, nil, ErrNotCanonical
		}
		v.body = content
		return v, b[end:], nil
	}
	present, n, err := checkAttrs(content, 0)
	if err != nil {
		return View{}, nil, err
	}
	v.attrSet = attrSet{present: present, attrs: content[:n:n]}
	if n < len(content) { // stopped at the body mark
		if n == 0 || n+1 == len(content) {
			return View{}, nil, ErrNotCanonical
		}
		v.body = content[n+1:]
	}
	return v, b[end:], nil
}

// DecodeFrame decodes the plaintext of a frame: the flags byte, then 1..MaxStanzas stanzas, each given to each in turn. The views
// borrow plain. A fault in a later stanza shows only after the earlier ones were given out. It returns the first error of the codec
// (wraps ErrStanza) or of each (as it is), and stops there. It does not allocate.
func DecodeFrame(plain []byte, each func(View) error) error {
	if len(plain) < 2 {
		return ErrTruncated
	}
	if len(plain) > MaxFrame {
		return ErrTooLong
	}
	if plain[0] != 0 {
		return ErrFlags
	}
	rest := plain[1:]
	for count := 1; len(rest) > 0; count++ {
		if count > MaxStanzas {
			return ErrTooMany
		}
		v, tail, err := Decode(rest)
		if err != nil {
			return err
		}
		if err := each(v); err != nil {
			return err
		}
		rest = tail
	}
	return nil
}

// checkAttrs validates attributes from the start of b to its end or, at depth 0, to a body mark. n is where it stopped.
func checkAttrs(b []byte, depth int) (present uint64, n int, err error) {
	last := byte(0)
	for n < len(b) {
		key := b[n]
		number, wire := key>>2, wireType(key&3)
		if key == bodyMark && depth == 0 {
			return present, n, nil
		}
		if number <= last || number > MaxAttr {
			return 0, 0, ErrNotCanonical
		}
		if known := attrWires[number]; known != wireNone && known != wire {
			return 0, 0, ErrWireType
		}
		l, err := checkValue(b[n+1:], wire, depth)
		if err != nil {
			return 0, 0, err
		}
		n += 1 + l
		last = number
		present |= 1 << number
	}
	return present, n, nil
}

// checkValue validates the value at the start of b and returns its length.
func checkValue(b []byte, wire wireType, depth int) (int, error) {
	switch wire {
	case wireVarint:
		_, n := uvarint(b)
		if n <= 0 {
			return 0, varintFault(n)
		}
		return n, nil
	case wireFixed:
		if len(b) < 8 {
			return 0, ErrTruncated
		}
		return 8, nil
	}
	val, rest, err := span(b)
	if err == nil && wire == wireList {
		err = checkRecords(val, depth+1)
	}
	return len(b) - len(rest), err
}

// checkRecords validates the content of a list. Its bound on work is the length of the frame.
func checkRecords(b []byte, depth int) error {
	if depth > MaxDepth {
		return ErrTooDeep
	}
	for len(b) > 0 {
		rec, rest, err := span(b)
		if err != nil {
			return err
		}
		if _, _, err := checkAttrs(rec, depth); err != nil {
			return err
		}
		b = rest
	}
	return nil
}
