package stanza

// Query asks the directory. Which fields it needs depends on Op; the router checks that.
type Query struct {
	ID      uint64 // number of the query, the client's choice among those it has open; 1 or more
	Op      Op
	Account Account // 0 = none
	Device  Device  // 0 = none
	Handle  []byte  // as typed; nil = none
	Key     []byte  // 32-byte static key; nil = none
}

// Append appends the stanza to dst.
func (s *Query) Append(dst []byte) []byte {
	b := Begin(dst, TagQuery)
	b.Uint(AttrID, s.ID)
	b.optUint(AttrAccount, uint64(s.Account))
	b.optUint(AttrDevice, uint64(s.Device))
	b.optBytes(AttrHandle, s.Handle)
	b.optBytes(AttrKey, s.Key)
	b.Uint(AttrOp, uint64(s.Op))
	return b.End(nil)
}

// ParseQuery reads a query stanza; Handle and Key borrow the view. The operation may be one of a newer list.
func ParseQuery(v View) (Query, error) {
	r := read(v, TagQuery)
	s := Query{
		ID:      r.id(),
		Op:      Op(r.need(AttrOp, 255)),
		Account: Account(r.opt(AttrAccount, uint64(MaxAccount))),
		Device:  Device(r.opt(AttrDevice, uint64(MaxDevice))),
		Handle:  r.bytes(AttrHandle, maxHandleBytes),
		Key:     r.key(AttrKey),
	}
	r.bare()
	return s, r.err
}

// Result answers a query.
type Result struct {
	ID      uint64 // of the query
	Account Account
	Device  Device     // 0 = none
	Version uint64     // of the device list; 0 = none
	Handle  []byte     // folded; nil = none
	Devices DeviceList // empty = none
}

// Append appends the stanza to dst. It allocates only for a device list that it compresses.
func (s *Result) Append(dst []byte) []byte {
	b := Begin(dst, TagResult)
	b.Uint(AttrID, s.ID)
	b.optUint(AttrAccount, uint64(s.Account))
	b.optUint(AttrDevice, uint64(s.Device))
	b.optUint(AttrVersion, s.Version)
	b.optBytes(AttrHandle, s.Handle)
	return b.End(s.Devices.put(&b))
}

// ParseResult reads a result stanza; Handle and Devices borrow the view. A compressed list is left compressed.
func ParseResult(v View) (Result, error) {
	r := read(v, TagResult)
	s := Result{
		ID:      r.id(),
		Account: Account(r.opt(AttrAccount, uint64(MaxAccount))),
		Device:  Device(r.opt(AttrDevice, uint64(MaxDevice))),
		Version: r.opt(AttrVersion, MaxID),
		Handle:  r.bytes(AttrHandle, maxHandleBytes),
		Devices: r.devices(),
	}
	return s, r.err
}

// QueryError refuses a query (tag error).
type QueryError struct {
	ID         uint64 // of the query
	Reason     Reason
	RetryAfter uint32 // milliseconds; 0 = none
}

// Append appends the stanza to dst.
func (s *QueryError) Append(dst []byte) []byte {
	b := Begin(dst, TagError)
	b.Uint(AttrID, s.ID)
	b.Uint(AttrReason, uint64(s.Reason))
	b.optUint(AttrRetryAfter, uint64(s.RetryAfter))
	return b.End(nil)
}

// ParseQueryError reads an error stanza. The reason may be one of a newer list.
func ParseQueryError(v View) (QueryError, error) {
	r := read(v, TagError)
	s := QueryError{ID: r.id(), Reason: r.reason(), RetryAfter: uint32(r.opt(AttrRetryAfter, maxUint32))}
	r.bare()
	return s, r.err
}
