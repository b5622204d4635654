package stanza

// MessageUp is a message as its sender sends it: one recipient account, a ciphertext for each of its devices.
type MessageUp struct {
	ID      uint64  // the sender device's counter
	After   uint64  // id of the last unacked message of the same stream, below ID; 0 = none. On the wire: the distance back from ID
	Account Account // of the recipient
	Version uint64  // of the recipient's device list, as the sender knows it; from 1
	Body    []byte  // ciphertexts: AppendCipher, NextCipher, ValidCiphers
}

// Append appends the stanza to dst. It panics unless After < ID.
func (s *MessageUp) Append(dst []byte) []byte {
	b := Begin(dst, TagMessage)
	b.Uint(AttrID, s.ID)
	b.optAfter(s.ID, s.After)
	b.Uint(AttrAccount, uint64(s.Account))
	b.Uint(AttrVersion, s.Version)
	return b.End(s.Body)
}

// ParseMessageUp reads an upward message stanza; Body borrows the view. It checks the routing attributes only: ValidCiphers checks
// the body, where somebody needs to look into it. An upward stanza with AttrFrom is forbidden; the gateway checks that with Has.
func ParseMessageUp(v View) (MessageUp, error) {
	r := read(v, TagMessage)
	s := MessageUp{
		ID:      r.id(),
		Account: r.account(AttrAccount),
		Version: r.need(AttrVersion, MaxID),
		Body:    r.body(),
	}
	s.After = r.after(s.ID)
	return s, r.err
}

// ReadUp tells the sending device of messages that they were read. It is numbered and admitted like a message.
type ReadUp struct {
	ID      uint64  // the reader device's counter
	After   uint64  // as in MessageUp
	Account Account // that sent the messages
	Device  Device  // that sent the messages
	IDs     []byte  // packed ids of the messages, at most MaxPacked
}

// Append appends the stanza to dst. It panics unless After < ID.
func (s *ReadUp) Append(dst []byte) []byte {
	b := Begin(dst, TagRead)
	b.Uint(AttrID, s.ID)
	b.optAfter(s.ID, s.After)
	b.Uint(AttrAccount, uint64(s.Account))
	b.Uint(AttrDevice, uint64(s.Device))
	b.Bytes(AttrIDs, s.IDs)
	return b.End(nil)
}

// ParseReadUp reads an upward read stanza; IDs borrows the view and has been checked (ValidPacked).
func ParseReadUp(v View) (ReadUp, error) {
	r := read(v, TagRead)
	s := ReadUp{
		ID:      r.id(),
		Account: r.account(AttrAccount),
		Device:  r.device(AttrDevice),
		IDs:     r.packed(AttrIDs, MaxPacked),
	}
	s.After = r.after(s.ID)
	r.bare()
	return s, r.err
}

// MessageDown is a message as one device of its recipient gets it.
type MessageDown struct {
	ID         uint64 // the sender device's counter: with From and FromDevice what the client checks for repeats
	From       Account
	FromDevice Device
	SentAt     int64  // commit stamp, milliseconds since 1970
	Body       []byte // the ciphertext for this device
}

// Append appends the stanza to dst.
func (s *MessageDown) Append(dst []byte) []byte {
	b := Begin(dst, TagMessage)
	b.Uint(AttrID, s.ID)
	b.Uint(AttrFrom, uint64(s.From))
	b.Uint(AttrFromDevice, uint64(s.FromDevice))
	b.Uint(AttrSentAt, uint64(s.SentAt))
	return b.End(s.Body)
}

// ParseMessageDown reads a downward message stanza; Body borrows the view.
func ParseMessageDown(v View) (MessageDown, error) {
	r := read(v, TagMessage)
	s := MessageDown{
		ID:         r.id(),
		From:       r.account(AttrFrom),
		FromDevice: r.device(AttrFromDevice),
		SentAt:     int64(r.need(AttrSentAt, MaxID)),
		Body:       r.body(),
	}
	return s, r.err
}

// ReceiptDown tells a device that messages of its own were delivered or read.
type ReceiptDown struct {
	Tag  Tag     // TagDelivered or TagRead
	From Account // the recipient of the messages
	IDs  []byte  // packed ids of the messages, at most MaxPacked
}

// Append appends the stanza to dst.
func (s *ReceiptDown) Append(dst []byte) []byte {
	b := Begin(dst, s.Tag)
	b.Uint(AttrFrom, uint64(s.From))
	b.Bytes(AttrIDs, s.IDs)
	return b.End(nil)
}

// ParseReceiptDown reads a downward delivered or read stanza; IDs borrows the view and has been checked (ValidPacked).
func ParseReceiptDown(v View) (ReceiptDown, error) {
	tag := TagDelivered
	if v.Tag == TagRead {
		tag = TagRead
	}
	r := read(v, tag)
	s := ReceiptDown{Tag: tag, From: r.account(AttrFrom), IDs: r.packed(AttrIDs, MaxPacked)}
	r.bare()
	return s, r.err
}

// Undelivered tells a device that messages of its own, which were acked here, did not reach every device of their recipient in
// another region. stale_devices: only those devices have them that are in both the list that the message was made for and the present
// one, maybe none. Another reason: none has them.
type Undelivered struct {
	From   Account // the recipient of the messages
	IDs    []byte  // packed ids of the messages, at most MaxPacked
	Reason Reason
}

// Append appends the stanza to dst.
func (s *Undelivered) Append(dst []byte) []byte {
	b := Begin(dst, TagUndelivered)
	b.Uint(AttrFrom, uint64(s.From))
	b.Bytes(AttrIDs, s.IDs)
	b.Uint(AttrReason, uint64(s.Reason))
	return b.End(nil)
}

// ParseUndelivered reads a downward undelivered stanza; IDs borrows the view and has been checked (ValidPacked).
func ParseUndelivered(v View) (Undelivered, error) {
	r := read(v, TagUndelivered)
	s := Undelivered{From: r.account(AttrFrom), IDs: r.packed(AttrIDs, MaxPacked), Reason: r.reason()}
	r.bare()
	return s, r.err
}
