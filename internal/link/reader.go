package link

import (
	"encoding/binary"
	"math/bits"
)

// reader takes fields off b from i on; after the first fault it returns zeros. It moves an index instead of cutting b, because
// storing a slice costs a write barrier while the collector runs.
type reader struct {
	b   []byte
	i   int
	err error
}

func (r *reader) fail(err error) uint64 {
	if r.err == nil {
		r.err = err
	}
	r.i = len(r.b)
	return 0
}

// fixed reads n bytes, big-endian; zero is not canonical, because a zero field is left out.
func (r *reader) fixed(n int) (v uint64) {
	if len(r.b)-r.i < n {
		return r.fail(errTruncated)
	}
	if n == 8 {
		v = binary.BigEndian.Uint64(r.b[r.i:])
	} else {
		for _, c := range r.b[r.i : r.i+n] {
			v = v<<8 | uint64(c)
		}
	}
	r.i += n
	if v == 0 {
		return r.fail(errCanonical)
	}
	return v
}

// varint reads a minimal uvarint of at most width bits that is not zero.
func (r *reader) varint(width int) uint64 {
	if r.i < len(r.b) && r.b[r.i]-1 < 0x7f { // 1..127, the usual case
		v := uint64(r.b[r.i])
		r.i++
		return v
	}
	v, n := binary.Uvarint(r.b[r.i:])
	switch {
	case n == 0:
		return r.fail(errTruncated)
	case n < 0:
		return r.fail(errRange)
	case v == 0 || r.b[r.i+n-1] == 0:
		return r.fail(errCanonical)
	case bits.Len64(v) > width:
		return r.fail(errRange)
	}
	r.i += n
	return v
}

func (r *reader) payload() []byte {
	n := r.varint(32)
	switch {
	case r.err != nil:
		return nil
	case n > MaxPayload:
		r.fail(errPayload)
		return nil
	case n > uint64(len(r.b)-r.i):
		r.fail(errTruncated)
		return nil
	}
	r.i += int(n)
	return r.b[r.i-int(n) : r.i : r.i]
}
