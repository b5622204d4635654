package wire

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"

	"golang.org/x/crypto/chacha20poly1305"

	"linecard.example/internal/stanza"
)

const (
	ticketVersion = 1
	ticketHead    = 1 + 4                                            // version, key
	ticketNonce   = chacha20poly1305.NonceSizeX                      // random: no gateway knows what another has used
	ticketPlain   = 8 + 2 + HashSize + 8 + 8 + KeySize               // what is sealed
	TicketSize    = ticketHead + ticketNonce + ticketPlain + TagSize // of a ticket of this version, in bytes
	// TicketRandom is how many random bytes a ticket takes besides its PSK.
	TicketRandom = ticketNonce
)

// Why a ticket does not open. None of it is the client's fault: the answer is use-XX.
var (
	// ErrTicket: not a ticket of this version, or not sealed with the key that it names.
	ErrTicket = errors.New("wire: not a ticket")
	// ErrTicketKey: sealed with a key that is not known, or not any more.
	ErrTicketKey = errors.New("wire: ticket of an unknown key")
	// ErrTicketExpired: older than its gateway wanted it to become.
	ErrTicketExpired = errors.New("wire: ticket expired")
)

// Ticket lets a device resume: a gateway seals it for itself, the client keeps it unread beside the PSK. Sealed it is
//
//	version   1 byte, 1
//	key       4 bytes, big-endian: the ID of the TicketKey
//	nonce     24 random bytes
//	sealed    XChaCha20-Poly1305 of the fields below in their order, integers big-endian; associated data: version and key
//
// PSK is secret and fresh for every ticket.
type Ticket struct {
	Account stanza.Account // 8 bytes
	Device  stanza.Device  // 2 bytes
	Hash    [HashSize]byte // StaticHash of the device's static key
	Proved  int64          // 8 bytes, unix seconds: when the device last proved that it has the static key, which a resumption does not
	Expiry  int64          // 8 bytes, unix seconds: not valid from then on
	PSK     [KeySize]byte
}

// AppendTicket appends t, sealed with key, to dst. random is used as nonce and must never repeat under one key.
func AppendTicket(dst []byte, key *TicketKey, t *Ticket, random *[TicketRandom]byte) []byte {
	dst = append(dst, ticketVersion)
	dst = binary.BigEndian.AppendUint32(dst, key.ID)
	head := dst[len(dst)-ticketHead:]
	dst = append(dst, random[:]...)
	var buf [ticketPlain]byte
	b := binary.BigEndian.AppendUint64(buf[:0], uint64(t.Account))
	b = binary.BigEndian.AppendUint16(b, uint16(t.Device))
	b = append(b, t.Hash[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(t.Proved))
	b = binary.BigEndian.AppendUint64(b, uint64(t.Expiry))
	b = append(b, t.PSK[:]...)
	dst = ticketCipher(key).Seal(dst, random[:], b, head)
	clear(buf[:])
	return dst
}

// OpenTicket opens a ticket with the one of keys that sealed it, borrowed. now is in unix seconds. Errors: ErrTicket, ErrTicketKey,
// ErrTicketExpired; t is zero then.
func OpenTicket(t *Ticket, keys []TicketKey, sealed []byte, now int64) error {
	*t = Ticket{}
	if len(sealed) != TicketSize || sealed[0] != ticketVersion {
		return ErrTicket
	}
	id := binary.BigEndian.Uint32(sealed[1:])
	for i := range keys {
		if keys[i].ID != id {
			continue
		}
		return t.open(&keys[i], sealed, now)
	}
	return ErrTicketKey
}

func (t *Ticket) open(key *TicketKey, sealed []byte, now int64) error {
	var buf [ticketPlain]byte
	defer clear(buf[:])
	body := sealed[ticketHead:]
	b, err := ticketCipher(key).Open(buf[:0], body[:ticketNonce], body[ticketNonce:], sealed[:ticketHead])
	if err != nil {
		return ErrTicket
	}
	expiry := int64(binary.BigEndian.Uint64(b[34:]))
	if now >= expiry {
		return ErrTicketExpired
	}
	t.Account, t.Device = stanza.Account(binary.BigEndian.Uint64(b)), stanza.Device(binary.BigEndian.Uint16(b[8:]))
	t.Hash = [HashSize]byte(b[10:])
	t.Proved, t.Expiry = int64(binary.BigEndian.Uint64(b[26:])), expiry
	t.PSK = [KeySize]byte(b[42:])
	return nil
}

func ticketCipher(key *TicketKey) cipher.AEAD {
	a, err := chacha20poly1305.NewX(key.Key[:])
	if err != nil {
		panic("wire: " + err.Error()) // as in mustAEAD
	}
	return a
}

// A client is given a ticket together with its PSK: AttrTicket of bound is the PSK and then the ticket, which is the rest.

// AppendTicketValue appends the value of AttrTicket to dst.
func AppendTicketValue(dst []byte, key *TicketKey, t *Ticket, random *[TicketRandom]byte) []byte {
	return AppendTicket(append(dst, t.PSK[:]...), key, t, random)
}

// SplitTicketValue takes the value of AttrTicket apart; ok is false when there is no ticket in it, or a longer one than MaxTicket. ticket is
// a view into value.
func SplitTicketValue(value []byte) (psk [KeySize]byte, ticket []byte, ok bool) {
	if len(value) <= KeySize || len(value) > KeySize+MaxTicket {
		return psk, nil, false
	}
	return [KeySize]byte(value), value[KeySize:], true
}
