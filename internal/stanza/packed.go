package stanza

// AppendPacked appends ascending numbers as packed: uvarints, the first as it is, then the distance to each next one. It panics
// if the numbers do not ascend or the first is 0: a programmer's error.
func AppendPacked(dst []byte, ids []uint64) []byte {
	prev := uint64(0)
	for _, id := range ids {
		if id <= prev {
			panic("stanza: packed numbers not ascending")
		}
		dst = appendUvarint(dst, id-prev)
		prev = id
	}
	return dst
}

// PackedIter walks packed numbers. Not safe for concurrent use; copy it to walk twice.
type PackedIter struct {
	rest []byte
	last uint64
}

// Packed walks b, which it borrows. Of bytes that ValidPacked would refuse it gives the numbers before the fault.
func Packed(b []byte) PackedIter { return PackedIter{rest: b} }

// Next returns the next number, ascending; false behind the last.
func (p *PackedIter) Next() (uint64, bool) {
	d, n := uvarint(p.rest)
	if n <= 0 || d == 0 || p.last+d < p.last {
		return 0, false
	}
	p.rest = p.rest[n:]
	p.last += d
	return p.last, true
}

// ValidPacked checks that b holds 1..max packed numbers, ascending from 1 to MaxID, and nothing else. Its error wraps ErrStanza.
func ValidPacked(b []byte, max int) error {
	if len(b) == 0 {
		return ErrMissing
	}
	last := uint64(0)
	for count := 1; len(b) > 0; count++ {
		if count > max {
			return ErrTooMany
		}
		d, n := uvarint(b)
		if n <= 0 {
			return varintFault(n)
		}
		if d == 0 || d > MaxID-last {
			return ErrValue
		}
		last += d
		b = b[n:]
	}
	return nil
}
