package stanza

// Bind says who a connection is: the payload of handshake message 3, or the first stanza after a resume.
type Bind struct {
	Account  Account
	Device   Device
	ID       uint64 // highest id that the device has used; 0 = none
	Interval uint32 // ping interval that the client keeps, seconds; 0 = the server's default
}

// Append appends the stanza to dst.
func (s *Bind) Append(dst []byte) []byte {
	b := Begin(dst, TagBind)
	b.optUint(AttrID, s.ID)
	b.Uint(AttrAccount, uint64(s.Account))
	b.Uint(AttrDevice, uint64(s.Device))
	b.optUint(AttrInterval, uint64(s.Interval))
	return b.End(nil)
}

// ParseBind reads a bind stanza. Its error wraps ErrStanza, as that of every Parse function.
func ParseBind(v View) (Bind, error) {
	r := read(v, TagBind)
	s := Bind{
		Account:  r.account(AttrAccount),
		Device:   r.device(AttrDevice),
		ID:       r.opt(AttrID, MaxID),
		Interval: uint32(r.opt(AttrInterval, maxUint32)),
	}
	r.bare()
	return s, r.err
}

// MaxInvite is the longest invite code in bytes.
const MaxInvite = 64

// Register claims a handle for the connection's static key: the payload of handshake message 3.
type Register struct {
	Handle   []byte // as typed, 1-32 bytes; the server folds it (FoldHandle), and answers bad_handle to one that cannot be
	Invite   []byte // at most MaxInvite bytes; nil = none
	ID       uint64 // highest id used, when the key has registered before and the home is known; 0 = none
	Interval uint32 // as in Bind
}

// Append appends the stanza to dst.
func (s *Register) Append(dst []byte) []byte {
	b := Begin(dst, TagRegister)
	b.optUint(AttrID, s.ID)
	b.Bytes(AttrHandle, s.Handle)
	b.optBytes(AttrInvite, s.Invite)
	b.optUint(AttrInterval, uint64(s.Interval))
	return b.End(nil)
}

// ParseRegister reads a register stanza; Handle and Invite borrow the view. It leaves the handle's characters to FoldHandle: they
// have a reason of their own, bad_handle.
func ParseRegister(v View) (Register, error) {
	r := read(v, TagRegister)
	s := Register{
		Handle:   r.bytes(AttrHandle, maxHandleBytes),
		Invite:   r.bytes(AttrInvite, MaxInvite),
		ID:       r.opt(AttrID, MaxID),
		Interval: uint32(r.opt(AttrInterval, maxUint32)),
	}
	if !v.Has(AttrHandle) {
		r.fail(ErrMissing)
	}
	r.bare()
	return s, r.err
}

// maxHandleBytes bounds a handle before it is looked at, well over MaxHandle so that one too long is bad_handle, not bad_stanza.
const maxHandleBytes = 256

// Bound answers bind and register: the session is bound.
type Bound struct {
	Account     Account
	Device      Device
	Version     uint64 // of the account's device list
	Time        int64  // server time, milliseconds since 1970
	WindowIDs   uint32 // ids that may be unanswered in each direction
	WindowBytes uint32 // bytes of stanzas that may be unanswered in each direction
	ID          uint64 // highest id that the shard has noted for the device; 0 = none
	Ticket      []byte // to resume with: 32 secret bytes, then the ticket; at most MaxTicket bytes, nil = none
}

// MaxTicket is the longest ticket of bound with its secret, in bytes.
const MaxTicket = 32 + 512

// Append appends the stanza to dst.
func (s *Bound) Append(dst []byte) []byte {
	b := Begin(dst, TagBound)
	b.optUint(AttrID, s.ID)
	b.Uint(AttrAccount, uint64(s.Account))
	b.Uint(AttrDevice, uint64(s.Device))
	b.Uint(AttrVersion, s.Version)
	b.Uint(AttrTime, uint64(s.Time))
	b.Uint(AttrWindowIDs, uint64(s.WindowIDs))
	b.Uint(AttrWindowBytes, uint64(s.WindowBytes))
	b.optBytes(AttrTicket, s.Ticket)
	return b.End(nil)
}

// ParseBound reads a bound stanza; Ticket borrows the view.
func ParseBound(v View) (Bound, error) {
	r := read(v, TagBound)
	s := Bound{
		Account:     r.account(AttrAccount),
		Device:      r.device(AttrDevice),
		Version:     r.need(AttrVersion, MaxID),
		Time:        int64(r.need(AttrTime, MaxID)),
		WindowIDs:   uint32(r.need(AttrWindowIDs, maxUint32)),
		WindowBytes: uint32(r.need(AttrWindowBytes, maxUint32)),
		ID:          r.opt(AttrID, MaxID),
		Ticket:      r.bytes(AttrTicket, MaxTicket),
	}
	r.bare()
	return s, r.err
}

// Close is the last stanza before a connection ends.
type Close struct {
	Reason     Reason
	RetryAfter uint32 // milliseconds; 0 = none
}

// Append appends the stanza to dst.
func (s *Close) Append(dst []byte) []byte {
	b := Begin(dst, TagClose)
	b.Uint(AttrReason, uint64(s.Reason))
	b.optUint(AttrRetryAfter, uint64(s.RetryAfter))
	return b.End(nil)
}

// ParseClose reads a close stanza. The reason may be one of a newer list.
func ParseClose(v View) (Close, error) {
	r := read(v, TagClose)
	s := Close{Reason: r.reason(), RetryAfter: uint32(r.opt(AttrRetryAfter, maxUint32))}
	r.bare()
	return s, r.err
}

// Ping asks for a pong.
type Ping struct {
	Interval uint32 // ping interval that the client keeps from now on, seconds; 0 = as before
}

// Append appends the stanza to dst.
func (s Ping) Append(dst []byte) []byte {
	b := Begin(dst, TagPing)
	b.optUint(AttrInterval, uint64(s.Interval))
	return b.End(nil)
}

// ParsePing reads a ping stanza.
func ParsePing(v View) (Ping, error) {
	r := read(v, TagPing)
	s := Ping{Interval: uint32(r.opt(AttrInterval, maxUint32))}
	r.bare()
	return s, r.err
}

// Pong answers a ping.
type Pong struct{}

// Append appends the stanza to dst.
func (Pong) Append(dst []byte) []byte { return append(dst, byte(TagPong), 0) }

// ParsePong reads a pong stanza.
func ParsePong(v View) (Pong, error) { return Pong{}, parseBare(v, TagPong) }

// parseBare checks a stanza without fields.
func parseBare(v View, t Tag) error {
	r := read(v, t)
	r.bare()
	return r.err
}
