package stanza

// GrantMethod is what a grant permits to do with media.
type GrantMethod uint8

// The methods of grants. They only grow.
const (
	GrantUpload   GrantMethod = 1
	GrantDownload GrantMethod = 2
	GrantDelete   GrantMethod = 3
)

// String returns the method's name, as logs and metric labels show it; "unknown" outside of the list.
func (m GrantMethod) String() string {
	if m == 0 || m > GrantDelete {
		return unknownToken
	}
	return [...]string{GrantUpload: "upload", GrantDownload: "download", GrantDelete: "delete"}[m]
}

// Bounds of what is about media.
const (
	BlobSize    = 32  // bytes of a blob's hash
	MaxGrant    = 512 // bytes of a grant that a client takes
	MaxMediaURL = 512 // bytes of the base URL
)

// Query asks the directory, or the gateway for a grant or for a relay. Which fields it needs depends on Op; who answers checks that.
type Query struct {
	ID      uint64 // number of the query, the client's choice among those it has open; 1 or more
	Op      Op
	Account Account // 0 = none
	Device  Device  // 0 = none
	Handle  []byte  // as typed; nil = none
	Key     []byte  // 32-byte static key; nil = none

	// Of OpMediaGrant.
	Method GrantMethod // 0 = none
	Size   uint64      // bytes of the blob to upload; 0 = none
	Blob   []byte      // BlobSize bytes; nil = none
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
	b.optUint(AttrMethod, uint64(s.Method))
	b.optUint(AttrSize, s.Size)
	b.optBytes(AttrBlob, s.Blob)
	return b.End(nil)
}

// ParseQuery reads a query stanza; Handle, Key and Blob borrow the view. Operation and method may be of a newer list.
func ParseQuery(v View) (Query, error) {
	r := read(v, TagQuery)
	s := Query{
		ID:      r.id(),
		Op:      Op(r.need(AttrOp, 255)),
		Account: Account(r.opt(AttrAccount, uint64(MaxAccount))),
		Device:  Device(r.opt(AttrDevice, uint64(MaxDevice))),
		Handle:  r.bytes(AttrHandle, maxHandleBytes),
		Key:     r.key(AttrKey),
		Method:  GrantMethod(r.opt(AttrMethod, 255)),
		Size:    r.opt(AttrSize, MaxID),
		Blob:    r.key(AttrBlob),
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

	// Of OpMediaGrant.
	Expiry int64  // of the grant or the password, milliseconds since 1970, by the server's clock; 0 = none
	Grant  []byte // at most MaxGrant bytes; nil = none
	URL    []byte // of a mediad, at most MaxMediaURL bytes; nil = none

	// Of OpRelay, with Expiry.
	Username []byte // at most MaxCredential bytes; nil = none
	Password []byte // the same
	URLs     []byte // of relays: list content, as AppendURLs makes it; nil = none
}

// Append appends the stanza to dst. It allocates only for a device list that it compresses.
func (s *Result) Append(dst []byte) []byte {
	b := Begin(dst, TagResult)
	b.Uint(AttrID, s.ID)
	b.optUint(AttrAccount, uint64(s.Account))
	b.optUint(AttrDevice, uint64(s.Device))
	b.optUint(AttrVersion, s.Version)
	b.optBytes(AttrHandle, s.Handle)
	body := s.Devices.put(&b)
	b.optUint(AttrExpiry, uint64(s.Expiry))
	b.optBytes(AttrGrant, s.Grant)
	b.optBytes(AttrURL, s.URL)
	b.optBytes(AttrUsername, s.Username)
	b.optBytes(AttrPassword, s.Password)
	b.optList(AttrURLs, s.URLs)
	return b.End(body)
}

// ParseResult reads a result stanza; Handle, Devices and what is bytes borrow the view. A compressed list is left compressed.
func ParseResult(v View) (Result, error) {
	r := read(v, TagResult)
	s := Result{
		ID:      r.id(),
		Account: Account(r.opt(AttrAccount, uint64(MaxAccount))),
		Device:  Device(r.opt(AttrDevice, uint64(MaxDevice))),
		Version: r.opt(AttrVersion, MaxID),
		Handle:  r.bytes(AttrHandle, maxHandleBytes),
		Devices: r.devices(),
		Expiry:  int64(r.opt(AttrExpiry, MaxID)),
		Grant:   r.bytes(AttrGrant, MaxGrant),
		URL:     r.bytes(AttrURL, MaxMediaURL),

		Username: r.bytes(AttrUsername, MaxCredential),
		Password: r.bytes(AttrPassword, MaxCredential),
		URLs:     r.urls(),
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
