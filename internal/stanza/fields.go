package stanza

import "math"

const maxUint32 = math.MaxUint32

// reader takes the fields of a typed stanza out of a View and keeps the first fault, so that a Parse function reads as a list of its
// fields. It holds the View by value: beside err, which is returned, a pointer to it would move every View to the heap.
type reader struct {
	v   View
	err error
}

// read starts the fields of a stanza of tag t.
func read(v View, t Tag) reader {
	r := reader{v: v}
	if v.Tag != t {
		r.err = ErrTag
	}
	return r
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// need returns a required number, 1..max.
func (r *reader) need(a Attr, max uint64) uint64 {
	n, ok := r.v.Uint(a)
	switch {
	case !ok:
		r.fail(ErrMissing)
	case n == 0 || n > max:
		r.fail(ErrValue)
	}
	return n
}

// opt returns an optional number, 0..max; 0 if it is absent.
func (r *reader) opt(a Attr, max uint64) uint64 {
	n, _ := r.v.Uint(a)
	if n > max {
		r.fail(ErrValue)
	}
	return n
}

// bytes returns optional bytes of at most max; nil if they are absent.
func (r *reader) bytes(a Attr, max int) []byte {
	b, _ := r.v.Bytes(a)
	if len(b) > max {
		r.fail(ErrTooLong)
	}
	return b
}

// packed returns required packed numbers, at most max of them.
func (r *reader) packed(a Attr, max int) []byte {
	b, _ := r.v.Bytes(a)
	if err := ValidPacked(b, max); err != nil {
		r.fail(err)
	}
	return b
}

// key returns an optional 32-byte key; nil if it is absent.
func (r *reader) key(a Attr) []byte {
	b, ok := r.v.Bytes(a)
	if ok && len(b) != KeySize {
		r.fail(ErrValue)
	}
	return b
}

// after turns the wire's distance back from id into an id; 0 if it is absent.
func (r *reader) after(id uint64) uint64 {
	d, ok := r.v.Uint(AttrAfter)
	if !ok {
		return 0
	}
	if d == 0 || d >= id {
		r.fail(ErrValue)
	}
	return id - d
}

func (r *reader) account(a Attr) Account { return Account(r.need(a, uint64(MaxAccount))) }
func (r *reader) device(a Attr) Device   { return Device(r.need(a, uint64(MaxDevice))) }
func (r *reader) id() uint64             { return r.need(AttrID, MaxID) }
func (r *reader) reason() Reason         { return Reason(r.need(AttrReason, math.MaxUint16)) }

// body returns the body, which must be there.
func (r *reader) body() []byte {
	if len(r.v.body) == 0 {
		r.fail(ErrBody)
	}
	return r.v.body
}

// bare checks that there is no body.
func (r *reader) bare() {
	if len(r.v.body) != 0 {
		r.fail(ErrBody)
	}
}

// optUint appends a number unless it is 0.
func (b *Builder) optUint(a Attr, v uint64) {
	if v != 0 {
		b.Uint(a, v)
	}
}

// optBytes appends bytes unless there are none.
func (b *Builder) optBytes(a Attr, v []byte) {
	if len(v) != 0 {
		b.Bytes(a, v)
	}
}

// optAfter appends the distance from id back to after unless after is 0. It panics unless after < id: a programmer's error.
func (b *Builder) optAfter(id, after uint64) {
	if after == 0 {
		return
	}
	if after >= id {
		panic("stanza: after is not below id")
	}
	b.Uint(AttrAfter, id-after)
}
