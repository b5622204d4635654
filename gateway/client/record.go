package client

import (
	"encoding/binary"
	"errors"

	"linecard.example/internal/stanza"
)

// Kinds of journal records: the first byte of a record's content. Numbers are never reused.
const (
	recIdentity byte = 1 // account, device, handle
	recSend     byte = 2 // an unacked message: id, to, kind, created (ms), device, payload
	recDone     byte = 3 // id: acked, or dead
	recMark     byte = 4 // from, device, id: the last id handled of a received stream
	recContact  byte = 5 // account, handle
	recList     byte = 6 // account, version, devices
	recSynced   byte = 7 // 8 bytes big-endian: the file was synced up to this offset
	recTop      byte = 8 // id: the highest that was ever used
)

// sendKind says what an unacked message is.
type sendKind byte

const (
	sendMessage sendKind = 1
	sendCopy    sendKind = 2 // of a message, for the sender's other devices
	sendRead    sendKind = 3 // a read receipt: payload is packed ids, device is the one that sent them
)

// sendRecord is an unacked message as the Home keeps it.
type sendRecord struct {
	id      uint64
	to      Account
	kind    sendKind
	created int64 // milliseconds since 1970
	device  Device
	payload []byte
}

// deviceList is the device list of an account as last seen.
type deviceList struct {
	version uint64
	devices []stanza.DeviceKey
}

// peer is the sender's half of a received stream.
type peer struct {
	account Account
	device  Device
}

var errRecord = errors.New("client: malformed journal record")

func appendIdentity(dst []byte, i *Identity) []byte {
	dst = append(dst, recIdentity)
	dst = binary.AppendUvarint(dst, uint64(i.Account))
	dst = binary.AppendUvarint(dst, uint64(i.Device))
	return append(dst, i.Handle...)
}

func appendSend(dst []byte, r *sendRecord) []byte {
	dst = append(dst, recSend)
	dst = binary.AppendUvarint(dst, r.id)
	dst = binary.AppendUvarint(dst, uint64(r.to))
	dst = append(dst, byte(r.kind))
	dst = binary.AppendUvarint(dst, uint64(r.created))
	dst = binary.AppendUvarint(dst, uint64(r.device))
	return append(dst, r.payload...)
}

// appendNumber serves the records of one number: recDone and recTop.
func appendNumber(dst []byte, kind byte, id uint64) []byte {
	return binary.AppendUvarint(append(dst, kind), id)
}

func appendMark(dst []byte, p peer, id uint64) []byte {
	dst = binary.AppendUvarint(append(dst, recMark), uint64(p.account))
	dst = binary.AppendUvarint(dst, uint64(p.device))
	return binary.AppendUvarint(dst, id)
}

func appendContact(dst []byte, a Account, handle string) []byte {
	dst = binary.AppendUvarint(append(dst, recContact), uint64(a))
	return append(dst, handle...)
}

func appendList(dst []byte, a Account, l *deviceList) []byte {
	dst = binary.AppendUvarint(append(dst, recList), uint64(a))
	dst = binary.AppendUvarint(dst, l.version)
	return stanza.AppendDevices(dst, l.devices)
}

func appendSynced(dst []byte, offset int64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, recSynced), uint64(offset))
}

// fields takes numbers off a record's content; bad is set by the first that is not there or is out of range.
type fields struct {
	rest []byte
	bad  bool
}

func (f *fields) number(limit uint64) uint64 {
	v, n := binary.Uvarint(f.rest)
	if n <= 0 || v > limit {
		f.bad, f.rest = true, nil
		return 0
	}
	f.rest = f.rest[n:]
	return v
}

func (f *fields) account() Account { return Account(f.number(uint64(stanza.MaxAccount))) }
func (f *fields) device() Device   { return Device(f.number(uint64(stanza.MaxDevice))) }
func (f *fields) id() uint64       { return f.number(stanza.MaxID) }

func (f *fields) octet() byte {
	if len(f.rest) == 0 {
		f.bad = true
		return 0
	}
	b := f.rest[0]
	f.rest = f.rest[1:]
	return b
}

// handle takes the rest as a folded name.
func (f *fields) handle() string {
	h, _, err := foldName(f.rest)
	if err != nil || h != string(f.rest) {
		f.bad = true
	}
	return h
}

// apply changes the state by one record's content, which it copies from. A kind of a newer version is an error: skipping it could
// forget something. Error: errRecord.
func (s *homeState) apply(content []byte) error {
	if len(content) == 0 {
		return errRecord
	}
	f := fields{rest: content[1:]}
	switch content[0] {
	case recIdentity:
		i := Identity{Account: f.account(), Device: f.device()}
		i.Handle = f.handle()
		s.identity = i
	case recSend:
		s.applySend(&f)
	case recDone:
		delete(s.unacked, f.id())
	case recMark:
		p := peer{f.account(), f.device()}
		if id := f.id(); id > s.marks[p] {
			s.marks[p] = id
		}
	case recContact:
		a := f.account()
		s.setContact(a, f.handle())
	case recList:
		a, l := f.account(), deviceList{version: f.id()}
		var err error
		if l.devices, err = (stanza.DeviceList{List: f.rest}).Keys(nil); err != nil {
			return errRecord
		}
		s.setList(a, l)
	case recSynced:
		f.bad = len(f.rest) != 8
	case recTop:
		s.top = max(s.top, f.id())
	default:
		return errRecord
	}
	if f.bad {
		return errRecord
	}
	return nil
}

func (s *homeState) applySend(f *fields) {
	r := &sendRecord{id: f.id(), to: f.account(), kind: sendKind(f.octet())}
	r.created = int64(f.number(maxPayloadTime))
	r.device = f.device()
	r.payload = append([]byte(nil), f.rest...)
	if r.kind < sendMessage || r.kind > sendRead || r.id == 0 {
		f.bad = true
	}
	if !f.bad {
		s.unacked[r.id] = r
		s.top = max(s.top, r.id)
	}
}
