package stanza

// Ack tells a client that messages are stored.
type Ack struct {
	IDs []byte // packed ids, at most MaxPacked, in no relation to the order of sending but ascending here
}

// Append appends the stanza to dst.
func (s *Ack) Append(dst []byte) []byte {
	b := Begin(dst, TagAck)
	b.Bytes(AttrIDs, s.IDs)
	return b.End(nil)
}

// ParseAck reads an ack stanza; IDs borrows the view and has been checked (ValidPacked).
func ParseAck(v View) (Ack, error) {
	r := read(v, TagAck)
	s := Ack{IDs: r.packed(AttrIDs, MaxPacked)}
	r.bare()
	return s, r.err
}

// DeliveryAck tells the server how many further deliveries the client has handled. Its body is that count and nothing else.
type DeliveryAck struct {
	Count uint32 // since the last delivery_ack, 1 or more
}

// Append appends the stanza to dst.
func (s *DeliveryAck) Append(dst []byte) []byte {
	dst = append(dst, byte(TagDeliveryAck)|rawBit, byte(uvarintLen(uint64(s.Count))))
	return appendUvarint(dst, uint64(s.Count))
}

// ParseDeliveryAck reads a delivery_ack stanza.
func ParseDeliveryAck(v View) (DeliveryAck, error) {
	r := read(v, TagDeliveryAck)
	n, l := uvarint(v.body)
	if l <= 0 || l != len(v.body) {
		r.fail(ErrBody)
	}
	if n == 0 || n > maxUint32 {
		r.fail(ErrValue)
	}
	return DeliveryAck{Count: uint32(n)}, r.err
}

// Refused tells a client that a message was not taken, and why.
type Refused struct {
	ID         uint64
	Reason     Reason
	RetryAfter uint32     // milliseconds; 0 = none
	Last       uint64     // with gap: the last id admitted in the stream, if HasLast
	HasLast    bool       // Last is there (it may be 0)
	Version    uint64     // with stale_devices: the current version; 0 = none
	Devices    DeviceList // with stale_devices: the current list
	Full       []byte     // with queue_full: packed device numbers without room, at most MaxDevices; nil = none
}

// Append appends the stanza to dst. It allocates only for a device list that it compresses.
func (s *Refused) Append(dst []byte) []byte {
	b := Begin(dst, TagRefused)
	b.Uint(AttrID, s.ID)
	b.optUint(AttrVersion, s.Version)
	b.Uint(AttrReason, uint64(s.Reason))
	b.optUint(AttrRetryAfter, uint64(s.RetryAfter))
	body := s.Devices.put(&b)
	if s.HasLast {
		b.Uint(AttrLast, s.Last)
	}
	b.optBytes(AttrFull, s.Full)
	return b.End(body)
}

// ParseRefused reads a refused stanza; Devices and Full borrow the view. A compressed list is left compressed.
func ParseRefused(v View) (Refused, error) {
	r := read(v, TagRefused)
	s := Refused{
		ID:         r.id(),
		Version:    r.opt(AttrVersion, MaxID),
		Reason:     r.reason(),
		RetryAfter: uint32(r.opt(AttrRetryAfter, maxUint32)),
		Devices:    r.devices(),
		Last:       r.opt(AttrLast, MaxID),
		HasLast:    v.Has(AttrLast),
	}
	if v.Has(AttrFull) {
		s.Full = r.packed(AttrFull, MaxDevices)
	}
	return s, r.err
}

// RetryAll tells a client to send everything unanswered again.
type RetryAll struct{}

// Append appends the stanza to dst.
func (RetryAll) Append(dst []byte) []byte { return append(dst, byte(TagRetry), 0) }

// ParseRetryAll reads a retry stanza.
func ParseRetryAll(v View) (RetryAll, error) { return RetryAll{}, parseBare(v, TagRetry) }
