package router

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"linecard.example/internal/stanza"
)

// Records in the tables of dir/N, by the first byte of the key:
//
//	f                      cluster facts: shards, cluster name
//	c                      counter of accounts created here
//	h handle               number of the account that owns it
//	a account(8)           accountRecord
//	d account(8) device(2) empty: the queue of this unlinked device is still to be dropped
//	i digest(16)           inviteRecord
//	t                      ticketRecord, of dir/0 only
//	r                      roster.Roster, of dir/0 only
const (
	prefixFacts   = 'f'
	prefixCounter = 'c'
	prefixHandle  = 'h'
	prefixAccount = 'a'
	prefixDrop    = 'd'
	prefixInvite  = 'i'
	prefixTickets = 't'
	prefixRoster  = 'r'
)

const recordVersion = 1

var errRecord = errors.New("router: malformed record")

// accountRecord is one account, decoded.
type accountRecord struct {
	version uint64 // of the device list, from 1
	next    stanza.Device
	handle  []byte
	devices []deviceRecord // ascending numbers, at most stanza.MaxDevices
	revive  [keySize]byte  // with no device left: the key of the last one, which alone may claim the handle again
}

// deviceRecord is one device; noted is the highest id that the shard has heard of.
type deviceRecord struct {
	number stanza.Device
	noted  uint64
	key    [keySize]byte
}

// device returns the device numbered d, nil if the account has none.
func (a *accountRecord) device(d stanza.Device) *deviceRecord {
	for i := range a.devices {
		if a.devices[i].number == d {
			return &a.devices[i]
		}
	}
	return nil
}

// byKey returns the device with this static key, nil if the account has none.
func (a *accountRecord) byKey(key *[keySize]byte) *deviceRecord {
	for i := range a.devices {
		if a.devices[i].key == *key {
			return &a.devices[i]
		}
	}
	return nil
}

func (a *accountRecord) append(dst []byte) []byte {
	dst = append(dst, recordVersion)
	dst = binary.AppendUvarint(dst, a.version)
	dst = binary.AppendUvarint(dst, uint64(a.next))
	dst = appendText(dst, a.handle)
	dst = append(dst, byte(len(a.devices)))
	for i := range a.devices {
		d := &a.devices[i]
		dst = binary.AppendUvarint(dst, uint64(d.number))
		dst = binary.AppendUvarint(dst, d.noted)
		dst = append(dst, d.key[:]...)
	}
	if len(a.devices) == 0 {
		dst = append(dst, a.revive[:]...)
	}
	return dst
}

// decode reads what append wrote; it keeps nothing of b, and allocates only to grow what a held before. After an error a is undefined.
func (a *accountRecord) decode(b []byte) error {
	if len(b) == 0 || b[0] != recordVersion {
		return fmt.Errorf("%w: account", errRecord)
	}
	r := reader{b: b[1:]}
	a.version, a.next = r.uint(maxUint), stanza.Device(r.uint(maxDevice+1))
	a.handle = append(a.handle[:0], r.text(maxHandle)...)
	n := int(r.uint(stanza.MaxDevices))
	a.devices = slices.Grow(a.devices[:0], n)[:n]
	for i := range a.devices {
		d := &a.devices[i]
		d.number, d.noted = r.device(), r.uint(stanza.MaxID)
		r.fixed(d.key[:])
		if i > 0 && d.number <= a.devices[i-1].number {
			r.fail()
		}
	}
	a.revive = [keySize]byte{}
	if n == 0 {
		r.fixed(a.revive[:])
	}
	if r.bad || len(r.b) != 0 {
		return fmt.Errorf("%w: account", errRecord)
	}
	return nil
}

// inviteRecord is one invite: free until a stamp, then remembered for the key and the handle that redeemed it. They may redeem it
// again, for the invite's shard cannot see whether a registration came of it; since the handle is fixed, one account comes of it at most.
type inviteRecord struct {
	until  int64
	handle string // "": free
	key    [keySize]byte
}

func (i *inviteRecord) append(dst []byte) []byte {
	dst = binary.AppendUvarint(append(dst, recordVersion), uint64(i.until))
	dst = appendText(dst, []byte(i.handle))
	if i.handle != "" {
		dst = append(dst, i.key[:]...)
	}
	return dst
}

func decodeInvite(b []byte) (i inviteRecord, err error) {
	if len(b) == 0 || b[0] != recordVersion {
		return i, fmt.Errorf("%w: invite", errRecord)
	}
	r := reader{b: b[1:]}
	i.until = int64(r.uint(maxStamp))
	if len(r.b) != 1 || r.b[0] != 0 { // else free
		i.handle = string(r.text(maxHandle))
		r.fixed(i.key[:])
	} else {
		r.b = nil
	}
	if r.bad || len(r.b) != 0 {
		return i, fmt.Errorf("%w: invite", errRecord)
	}
	return i, nil
}

func appendAccountKey(dst []byte, a stanza.Account) []byte {
	return binary.BigEndian.AppendUint64(append(dst, prefixAccount), uint64(a))
}

func appendHandleKey(dst, folded []byte) []byte { return append(append(dst, prefixHandle), folded...) }

func inviteKey(digest *[digestSize]byte) []byte { return append([]byte{prefixInvite}, digest[:]...) }

func dropKey(a stanza.Account, d stanza.Device) []byte {
	key := binary.BigEndian.AppendUint64([]byte{prefixDrop}, uint64(a))
	return binary.BigEndian.AppendUint16(key, uint16(d))
}

func parseDropKey(key []byte) (stanza.Account, stanza.Device, bool) {
	if len(key) != 11 || key[0] != prefixDrop {
		return 0, 0, false
	}
	return stanza.Account(binary.BigEndian.Uint64(key[1:])), stanza.Device(binary.BigEndian.Uint16(key[9:])), true
}
