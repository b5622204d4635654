package stanza

// KeySize is the length of a static key in bytes.
const KeySize = 32

// DeviceKey is one device of an account with its static key.
type DeviceKey struct {
	Device Device
	Key    [KeySize]byte
}

// DeviceList is the device list of a result or refused stanza. To send one, set List. A received one may be compressed: read it with
// Records or Keys. The zero DeviceList is none.
type DeviceList struct {
	List []byte // list content, as AppendDevices makes it; nil = none, or compressed

	zsize int // length of the list when decompressed; 0 = not compressed
	zbody []byte
}

// AppendDevices appends the list content of keys to dst. It panics if devices do not ascend from 1 or are more than MaxDevices: a
// programmer's error.
func AppendDevices(dst []byte, keys []DeviceKey) []byte {
	if len(keys) > MaxDevices {
		panic("stanza: too many devices")
	}
	last := Device(0)
	for i := range keys {
		if keys[i].Device <= last || keys[i].Device > MaxDevice {
			panic("stanza: devices not ascending")
		}
		last = keys[i].Device
		b := BeginRecord(dst)
		b.Uint(AttrDevice, uint64(last))
		b.Bytes(AttrKey, keys[i].Key[:])
		dst = b.EndRecord()
	}
	return dst
}

// None reports whether the stanza carried no list. An empty list is not none.
func (l DeviceList) None() bool { return l.List == nil && l.zsize == 0 }

// Records returns the records of the list; they borrow the stanza, or memory of their own when the list was compressed (then it
// allocates, at most MaxList bytes). Its error wraps ErrStanza.
func (l DeviceList) Records() (Records, error) {
	if l.zsize == 0 {
		return Records{rest: l.List}, nil
	}
	list, err := decompress(l.zbody, l.zsize)
	if err != nil {
		return Records{}, err
	}
	if err := checkRecords(list, 1); err != nil {
		return Records{}, err
	}
	return Records{rest: list}, nil
}

// Keys appends the devices of the list to dst, copying the keys. It checks that every record has a device and a key, that devices
// ascend and that they are at most MaxDevices. Its error wraps ErrStanza.
func (l DeviceList) Keys(dst []DeviceKey) ([]DeviceKey, error) {
	records, err := l.Records()
	if err != nil {
		return nil, err
	}
	last := Device(0)
	for count := 1; ; count++ {
		rec, ok := records.Next()
		if !ok {
			return dst, nil
		}
		device, hasDevice := rec.Uint(AttrDevice)
		key, hasKey := rec.Bytes(AttrKey)
		switch {
		case count > MaxDevices:
			return nil, ErrTooMany
		case !hasDevice || !hasKey:
			return nil, ErrMissing
		case device > uint64(MaxDevice) || len(key) != KeySize:
			return nil, ErrValue
		case Device(device) <= last:
			return nil, ErrNotCanonical
		}
		last = Device(device)
		dst = append(dst, DeviceKey{Device: last, Key: [KeySize]byte(key)})
	}
}

// put appends the list to a stanza: as an attribute, or from compressAbove bytes on as zsize and the body that it returns.
func (l DeviceList) put(b *Builder) (body []byte) {
	switch {
	case l.zsize != 0: // parsed compressed: goes out as it came
		b.Uint(AttrZsize, uint64(l.zsize))
		return l.zbody
	case l.List == nil:
		return nil
	case len(l.List) <= compressAbove:
		b.List(AttrDevices, l.List)
		return nil
	}
	b.Uint(AttrZsize, uint64(len(l.List)))
	return compress(l.List)
}

// devices takes the list of a stanza, in either form, and the body with it.
func (r *reader) devices() DeviceList {
	records, plain := r.v.List(AttrDevices)
	if !r.v.Has(AttrZsize) {
		r.bare()
		if !plain {
			return DeviceList{}
		}
		return DeviceList{List: records.rest}
	}
	if plain {
		r.fail(ErrNotCanonical)
	}
	return DeviceList{zsize: int(r.need(AttrZsize, MaxList)), zbody: r.body()}
}
