package stanza

// uvarint decodes a minimal LEB128 number of at most 64 bits. n is its length in bytes, 0 if b ends inside it, -1 if it is not
// minimal or over 64 bits.
func uvarint(b []byte) (v uint64, n int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	var shift uint
	for i, c := range b {
		if i == 9 && c > 1 {
			return 0, -1
		}
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			if c == 0 {
				return 0, -1
			}
			return v, i + 1
		}
		shift += 7
	}
	return 0, 0
}

// varintFault returns the error for a length n <= 0 of uvarint.
func varintFault(n int) error {
	if n == 0 {
		return ErrTruncated
	}
	return ErrNotCanonical
}

// appendUvarint appends v as a minimal LEB128 number.
func appendUvarint(dst []byte, v uint64) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// uvarintLen returns the length of v as a minimal LEB128 number.
func uvarintLen(v uint64) int {
	n := 1
	for v >= 0x80 {
		v >>= 7
		n++
	}
	return n
}

// span decodes a length and returns the bytes that it covers and what follows them.
func span(b []byte) (val, rest []byte, err error) {
	l, n := uvarint(b)
	if n <= 0 {
		return nil, nil, varintFault(n)
	}
	if l > uint64(len(b)-n) {
		return nil, nil, ErrTruncated
	}
	end := n + int(l)
	return b[n:end:end], b[end:], nil
}
