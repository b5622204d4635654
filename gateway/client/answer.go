package client

import (
	"errors"
	"time"

	"linecard.example/internal/stanza"
)

// encode appends message i of st as a stanza, with `after` and the device list as they are now. It appends nothing when the message
// has to wait for a device list, or cannot be sent at all and was taken out. Caller holds mu.
func (c *Client) encode(dst []byte, st *stream, i int) []byte {
	m := st.msgs[i]
	r := m.rec
	if r.kind == sendRead {
		up := stanza.ReadUp{ID: r.id, After: st.after(i), Account: r.to, Device: r.device, IDs: r.payload}
		return up.Append(dst)
	}
	list, ok := c.home.list(r.to)
	if !ok {
		st.needList = true
		c.requestList(r.to)
		return dst
	}
	size, devices := 0, 0
	for _, d := range list.devices {
		if r.to != c.self.Account || d.Device != c.self.Device {
			size += cipherHead + len(r.payload)
			devices++
		}
	}
	switch {
	case devices == 0 && r.kind == sendCopy: // there is nobody to copy to any more
		c.drop(m, nil)
		return dst
	case devices == 0:
		c.drop(m, ErrNoDevice)
		return dst
	case size > maxBody:
		c.drop(m, ErrTooLarge)
		return dst
	}
	body := make([]byte, 0, size)
	for _, d := range list.devices {
		if r.to != c.self.Account || d.Device != c.self.Device {
			body = stanza.AppendCipher(body, d.Device, r.payload)
		}
	}
	up := stanza.MessageUp{ID: r.id, After: st.after(i), Account: r.to, Version: list.version, Body: body}
	return up.Append(dst)
}

const (
	cipherHead = 3 + 3                 // at most: device and length of one ciphertext
	maxBody    = stanza.MaxStanza - 64 // leaves room for the attributes
)

// drop takes m out of outbox and Home for good; err nil means that it arrived where it should. Caller holds mu.
func (c *Client) drop(m *outMessage, err error) {
	c.out.drop(m)
	c.settle(m, err)
}

// settle tells the Home and the application about a message that is out of the outbox. Caller holds mu.
func (c *Client) settle(m *outMessage, err error) {
	if e := c.home.putDone(m.rec.id); e != nil {
		c.log.Error("home cannot be written", "err", e) // the message will be sent and acked again
		c.changed()                                     // and ends the client
	}
	if m.sent != nil {
		m.sent.finish(err)
	}
	switch {
	case err != nil:
		c.log.Warn("message refused", "id", m.rec.id, "account", uint64(m.rec.to), "err", err)
		if m.rec.kind == sendMessage {
			n := Notice{Kind: NoticeRefused, ID: m.rec.id, To: m.rec.to, Err: err}
			var refused *RefusedError
			if errors.As(err, &refused) {
				n.Reason = refused.Reason
			}
			c.note(n)
		}
	case m.rec.kind == sendMessage:
		c.note(Notice{Kind: NoticeAcked, ID: m.rec.id, To: m.rec.to})
	}
	close(c.room)
	c.room = make(chan struct{})
}

// expire fails what has been in the outbox for 29 days; it looks once an hour. Caller holds mu.
func (c *Client) expire(now time.Time) {
	if now.Sub(c.aged) < time.Hour {
		return
	}
	c.aged = now.Round(0) // by the wall clock, which goes on while the machine sleeps
	for _, m := range c.out.tooOld(now) {
		c.settle(m, ErrExpired)
	}
}

func (c *Client) onAck(v stanza.View) error {
	ack, err := stanza.ParseAck(v)
	if err != nil {
		return err
	}
	now := time.Now()
	for ids := stanza.Packed(ack.IDs); ; {
		id, ok := ids.Next()
		if !ok {
			return nil
		}
		if m := c.out.acked(id, now); m != nil {
			c.settle(m, nil)
		}
	}
}

func (c *Client) onRefused(v stanza.View) error {
	r, err := stanza.ParseRefused(v)
	if err != nil {
		return err
	}
	if m := c.out.byID[r.ID]; m != nil && r.Reason == stanza.ReasonStaleDevices {
		if err := c.newList(m.rec.to, r.Version, r.Devices); err != nil {
			return err
		}
	}
	ref := refusal{id: r.ID, reason: r.Reason, retryAfter: time.Duration(r.RetryAfter) * time.Millisecond, last: r.Last, hasLast: r.HasLast}
	m, final, wait := c.out.refused(&ref, time.Now())
	switch {
	case m == nil:
	case final:
		c.settle(m, &RefusedError{ID: r.ID, Reason: r.Reason})
	case m.rec.kind == sendMessage && wait > 0:
		c.note(Notice{Kind: NoticeHeld, ID: r.ID, To: m.rec.to, Reason: r.Reason, RetryIn: wait})
	}
	return nil
}

// newList takes over the list of a stale_devices refusal; one without a list has it asked for.
func (c *Client) newList(a Account, version uint64, l stanza.DeviceList) error {
	if l.None() || version == 0 {
		if st := c.out.streams[a]; st != nil {
			st.needList = true
		}
		c.requestList(a)
		return nil
	}
	keys, err := l.Keys(nil)
	if err != nil {
		return err
	}
	return c.home.putList(a, deviceList{version: version, devices: keys})
}
